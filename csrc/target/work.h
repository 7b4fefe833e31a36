/* What was done of one export, and for which clients, the same as aoe/target/work.py. Its thread counts; Python may
 * look at any time. Pure. */
#ifndef AOE_WORK_H
#define AOE_WORK_H

#include <stdatomic.h>
#include <stdint.h>

#include "abi.h"
#include "order.h"
#include "shared/wire.h"

struct client {
    _Atomic uint64_t name; /* the MAC, and a byte that says that there is one */
    _Atomic uint64_t numbers[AOE_CLIENT_NUMBERS];
    uint32_t tags[CLIENT_TAGS];
    uint8_t apart[16]; /* two cache lines, and found by a shift */
};

/* Where the clients of all exports are counted. */
struct crowd {
    _Atomic uint32_t count;
    _Atomic uint64_t full_ns; /* when one of them found no room last; CLOCK_BOOTTIME */
};

enum { CLIENT_HINTS = 64 };

struct work {
    _Atomic uint64_t numbers[AOE_EXPORT_NUMBERS];
    _Atomic(struct client *) clients; /* CLIENTS_MAX, from the first one on */
    struct client other;
    uint64_t closed_ns;          /* when one found no place last */
    uint32_t used;               /* places before that had a client */
    uint8_t hints[CLIENT_HINTS]; /* where one was found last, by its name */
};

/* A request of a client that is admitted. */
struct asked {
    const uint8_t *mac;
    uint32_t tag;
    uint32_t direction; /* AOE_CLIENT_READ_BYTES or AOE_CLIENT_WRITTEN_BYTES */
    uint64_t bytes;
};

static inline uint64_t number(const _Atomic uint64_t *at) { return atomic_load_explicit(at, memory_order_relaxed); }

static inline void number_put(_Atomic uint64_t *at, uint64_t now)
{
    atomic_store_explicit(at, now, memory_order_relaxed);
}

static inline void number_add(_Atomic uint64_t *at, uint64_t more) { number_put(at, number(at) + more); }

static inline void work_add(struct work *w, uint32_t what, uint64_t more) { number_add(&w->numbers[what], more); }

/* In which bucket of a histogram a time is counted. */
static inline uint32_t bucket_of(uint64_t ns)
{
    enum { LEAST_BITS = LATENCY_FIRST_BITS - LATENCY_STEP_BITS };
    uint32_t bits = 63 - (uint32_t)__builtin_clzll((ns - (ns != 0)) | (uint64_t)1 << LEAST_BITS);
    uint32_t at = (bits - LEAST_BITS) / LATENCY_STEP_BITS;
    return at < LATENCY_BUCKETS ? at : LATENCY_BUCKETS - 1;
}

/* One more time in the histogram that begins there. */
static inline void work_time(struct work *w, uint32_t what, uint64_t ns)
{
    work_add(w, what + bucket_of(ns), 1);
    work_add(w, what + LATENCY_BUCKETS, ns);
}

/* Requests of one kind that are answered at the same time. */
struct answers {
    uint64_t count, bytes, ns;
};

/* One more of them, so long after it was received. */
static inline void work_answered(struct work *w, struct answers *some, uint64_t bytes, uint64_t ns)
{
    some->count++;
    some->bytes += bytes;
    some->ns += ns;
    work_add(w, AOE_EXPORT_REPLY + bucket_of(ns), 1);
}

/* That was all of them. */
static inline void work_sum_up(struct work *w, enum kind kind, const struct answers *all)
{
    static const uint8_t number_of[] = {
        [K_READ] = AOE_EXPORT_READS, [K_WRITE] = AOE_EXPORT_WRITES, [K_FLUSH] = AOE_EXPORT_FLUSHES};
    work_add(w, number_of[kind], all->count);
    if (kind != K_FLUSH)
        work_add(w, kind == K_READ ? AOE_EXPORT_READ_BYTES : AOE_EXPORT_WRITTEN_BYTES, all->bytes);
    work_add(w, AOE_EXPORT_REPLY + LATENCY_BUCKETS, all->ns);
}

static inline void work_pending(struct work *w, uint64_t now) { number_put(&w->numbers[AOE_EXPORT_QUEUE], now); }

/* One that is new takes a free place, or that of the one that was not heard for longest, unless that was lately. After
 * one that finds none, others do not look for a while. They are counted together, with what was counted of those that
 * have lost their place. Returns its place; CLIENTS_MAX: it has none. */
uint8_t work_asked(struct work *w, struct crowd *c, const struct asked *a, uint64_t now_ns);
/* A client that was not heard lately has no place any more. */
void work_sweep(struct work *w, struct crowd *c, uint64_t now_ns);
/* No client has one; and nothing is left of it for Python to see. */
void work_leave(struct work *w, struct crowd *c);
void work_end(struct work *w);
/* Room for CLIENTS_MAX; how many there are. */
uint32_t work_clients(const struct work *w, aoe_client *clients, uint64_t *other);

#endif
