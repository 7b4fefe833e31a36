/* Requests that begin later, the first one at the top of a heap. Pure. */
#ifndef AOE_DELAYS_H
#define AOE_DELAYS_H

#include "order.h"

enum { DELAYED_MAX = 8192 };

struct delays {
    uint32_t count;
    struct op *heap[DELAYED_MAX];
};

void delays_add(struct delays *delays, struct op *op);

/* The first, if it is time for that; else NULL. */
struct op *delays_due(struct delays *delays, uint64_t now_ns);

/* For how long there is none; at most so long. */
uint64_t delays_left_ns(const struct delays *delays, uint64_t now_ns, uint64_t most_ns);

#endif
