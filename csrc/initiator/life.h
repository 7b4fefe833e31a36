/* Made of aoe/initiator/life.py by `python -m csrc.generate`: change that. */
#ifndef AOE_LIFE_H
#define AOE_LIFE_H

#include <stdint.h>

#include "shared/generated.h"

enum {
    HAPPENS_UNPLUGGED, HAPPENS_SILENT, HAPPENS_SLOW, HAPPENS_UNFIT, HAPPENS_ANOTHER, HAPPENS_CONDEMNED,
    HAPPENS_UNSEEN, HAPPENS_DIFFERENT, HAPPENS_UNSURE, HAPPENS_FIT, HAPPENS_EQUAL, HAPPENS_DOUBTED,
    HAPPENS_TELLS, HAPPENS_ANSWERS, HAPPENS_REPLACED, HAPPENS_CHOSEN, HAPPENINGS
};
enum {
    DO_NOTHING, DO_GIVE_UP, DO_TURN, DO_VOUCH, DO_LOOK, DO_RESIZE, DO_MEASURE, DO_USE, DO_OWN, DO_AGAIN_SOON,
    DO_AGAIN_SLOW, DO_AGAIN_REFUSED, DO_AGAIN_CONDEMNED
};

/* What follows when something happens to a path. There is no row for what cannot happen. */
struct life_row {
    uint8_t is_there, stays, to;
    uint8_t deeds[5]; /* the first DO_NOTHING ends them */
};

extern const struct life_row life_table[PATH_STATES][HAPPENINGS];

/* What users see of a state. */
static inline int life_shown(int state)
{
    static const uint8_t shown[PATH_STATES] = {
        [PATH_CHECKING] = PATH_CHECKING,
        [PATH_USABLE] = PATH_USABLE,
        [PATH_DOWN] = PATH_DOWN,
        [PATH_REFUSED] = PATH_REFUSED,
        [PATH_COMPARED] = PATH_CHECKING,
        [PATH_RETRIED] = PATH_REFUSED,
    };
    return shown[state];
}

#endif
