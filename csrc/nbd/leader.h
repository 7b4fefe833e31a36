/* The thread that moves the frames. */
#ifndef AOE_LEADER_H
#define AOE_LEADER_H

#include "state.h"

/* Give up the lock, appoint a leader where there is none, and tell the threads whose requests have ended. */
void leader_unlock(struct shared *s);
/* Lead until its own answer is there. */
void leader_lead(struct shared *s, struct waiter *w);
/* The same once around: whether it goes on. */
int leader_once(struct shared *s, struct waiter *w);
/* Leave the lead to another thread, if it is this one's. */
void leader_resign(struct shared *s, struct waiter *w);

#endif
