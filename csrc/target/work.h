/* What was done of one export, and for which hosts. Its thread counts; Python may look at any time. Pure. */
#ifndef AOE_WORK_H
#define AOE_WORK_H

#include <stdatomic.h>
#include <stdint.h>

#include "abi.h"
#include "shared/wire.h"

struct host {
    _Atomic uint64_t name, requests, heard_ns; /* the MAC, and a byte that says that there is one */
};

struct work {
    _Atomic uint64_t figures[AOE_FIGURES];
    struct host hosts[HOSTS_SHOWN_MAX];
    uint32_t last; /* heard */
};

static inline void work_add(struct work *w, uint32_t what, uint64_t more)
{
    uint64_t now = atomic_load_explicit(&w->figures[what], memory_order_relaxed);
    atomic_store_explicit(&w->figures[what], now + more, memory_order_relaxed);
}

static inline void work_pending(struct work *w, uint64_t now)
{
    atomic_store_explicit(&w->figures[AOE_FIGURE_QUEUE], now, memory_order_relaxed);
}

/* A host asked for something of the disk. Of more than there is room for, the one that was heard last is forgotten
 * last. */
void work_heard(struct work *w, const uint8_t *mac, uint64_t now_ns);
uint32_t work_hosts(const struct work *w, aoe_host *hosts);

#endif
