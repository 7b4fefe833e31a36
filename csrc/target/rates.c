#include "rates.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "shared/wire.h"

enum { SECOND_NS = 1000000000 };

/* One limit: up to when its requests are paid for, and of a nanosecond what is left, in parts of the rate. */
struct meter {
    uint64_t rate, paid_ns, rest;
};

struct pair {
    struct meter requests, bytes;
};

struct rates {
    aoe_limits limits;
    struct pair whole, others, hosts[LIMITED_HOSTS_MAX];
    uint8_t macs[LIMITED_HOSTS_MAX][MAC_BYTES];
    uint32_t count, last; /* hosts, and which of them was looked for last */
};

static struct pair pair(uint64_t iops, uint64_t bytes)
{
    return (struct pair){.requests = {.rate = iops}, .bytes = {.rate = bytes}};
}

static struct pair host(const aoe_limits *l) { return pair(l->client_iops, l->client_bandwidth); }

struct rates *rates_new(const aoe_limits *limits)
{
    struct rates *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->limits = *limits;
    r->whole = pair(limits->iops, limits->bandwidth);
    r->others = host(limits);
    return r;
}

int rates_alike(const struct rates *one, const struct rates *other)
{
    return one && other && !memcmp(&one->limits, &other->limits, sizeof one->limits);
}

static uint64_t later(uint64_t one, uint64_t other) { return one > other ? one : other; }

static uint64_t begins_ns(const struct pair *p, uint64_t burst_ns)
{
    uint64_t paid_ns = later(p->requests.paid_ns, p->bytes.paid_ns);
    return paid_ns > burst_ns ? paid_ns - burst_ns : 0;
}

static void pay(struct meter *m, uint64_t units, uint64_t now_ns)
{
    if (!m->rate)
        return;
    if (m->paid_ns <= now_ns) {
        m->paid_ns = now_ns;
        m->rest = 0;
    }
    assert(units <= UINT64_MAX / SECOND_NS - 1);
    uint64_t cost = units * SECOND_NS + m->rest;
    m->paid_ns += cost / m->rate;
    m->rest = cost % m->rate;
}

static void pay_both(struct pair *p, uint64_t size, uint64_t now_ns)
{
    pay(&p->requests, 1, now_ns);
    pay(&p->bytes, size, now_ns);
}

static int is_full(const struct pair *p, uint64_t now_ns)
{
    return later(p->requests.paid_ns, p->bytes.paid_ns) <= now_ns;
}

static uint32_t place_of(const struct rates *r, const uint8_t *mac)
{
    uint32_t i = 0;
    while (i < r->count && memcmp(r->macs[i], mac, MAC_BYTES))
        i++;
    return i;
}

/* One that is free, or of a host that would begin as it is; else LIMITED_HOSTS_MAX. */
static uint32_t free_place(struct rates *r, uint64_t now_ns)
{
    uint32_t i = 0;
    if (r->count < LIMITED_HOSTS_MAX)
        return r->count++;
    while (i < LIMITED_HOSTS_MAX && !is_full(&r->hosts[i], now_ns))
        i++;
    return i;
}

static struct pair *pair_of(struct rates *r, const uint8_t *mac, uint64_t now_ns)
{
    if (r->last < r->count && !memcmp(r->macs[r->last], mac, MAC_BYTES))
        return &r->hosts[r->last];
    uint32_t i = place_of(r, mac);
    if (i == r->count) {
        i = free_place(r, now_ns);
        if (i == LIMITED_HOSTS_MAX)
            return &r->others;
        memcpy(r->macs[i], mac, MAC_BYTES);
        r->hosts[i] = host(&r->limits);
    }
    r->last = i;
    return &r->hosts[i];
}

uint64_t rates_patience_ns(uint64_t frame_age_ns)
{
    return frame_age_ns / 4 < LIMIT_DELAY_NS ? frame_age_ns / 4 : LIMIT_DELAY_NS;
}

uint64_t rates_begin_ns(struct rates *r, const uint8_t *mac, uint64_t now_ns)
{
    uint64_t whole_ns = begins_ns(&r->whole, r->limits.burst_ns);
    uint64_t host_ns = begins_ns(pair_of(r, mac, now_ns), r->limits.burst_ns);
    return later(now_ns, later(whole_ns, host_ns));
}

void rates_pay(struct rates *r, const uint8_t *mac, uint64_t size, uint64_t now_ns)
{
    pay_both(&r->whole, size, now_ns);
    pay_both(pair_of(r, mac, now_ns), size, now_ns);
}
