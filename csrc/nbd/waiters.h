/* Threads that wait for the answers to their requests. */
#ifndef AOE_WAITERS_H
#define AOE_WAITERS_H

#include "state.h"

/* Into the inbox, from any thread. */
void waiter_put(struct shared *s, struct waiter *w);
/* Sleep until it is appointed, or has ended: which of the two. */
uint32_t waiter_rest(struct waiter *w);
void waiter_become(struct waiter *w, uint32_t state);

/* With the lock: begin what is in the inbox; see what has ended; and give up what took too long, or all that took long
 * where it `ends`, or all where it has stopped. */
void waiters_admit(struct shared *s);
void waiters_reap(struct shared *s);
void waiters_expire(struct shared *s, int64_t now_ns, int ends);

#endif
