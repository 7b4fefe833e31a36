/* One thread of the engine. */
#ifndef AOE_THREAD_H
#define AOE_THREAD_H

#include "state.h"

/* Take up what was published of an export. */
void thread_adopt(struct thread *t, struct export *x);
void *thread_run(void *thread);
void thread_pass(struct thread *t);

#endif
