#include "depth.h"

#include <assert.h>

#include "shared/generated.h"

void depth_begin(struct depth *d, uint32_t places)
{
    assert(places);
    uint32_t level = places < DEPTH_FIRST ? places : DEPTH_FIRST;
    *d = (struct depth){.now = places, .places = places, .level = level, .last = DEPTH_NOBODY, .pause = 1};
}

void depth_adapt(struct depth *d, int adapts)
{
    d->adapts = adapts != 0;
    if (adapts)
        return;
    d->shared = 0;
    d->now = d->places;
}

static void begin(struct depth *d) { d->seen = d->full = 0; }

static void share(struct depth *d)
{
    d->shared = 1;
    d->now = d->level;
    d->pause = 1;
    d->pauses = 0;
    begin(d);
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
            share(d);
    }
    d->last = client;
}

/* Less for a moment hurts little, more makes others wait. */
static void turn(struct depth *d)
{
    d->now = d->level;
    if (d->upward) {
        uint32_t pauses = 2 * d->pauses > DEPTH_PAUSE_MIN ? 2 * d->pauses : DEPTH_PAUSE_MIN;
        d->pauses = pauses < DEPTH_PAUSE_MAX ? pauses : DEPTH_PAUSE_MAX;
    }
    d->pause = d->upward ? d->pauses : 1;
    d->upward = !d->upward;
}

static void try_another(struct depth *d)
{
    uint32_t more = d->level + (d->level < 2 ? 1 : d->level / 2);
    if (!d->upward)
        d->now = d->level / 2;
    else
        d->now = more < d->places ? more : d->places;
    if (!d->now || d->now == d->level)
        turn(d);
}

/* Whether it is worth it to have more at the disk, by how many these are and how long one takes then. */
static int worth(uint64_t more, uint64_t more_ns, uint64_t less, uint64_t less_ns)
{
    return more_ns * (more + 2 * less) <= 3 * less_ns * less;
}

static void judge(struct depth *d, uint64_t pace_ns)
{
    int better = d->now > d->level ? worth(d->now, pace_ns, d->level, d->pace_ns)
                                   : !worth(d->level, d->pace_ns, d->now, pace_ns);
    if (!pace_ns || !better) {
        turn(d);
        return;
    }
    d->level = d->now;
    d->pace_ns = pace_ns;
    d->pause = 1;
    d->pauses = 0;
}

/* One long request moves it little. */
static void settle(struct depth *d, uint64_t pace_ns)
{
    uint64_t known = d->pace_ns ? d->pace_ns : pace_ns, least = known - known / 8, most = known + known / 8;
    d->pace_ns = pace_ns < least ? least : pace_ns > most ? most : pace_ns;
}

static void sum_up(struct depth *d, uint64_t pace_ns)
{
    if (d->now != d->level) {
        judge(d, pace_ns);
        return;
    }
    if (!pace_ns)
        return;
    settle(d, pace_ns);
    d->pause -= d->pause > 0;
    if (!d->pause)
        try_another(d);
}

void depth_did(struct depth *d, uint64_t now_ns, uint32_t at_disk)
{
    if (++d->seen <= d->now) { /* what was there before */
        d->began_ns = now_ns;
        return;
    }
    uint32_t samples = 4 * d->now > DEPTH_SAMPLES_MIN ? 4 * d->now : DEPTH_SAMPLES_MIN;
    d->full += 3 * at_disk > 2 * d->now;
    if (d->seen < d->now + samples)
        return;
    sum_up(d, 4 * d->full >= samples ? (now_ns - d->began_ns) / samples : 0);
    begin(d);
}
