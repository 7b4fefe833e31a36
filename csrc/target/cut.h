/* A snapshot of a disk that goes on being written: which changes wait for which ranges, the same rules as
 * aoe/target/cut.py. Pure. */
#ifndef AOE_CUT_H
#define AOE_CUT_H

#include "order.h"

enum { NO_RANGE = -1 };

struct cut {
    uint64_t step;         /* bytes */
    uint32_t count, left;  /* ranges, and those that are not cloned yet */
    uint32_t cursor;       /* no range before it is missing */
    struct op *kept, **tail;
    uint8_t cloned[];
};

/* Whether it may change something: Python judges what is K_UP, and may know of a larger disk than we do. */
static inline int cut_concerns(const struct op *op)
{
    return op->kind == K_WRITE || op->kind == K_UP_CHANGE || op->kind == K_UP;
}

/* NULL where memory is short. */
struct cut *cut_new(uint64_t length, uint64_t step);

/* Whether a change has to wait: it is among those that are let go later. */
int cut_keeps(struct cut *cut, struct op *op);

/* The range that is waited for first, and the first one that is not cloned yet; NO_RANGE. */
int64_t cut_needed(const struct cut *cut);
int64_t cut_following(struct cut *cut);

/* The ranges [first, last) are cloned; or nothing waits any more. What may go now, chained by `link`. */
struct op *cut_has(struct cut *cut, uint32_t first, uint32_t last);
struct op *cut_end(struct cut *cut);

#endif
