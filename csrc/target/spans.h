/* The sectors that a request touches, as aoe/target/order.py counts them. Pure. */
#ifndef AOE_SPANS_H
#define AOE_SPANS_H

#include <assert.h>
#include <stdint.h>

#include "shared/generated.h"

struct span {
    uint64_t first, last; /* sectors [first, last) */
};

/* Of more than SPANS_MAX ranges all that lies between them counts: a comparison must stay short. */
struct spans {
    uint32_t count;
    struct span hull, each[SPANS_MAX];
};

static inline struct span span_rounded(uint64_t lba, uint64_t sectors, uint64_t block_mask)
{
    return (struct span){lba & ~block_mask, (lba + sectors + block_mask) & ~block_mask};
}

static inline void spans_add(struct spans *s, struct span one)
{
    assert(one.first < one.last);
    if (s->count < SPANS_MAX)
        s->each[s->count] = one;
    if (!s->count || one.first < s->hull.first)
        s->hull.first = one.first;
    if (!s->count || one.last > s->hull.last)
        s->hull.last = one.last;
    s->count++;
}

static inline int span_overlap(const struct span *a, const struct span *b)
{
    return a->first < b->last && b->first < a->last;
}

/* One range, or too many: the hull is all that is compared. */
static inline const struct span *spans_compared(const struct spans *s, uint32_t *count)
{
    int is_list = s->count > 1 && s->count <= SPANS_MAX;
    *count = is_list ? s->count : s->count != 0;
    return is_list ? s->each : &s->hull;
}

static inline int spans_overlap(const struct spans *a, const struct spans *b)
{
    uint32_t as, bs;
    const struct span *some = spans_compared(a, &as), *others = spans_compared(b, &bs);
    for (uint32_t i = 0; i < as; i++)
        for (uint32_t k = 0; k < bs; k++)
            if (span_overlap(&some[i], &others[k]))
                return 1;
    return 0;
}

#endif
