#include "streams.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { SRC = 6, FEATURE = 25, RESERVED = 34 };

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

void streams_register(struct streams *s, const uint8_t *frame)
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
    }
    if (earlier(known->epoch, frame[FEATURE]))
        known->epoch = frame[FEATURE];
    known->used = ++s->uses;
}

int streams_stale(struct streams *s, const uint8_t *frame)
{
    if (!number_of(frame))
        return 0;
    const struct stream *known = find(s, frame);
    return !known || earlier(frame[FEATURE], known->epoch);
}

void streams_end(struct streams *s)
{
    free(s->all);
    s->all = NULL;
    s->count = 0;
}
