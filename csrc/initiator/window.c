/* How many requests may be outstanding at a target: as aoe/initiator/window.py has it. */
#include <assert.h>

#include "channel.h"

void window_init(struct window *w, uint32_t most)
{
    w->most = w->threshold = most;
    w->size = most < WINDOW_FIRST ? most : WINDOW_FIRST;
}

void window_limit(struct window *w, uint32_t most)
{
    w->most = most;
    if (w->size > most)
        w->size = most;
}

void window_answered(struct window *w)
{
    w->size += w->size < w->threshold ? 1 : 1 / w->size;
    if (w->size > w->most)
        w->size = w->most;
}

void window_halve(struct window *w)
{
    double least = WINDOW_MIN < w->most ? WINDOW_MIN : w->most;
    w->size = w->size / 2 > least ? w->size / 2 : least;
    w->threshold = w->size;
    assert(w->size > 0 && w->size <= w->most);
}

void window_lost(struct window *w, int64_t now_ns, int64_t round_ns)
{
    if (now_ns >= w->round_ends_ns) {
        w->round_ends_ns = now_ns + round_ns;
        w->lost = 0;
    }
    w->lost++;
    double quarter = w->size / 4;
    if ((double)w->lost > (quarter > 1 ? quarter : 1)) {
        w->lost = -(int64_t)w->most; /* once in a round */
        window_halve(w);
    }
}
