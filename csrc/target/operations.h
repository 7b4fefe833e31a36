/* What is admitted, until it is answered or handed up. */
#ifndef AOE_OPERATIONS_H
#define AOE_OPERATIONS_H

#include "state.h"

/* What one export may have of what all share: never so much that nothing is left for the others. */
static inline uint32_t share(uint32_t left, uint32_t most)
{
    enum { PARTS = 8 };
    return left / PARTS < most ? left / PARTS : most;
}

/* Whether a change that arrived then has waited too long (rule T3). */
static inline int expired(const struct thread *t, uint64_t stamp_ns, uint64_t era)
{
    return era != t->era || stamp_ns > t->now_ns || t->now_ns - stamp_ns > frame_age_ns(t->engine);
}

/* It is its turn. */
void operation_run(struct thread *t, struct op *op);
/* Go on with what the disk has done: whether there was any. */
int operations_completed(struct thread *t);

/* Begin what a limit has delayed, and what can wait and rests, where its time has come; whether there was any. */
int operations_begin(struct thread *t);
/* Let go of what Python is done with. */
void operations_released(struct thread *t, struct export *x);
/* Tell which publications nothing is left of (rule T5). */
void operations_settle(struct thread *t, struct export *x);

#endif
