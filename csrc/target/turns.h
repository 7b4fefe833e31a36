/* Requests that may go to the disk and wait for a place there, the same as aoe/target/turns.py. Pure. */
#ifndef AOE_TURNS_H
#define AOE_TURNS_H

#include <stddef.h>

#include "order.h"
#include "shared/generated.h"

/* The first request of each client, chained by `turn`; those behind it by `link`, up to its `end`. */
struct lines {
    struct op *first, *last;
};

struct turns {
    struct lines now, next;             /* of this round, and of the next */
    uint64_t had[CLIENTS_MAX / 64 + 1]; /* a bit for each client that had its turn in this one */
};

static inline int turns_empty(const struct turns *t) { return !t->now.first && !t->next.first; }

/* It comes last in its client's line. */
void turns_add(struct turns *turns, struct op *op);
/* The first, which there is. */
struct op *turns_take(struct turns *turns);
/* Both at once where nothing waits. */
void turns_pass(struct turns *turns, const struct op *op);

#endif
