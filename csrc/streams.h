/* Which writes of an initiator may still be carried out (order rule T9), as aoe/target/streams.py. Pure. */
#ifndef AOE_STREAMS_H
#define AOE_STREAMS_H

#include <stdint.h>

enum { STREAMS_MAX = 256, REPLAY_WINDOW = 1024 };

struct stream {
    uint8_t mac[6];
    uint16_t number;
    uint8_t epoch;
    uint32_t newest; /* tag; and which of the window before it were seen, by tag modulo the window */
    uint64_t seen[REPLAY_WINDOW / 64];
    uint64_t used;
};

/* The initiators of one export; the table is made when the first one registers. */
struct streams {
    struct stream *all;
    uint32_t count, last;
    uint64_t uses;
};

/* By an ATA request that is an IDENTIFY, or a write or a FLUSH that is carried out: `changes`. */
void streams_register(struct streams *s, const uint8_t *frame, int changes);
/* Whether a frame belongs to a stream. */
int streams_has(const uint8_t *frame);
/* Whether a write or a FLUSH must not be carried out any more. */
int streams_stale(struct streams *s, const uint8_t *frame);
void streams_end(struct streams *s);

#endif
