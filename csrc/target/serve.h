/* From a frame to its reply. */
#ifndef AOE_SERVE_H
#define AOE_SERVE_H

#include "state.h"

void serve_frame(struct thread *t, uint32_t port, const struct arrival *a);
int serve_completions(struct thread *t);
void serve_released(struct thread *t, struct export *x);
/* Tell which publications nothing is left of (rule T5). */
void settle(struct thread *t, struct export *x);

#endif
