/* Frames on their way to Python: one bounded queue for all threads. */
#ifndef AOE_HANDED_UP_H
#define AOE_HANDED_UP_H

#include "state.h"

/* 0 where it is full, and counted. */
int hand_up(struct thread *t, const aoe_up *up, const uint8_t *frame);

#endif
