/* The thread that leads while no other asks, and looks after what time brings. */
#ifndef AOE_KEEPER_H
#define AOE_KEEPER_H

#include "state.h"

int keeper_start(struct shared *s); /* negative errno */
/* It has ended when this returns, and all threads that still waited were told so. */
void keeper_stop(struct shared *s);

#endif
