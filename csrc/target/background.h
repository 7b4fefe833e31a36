/* Clients of an export that say that what they ask for can wait while others ask, the same as
 * aoe/target/background.py, which says why. Pure. */
#ifndef AOE_BACKGROUND_H
#define AOE_BACKGROUND_H

#include <stdatomic.h>
#include <stdint.h>

#include "shared/generated.h"

struct background {
    uint32_t count;
    uint8_t macs[BACKGROUND_MAX][MAC_BYTES]; /* the one that said so first comes first */
};

/* A client said whether what it asks for can wait. */
void background_says(struct background *background, const uint8_t *mac, int can_wait);
int background_knows(const struct background *background, const uint8_t *mac);

static inline int background_has(const struct background *b, const uint8_t *mac)
{
    return b->count && background_knows(b, mac);
}

/* Of all exports: how many such requests may be at the disk of each, where it is more than one. */
static inline uint32_t leeway(const _Atomic uint32_t *now) { return atomic_load_explicit(now, memory_order_relaxed); }

/* Another client asks for something. */
static inline void leeway_end(_Atomic uint32_t *now)
{
    if (leeway(now)) /* threads share it: it is written only where it changes */
        atomic_store_explicit(now, 0, memory_order_relaxed);
}

/* A disk has done one of such requests; whether others asked for something since the last one. */
static inline int leeway_grow(_Atomic uint32_t *now, uint32_t most)
{
    uint32_t last = leeway(now);
    if (last < most)
        atomic_store_explicit(now, last + 1, memory_order_relaxed);
    return !last;
}

/* Until when (CLOCK_BOOTTIME) no more of such requests of an export begin; 0: they do. */
struct rest {
    uint64_t until_ns, ended_ns;
    struct rest *next; /* of those that are not over */
};

/* The disk has done one; where others asked meanwhile it rests, as one of these. */
void rest_ended(struct rest *rest, struct rest **resting, uint64_t began_ns, uint64_t now_ns, int others_asked);
/* One of them that is over, and none of them any more; else NULL. */
struct rest *rests_due(struct rest **resting, uint64_t now_ns);
/* For how long there is none; at most so long. */
uint64_t rests_left_ns(const struct rest *resting, uint64_t now_ns, uint64_t most_ns);

#endif
