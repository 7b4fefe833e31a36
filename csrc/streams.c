#include "streams.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { SRC = 6, TAG = 20, FEATURE = 25, RESERVED = 34 };
#define TAG_MASK 0x7FFFFFFFu
#define HALF_OF_TAGS 0x40000000u

static uint16_t number_of(const uint8_t *frame)
{
    return (uint16_t)(frame[RESERVED] << 8 | frame[RESERVED + 1]);
}

int streams_has(const uint8_t *frame) { return number_of(frame) != 0; }

static int earlier(uint8_t one, uint8_t other)
{
    uint8_t ahead = (uint8_t)(other - one);
    return ahead > 0 && ahead < 128;
}

/* Tags: each transmission of our initiator has the next one. */

static uint32_t tag_of(const uint8_t *frame)
{
    return (uint32_t)frame[TAG] << 24 | (uint32_t)frame[TAG + 1] << 16 | (uint32_t)frame[TAG + 2] << 8 | frame[TAG + 3];
}

static uint64_t *word_of(struct stream *known, uint32_t tag) { return &known->seen[tag % REPLAY_WINDOW / 64]; }

static uint64_t bit_of(uint32_t tag) { return 1ull << tag % 64; }

/* Whether a frame was here already, or is so far behind that it may have been. */
static int repeats(struct stream *known, uint32_t tag)
{
    uint32_t behind = (known->newest - tag) & TAG_MASK;
    return behind < HALF_OF_TAGS && (behind >= REPLAY_WINDOW || *word_of(known, tag) & bit_of(tag));
}

static void see(struct stream *known, uint32_t tag)
{
    uint32_t ahead = (tag - known->newest) & TAG_MASK;
    if (ahead < HALF_OF_TAGS) {
        if (ahead >= REPLAY_WINDOW)
            memset(known->seen, 0, sizeof known->seen);
        for (uint32_t i = 1; i < ahead && ahead < REPLAY_WINDOW; i++)
            *word_of(known, known->newest + i) &= ~bit_of(known->newest + i);
        known->newest = tag;
    }
    *word_of(known, tag) |= bit_of(tag);
}

static struct stream *find(struct streams *s, const uint8_t *frame)
{
    uint16_t number = number_of(frame);
    for (uint32_t i = 0; i < s->count; i++) {
        uint32_t at = (s->last + i) % s->count; /* mostly it is who was here before */
        if (s->all[at].number == number && !memcmp(s->all[at].mac, frame + SRC, 6)) {
            s->last = at;
            return &s->all[at];
        }
    }
    return NULL;
}

/* A free place, or that of who was not heard for longest. */
static struct stream *place(struct streams *s)
{
    if (!s->all)
        s->all = calloc(STREAMS_MAX, sizeof *s->all);
    if (!s->all)
        return NULL;
    if (s->count < STREAMS_MAX)
        return &s->all[s->count++];
    struct stream *oldest = s->all;
    for (uint32_t i = 1; i < s->count; i++)
        if (s->all[i].used < oldest->used)
            oldest = &s->all[i];
    return oldest;
}

void streams_register(struct streams *s, const uint8_t *frame, int changes)
{
    if (!number_of(frame))
        return;
    struct stream *known = find(s, frame);
    if (!known) {
        known = place(s);
        if (!known)
            return;
        memcpy(known->mac, frame + SRC, 6);
        known->number = number_of(frame);
        known->epoch = frame[FEATURE];
        known->newest = tag_of(frame);
        memset(known->seen, 0, sizeof known->seen);
        *word_of(known, known->newest) |= bit_of(known->newest);
    }
    if (changes)
        see(known, tag_of(frame));
    if (earlier(known->epoch, frame[FEATURE]))
        known->epoch = frame[FEATURE];
    known->used = ++s->uses;
}

int streams_stale(struct streams *s, const uint8_t *frame)
{
    if (!number_of(frame))
        return 0;
    struct stream *known = find(s, frame);
    return !known || earlier(frame[FEATURE], known->epoch) || repeats(known, tag_of(frame));
}

void streams_end(struct streams *s)
{
    free(s->all);
    s->all = NULL;
    s->count = 0;
}
