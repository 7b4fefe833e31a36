#include "streams.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "parse.h"

#define HALF_OF_TAGS (USER_TAG / 2)

_Static_assert(REPLAY_WINDOW % 64 == 0, "the window is whole words");
_Static_assert(sizeof((aoe_stream){0}.seen) == REPLAY_WINDOW / 8, "the next life knows the same window");
_Static_assert((TAG_MASK + 1u) % REPLAY_WINDOW == 0, "a tag keeps its bit where tags begin anew");
_Static_assert(REPLAY_WINDOW < HALF_OF_TAGS, "what is behind the window is behind the latest tag");

static int has_data(uint8_t opcode)
{
    return opcode != IDENTIFY_DEVICE && opcode != FLUSH_CACHE && opcode != FLUSH_CACHE_EXT;
}

const uint8_t *streams_instance(const uint8_t *frame, size_t length)
{
    const struct wire_registers *asked = &wire_of(frame)->ata;
    size_t at = ATA_HEADER + (has_data(asked->opcode) ? asked->count * (size_t)SECTOR : 0);
    int may = wire_tag(frame) & USER_TAG && length >= at + STAMP_TRAILER;
    return may && !memcmp(frame + at, STREAM_SIGNATURE, SIGNATURE_BYTES) ? frame + at + SIGNATURE_BYTES : NULL;
}

static uint16_t number_of(const uint8_t *frame) { return wire_big16(wire_of(frame)->ata.stream); }

static uint8_t epoch_of(const uint8_t *frame)
{
    const struct wire_registers *asked = &wire_of(frame)->ata;
    return asked->opcode == DATA_SET_MANAGEMENT ? asked->lba[0] : asked->feature;
}

static int earlier(uint8_t one, uint8_t other)
{
    uint8_t ahead = (uint8_t)(other - one);
    return ahead > 0 && ahead < 128;
}

/* Tags: each transmission of our initiator has the next one. */

static uint64_t *word_of(struct stream *known, uint32_t tag) { return &known->seen[tag % REPLAY_WINDOW / 64]; }

static uint64_t bit_of(uint32_t tag) { return 1ull << tag % 64; }

static int is_ahead(const struct stream *known, uint32_t tag)
{
    return ((tag - known->newest) & TAG_MASK) - 1 < HALF_OF_TAGS - 1;
}

/* Whether a frame is so far behind that it may have been here. */
static int lags(const struct stream *known, uint32_t tag)
{
    return !is_ahead(known, tag) && ((known->newest - tag) & TAG_MASK) >= REPLAY_WINDOW;
}

/* Whether a frame was here already, or may have been. */
static int repeats(struct stream *known, uint32_t tag)
{
    return lags(known, tag) || (!is_ahead(known, tag) && *word_of(known, tag) & bit_of(tag));
}

static void see(struct stream *known, uint32_t tag)
{
    uint32_t ahead = (tag - known->newest) & TAG_MASK;
    if (is_ahead(known, tag)) {
        if (ahead >= REPLAY_WINDOW)
            memset(known->seen, 0, sizeof known->seen);
        for (uint32_t i = 1; i < ahead && ahead < REPLAY_WINDOW; i++)
            *word_of(known, known->newest + i) &= ~bit_of(known->newest + i);
        known->newest = tag & TAG_MASK;
    }
    *word_of(known, tag) |= bit_of(tag);
    assert(repeats(known, tag)); /* it is carried out once */
}

static struct stream *find(struct streams *s, const uint8_t *frame)
{
    uint16_t number = number_of(frame);
    assert(s->count <= STREAMS_MAX && (s->all || !s->count));
    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t at = (s->last + i) % s->count; /* mostly it is the stream of the frame before */
        if (s->all[at].number == number && same_mac(s->all[at].mac, wire_of(frame)->src)) {
            s->last = at;
            return &s->all[at];
        }
    }
    return NULL;
}

/* A free place, or that of the one that was not heard for longest, if nothing of it can be under way. */
static struct stream *place(struct streams *s, uint64_t since_ns)
{
    if (!s->all)
        s->all = calloc(STREAMS_MAX, sizeof *s->all);
    if (!s->all)
        return NULL;
    if (s->count < STREAMS_MAX)
        return &s->all[s->count++];
    struct stream *oldest = s->all;
    for (uint32_t i = 1; i < s->count; i++)
        if (s->all[i].heard_ns < oldest->heard_ns)
            oldest = &s->all[i];
    return oldest->heard_ns < since_ns ? oldest : NULL;
}

/* What was sent before it registered is none of its own: all seen. */
static void begin(struct stream *known, const uint8_t *frame, uint64_t heard_ns)
{
    memcpy(known->mac, wire_of(frame)->src, MAC_BYTES);
    known->number = number_of(frame);
    known->epoch = epoch_of(frame);
    known->newest = wire_tag(frame) & TAG_MASK;
    memset(known->seen, 0xFF, sizeof known->seen);
    known->heard_ns = heard_ns;
    known->forged = 0;
    assert(repeats(known, wire_tag(frame)));
}

static void hear(struct stream *known, uint64_t heard_ns)
{
    if (heard_ns > known->heard_ns)
        known->heard_ns = heard_ns;
}

/* Whether another host ended a stream of this one; told once. */
static int takes_forged(struct streams *s, const uint8_t *mac)
{
    int found = 0;
    for (uint32_t i = 0; i < s->count; i++)
        if (s->all[i].forged && same_mac(s->all[i].mac, mac)) {
            s->all[i].forged = 0;
            found = 1;
        }
    return found;
}

int streams_place(struct streams *s, const uint8_t *frame)
{
    struct stream *known = find(s, frame);
    if (!known)
        return STREAM_NONE;
    int over = earlier(epoch_of(frame), known->epoch) || lags(known, wire_tag(frame));
    return over ? STREAM_OVER : STREAM_KNOWN;
}

int streams_register(struct streams *s, const uint8_t *frame, uint64_t heard_ns, uint64_t since_ns)
{
    struct stream *known = find(s, frame);
    if (known) {
        hear(known, heard_ns);
        return streams_place(s, frame);
    }
    known = place(s, since_ns);
    if (!known)
        return STREAM_NONE;
    begin(known, frame, heard_ns);
    return takes_forged(s, wire_of(frame)->src) ? STREAM_ANEW : STREAM_KNOWN;
}

void streams_see(struct streams *s, const uint8_t *frame, uint64_t heard_ns)
{
    struct stream *known = find(s, frame);
    assert(known && !earlier(epoch_of(frame), known->epoch)); /* it was not stale */
    if (earlier(known->epoch, epoch_of(frame)))
        known->epoch = epoch_of(frame);
    see(known, wire_tag(frame));
    hear(known, heard_ns);
}

int streams_stale(struct streams *s, const uint8_t *frame)
{
    struct stream *known = find(s, frame);
    if (!known)
        return 1;
    int over = earlier(epoch_of(frame), known->epoch);
    known->forged |= over && is_ahead(known, wire_tag(frame));
    return over || repeats(known, wire_tag(frame));
}

void streams_clock_stepped(struct streams *s, uint64_t now_ns)
{
    for (uint32_t i = 0; i < s->count; i++)
        s->all[i].heard_ns = now_ns;
}

static struct stream adopted(const aoe_stream *left, uint64_t now_ns)
{
    struct stream known = {.number = left->number,
                           .epoch = left->epoch,
                           .forged = left->forged,
                           .newest = left->newest & TAG_MASK,
                           .heard_ns = now_ns};
    memcpy(known.mac, left->mac, MAC_BYTES);
    memcpy(known.seen, left->seen, sizeof known.seen);
    *word_of(&known, known.newest) |= bit_of(known.newest);
    return known;
}

int streams_adopt(struct streams *s, const aoe_stream *left, uint32_t count, uint64_t now_ns)
{
    assert(!s->count && count <= STREAMS_MAX);
    s->all = count ? calloc(STREAMS_MAX, sizeof *s->all) : NULL;
    if (count && !s->all)
        return -ENOMEM;
    for (; s->count < count; s->count++)
        s->all[s->count] = adopted(&left[s->count], now_ns);
    return 0;
}

uint32_t streams_leave(const struct streams *s, aoe_stream *left)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct stream *known = &s->all[i];
        left[i] = (aoe_stream){
            .number = known->number, .epoch = known->epoch, .forged = known->forged, .newest = known->newest};
        memcpy(left[i].mac, known->mac, MAC_BYTES);
        memcpy(left[i].seen, known->seen, sizeof left[i].seen);
    }
    return s->count;
}

void streams_end(struct streams *s)
{
    free(s->all);
    s->all = NULL;
    s->count = 0;
}
