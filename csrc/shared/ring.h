/* A packet socket's receive ring (TPACKET_V2) and its replies on the way out. */
#ifndef AOE_RING_H
#define AOE_RING_H

#include <stddef.h>
#include <stdint.h>

struct ring {
    int fd;
    uint8_t *map;
    size_t map_length;
    uint32_t block, slot, slots, head;
    uint32_t frame_max;
    int strange; /* it is not known yet where the kernel goes on */
};

struct arrival {
    const uint8_t *frame;
    uint32_t length;
    uint64_t stamp_ns;
    int for_us; /* not sent to another host, not cut off, no longer than the ring is for */
};

/* Make a ring of `slots` frames of up to `frame_max` bytes. Bind the socket later: Linux (seen with 6.18) passes nothing
 * to one that is bound already where its interface comes up meanwhile, until that goes down. Negative errno; the ring
 * ends with the socket. */
int ring_make(int fd, uint32_t frame_max, uint32_t slots);
/* Map one that was made with the same numbers. What `was_used` by another process has what came meanwhile. */
int ring_open(struct ring *ring, int fd, uint32_t frame_max, uint32_t slots, int was_used);
void ring_close(struct ring *ring);

/* Let the kernel pass only requests for these shelves that belong to thread `index` of `threads`;
 * wildcards belong to thread 0. Owner of an address: ring_owner. */
int ring_filter(int fd, const uint16_t *shelves, uint32_t count, uint32_t index, uint32_t threads);
/* Let it pass nothing. */
int ring_filter_all(int fd);
uint32_t ring_owner(uint16_t shelf, uint8_t slot, uint32_t threads);
/* Let it pass only replies of these addresses (shelf << 8 | slot); of any, if there are too many. */
int ring_filter_replies(int fd, const uint32_t *address, uint32_t count);

/* Frames for which there was no room, since this was last asked. */
uint32_t ring_lost(const struct ring *ring);

int ring_ready(struct ring *ring);
struct arrival ring_peek(const struct ring *ring); /* only if it is ready */
void ring_next(struct ring *ring);                 /* give the slot back */

#endif
