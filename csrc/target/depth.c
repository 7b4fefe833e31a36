#include "depth.h"

#include <assert.h>

#include "shared/generated.h"

static uint32_t log_of(uint64_t ns)
{
    if (ns < 1 << OCTAVE_BITS)
        ns = 1 << OCTAVE_BITS;
    uint32_t bits = 63 - (uint32_t)__builtin_clzll(ns);
    return bits << OCTAVE_BITS | (uint32_t)(ns >> (bits - OCTAVE_BITS) & ((1 << OCTAVE_BITS) - 1));
}

void depth_begin(struct depth *d, uint32_t places)
{
    assert(places);
    uint32_t level = places < DEPTH_FIRST ? places : DEPTH_FIRST;
    *d = (struct depth){.now = places, .places = places, .level = level, .last = DEPTH_NOBODY};
}

void depth_adapt(struct depth *d, int adapts)
{
    d->adapts = adapts != 0;
    if (adapts)
        return;
    d->shared = 0;
    d->now = d->places;
}

static void begin(struct depth *d, uint64_t now_ns)
{
    d->began_ns = now_ns;
    d->seen = d->count = 0;
    d->sum = 0;
}

static void share(struct depth *d, uint64_t now_ns)
{
    d->shared = 1;
    d->now = d->level;
    d->pause = d->pauses = 1;
    begin(d, now_ns);
}

void depth_asks_another(struct depth *d, uint8_t client, uint64_t now_ns)
{
    if (client == d->last) {
        if (now_ns - d->changed_ns < SHARED_NS)
            return;
        d->shared = 0;
        d->now = d->places;
        return;
    }
    if (d->last != DEPTH_NOBODY && now_ns - d->asked_ns < SHARED_NS) {
        d->changed_ns = now_ns;
        if (!d->shared)
            share(d, now_ns);
    }
    d->last = client;
}

static void turn(struct depth *d)
{
    d->upward = !d->upward;
    d->pauses = 2 * d->pauses < DEPTH_PAUSE_MAX ? 2 * d->pauses : DEPTH_PAUSE_MAX;
    d->pause = d->pauses;
}

static void try_another(struct depth *d)
{
    uint32_t other = d->upward ? 2 * d->level : d->level / 2;
    if (other && other <= d->places)
        d->now = other;
    else
        turn(d);
}

static void judge(struct depth *d, uint32_t mean)
{
    int deeper = d->now > d->level;
    int32_t longer = (int32_t)(deeper ? mean - d->mean : d->mean - mean);
    if (mean && deeper == (longer < WORTH)) {
        d->level = d->now;
        d->mean = mean;
        d->pause = d->pauses = 1;
    } else {
        turn(d);
    }
    d->now = d->level;
}

static void sum_up(struct depth *d, uint32_t mean)
{
    if (d->now != d->level) {
        judge(d, mean);
        return;
    }
    d->mean = mean;
    d->pause -= d->pause > 0;
    if (mean && !d->pause)
        try_another(d);
}

void depth_took(struct depth *d, uint64_t begun_ns, uint64_t now_ns, uint32_t at_disk)
{
    if (begun_ns <= d->began_ns)
        return;
    uint32_t samples = 2 * d->now > DEPTH_SAMPLES_MIN ? 2 * d->now : DEPTH_SAMPLES_MIN;
    if (++d->seen > samples && at_disk >= d->now) { /* as many as are tried, and for long enough */
        d->count++;
        d->sum += log_of(now_ns - begun_ns);
    }
    if (d->seen < 2 * samples)
        return;
    sum_up(d, 2 * d->count >= samples ? (uint32_t)((d->sum << MEAN_BITS) / d->count) : 0);
    begin(d, now_ns);
}
