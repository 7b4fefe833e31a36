/* From a frame to its place in the order. */
#ifndef AOE_SERVE_H
#define AOE_SERVE_H

#include "state.h"

void serve_frame(struct thread *t, uint32_t port, const struct arrival *a);

#endif
