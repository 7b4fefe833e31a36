/* How many requests of an export are at its disk at a time, the same as aoe/target/depth.py, which says why. Pure. */
#ifndef AOE_DEPTH_H
#define AOE_DEPTH_H

#include <stdint.h>

enum { DEPTH_NOBODY = 0xFF };

struct depth {
    uint32_t now; /* of so many places */
    uint32_t places, level;
    uint8_t adapts, shared, upward, last; /* the client that asked last */
    uint32_t pause, pauses;
    uint32_t seen, full;
    uint64_t pace_ns; /* at the level; 0: not known */
    uint64_t began_ns, asked_ns, changed_ns;
};

void depth_begin(struct depth *depth, uint32_t places);
/* Whether there are fewer while clients share the disk; else all places are used again. */
void depth_adapt(struct depth *depth, int adapts);

/* The slow way of what follows. */
void depth_asks_another(struct depth *depth, uint8_t client, uint64_t now_ns);
void depth_did(struct depth *depth, uint64_t now_ns, uint32_t at_disk);

/* A request of a client is admitted; CLOCK_BOOTTIME. */
static inline void depth_asks(struct depth *d, uint8_t client, uint64_t now_ns)
{
    if (d->adapts && (d->shared || client != d->last))
        depth_asks_another(d, client, now_ns);
    d->asked_ns = now_ns;
}

/* The disk has done one of so many reads and writes that were there. */
static inline void depth_ended(struct depth *d, uint64_t now_ns, uint32_t at_disk)
{
    if (d->shared)
        depth_did(d, now_ns, at_disk);
}

#endif
