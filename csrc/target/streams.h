/* Which writes of an initiator may still be carried out (order rule T9), as aoe/target/streams.py. Pure. */
#ifndef AOE_STREAMS_H
#define AOE_STREAMS_H

#include <stddef.h>
#include <stdint.h>

#include "abi.h"
#include "shared/wire.h"

struct stream {
    uint8_t mac[6];
    uint16_t number;
    uint8_t epoch;
    uint8_t forged; /* another host sent what ended its epoch: its own frames go on in an earlier one */
    uint32_t newest; /* tag; and which of the window before it were seen, by tag modulo the window */
    uint64_t seen[REPLAY_WINDOW / 64];
    uint64_t heard_ns;
};

/* The initiators of one export; the table is made when the first one registers. */
struct streams {
    struct stream *all;
    uint32_t count, last;
};

/* The id that an ATA request names in its trailer; NULL: it is not one of ours. */
const uint8_t *streams_instance(const uint8_t *frame, size_t length);
/* What an IDENTIFY comes to that names its stream: STREAM_KNOWN, STREAM_ANEW where the last one of its host was
 * forged, STREAM_OVER where it is known in a later epoch, or STREAM_NONE: there is no place where all were heard since
 * `since_ns`. Times are those at which the kernel received frames. */
int streams_register(struct streams *s, const uint8_t *frame, uint64_t heard_ns, uint64_t since_ns);
/* The same of one that makes no stream known. */
int streams_place(struct streams *s, const uint8_t *frame);
/* Whether a write or a FLUSH must not be carried out any more; and one that is carried out. */
int streams_stale(struct streams *s, const uint8_t *frame);
void streams_see(struct streams *s, const uint8_t *frame, uint64_t heard_ns);
/* It is not known how long ago anything was: count from now on. */
void streams_clock_stepped(struct streams *s, uint64_t now_ns);
/* Go on with what an earlier life of the target left, and leave it to the next: how many. -ENOMEM. */
int streams_adopt(struct streams *s, const aoe_stream *left, uint32_t count, uint64_t now_ns);
uint32_t streams_leave(const struct streams *s, aoe_stream *left);
void streams_end(struct streams *s);

#endif
