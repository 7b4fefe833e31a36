/* From an address to the export that a thread has there. */
#ifndef AOE_TABLE_H
#define AOE_TABLE_H

#include "state.h"

int table_make(struct thread *t); /* negative errno */
/* The export of this thread at an address; NULL: there is none. */
struct export *table_find(const struct thread *t, uint16_t shelf, uint8_t slot);
void table_add(struct thread *t, const struct export *x);
/* Without what goes, which happens rarely. */
void table_refill(struct thread *t);

static inline int thread_owns(const struct thread *t, const struct export *x)
{
    return atomic_load_explicit(&x->owner, memory_order_acquire) == t->index;
}

static inline int is_gone(const struct export *x) { return (x->now->flags & AOE_GONE) != 0; }

#endif
