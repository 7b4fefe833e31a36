#include "work.h"

#include <string.h>

static uint64_t name_of(const uint8_t *mac)
{
    uint8_t bytes[sizeof(uint64_t)] = {[MAC_BYTES] = 1};
    uint64_t name;
    memcpy(bytes, mac, MAC_BYTES);
    memcpy(&name, bytes, sizeof name);
    return name;
}

static uint64_t look(const _Atomic uint64_t *at) { return atomic_load_explicit(at, memory_order_relaxed); }
static void put(_Atomic uint64_t *at, uint64_t now) { atomic_store_explicit(at, now, memory_order_relaxed); }

/* Its place, or the one that it gets: a free one, or that of the host that was heard longest ago. */
static uint32_t place_of(const struct work *w, uint64_t name)
{
    uint32_t oldest = 0;
    for (uint32_t i = 0; i < HOSTS_SHOWN_MAX; i++) {
        uint64_t there = look(&w->hosts[i].name);
        if (there == name || !there)
            return i;
        if (look(&w->hosts[i].heard_ns) < look(&w->hosts[oldest].heard_ns))
            oldest = i;
    }
    return oldest;
}

void work_heard(struct work *w, const uint8_t *mac, uint64_t now_ns)
{
    uint64_t name = name_of(mac);
    struct host *h = &w->hosts[w->last];
    if (look(&h->name) != name) {
        w->last = place_of(w, name);
        h = &w->hosts[w->last];
        if (look(&h->name) != name)
            put(&h->requests, 0);
        put(&h->name, name);
    }
    put(&h->requests, look(&h->requests) + 1);
    put(&h->heard_ns, now_ns);
}

uint32_t work_hosts(const struct work *w, aoe_host *hosts)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < HOSTS_SHOWN_MAX; i++) {
        uint64_t name = look(&w->hosts[i].name);
        if (!name)
            continue;
        memcpy(hosts[count].mac, &name, MAC_BYTES);
        hosts[count].requests = look(&w->hosts[i].requests);
        hosts[count++].heard_ns = look(&w->hosts[i].heard_ns);
    }
    return count;
}
