/* Which thread moves the frames: of those that wait for an answer, one leads. It sleeps in the sockets, and gives each
 * of the others its answer; when it has its own, it appoints one of them. So a request that comes alone needs no other
 * thread, and of many that come together each costs one waking. A thread that finds the lock taken leaves the
 * request in the inbox, and the one that holds it sends all that are there at once. While none asks, the keeper leads.
 *
 * aoe_remote_pump and aoe_remote_wait are the leader's, and the latter is called without the lock: of what it looks
 * at, aoe_remote_send and the core change nothing. */
#include "leader.h"

#include <sched.h>

#include "waiters.h"

enum { SPIN_NS = 1000 * SPIN_US };

/* The youngest, because it will have to wait longest. */
static void appoint(struct shared *s)
{
    if (atomic_load(&s->leader) || link_alone(&s->open))
        return;
    struct waiter *w = OWNER_OF(s->open.prev, struct waiter, open);
    s->alone = s->open.next == s->open.prev;
    atomic_store(&s->leader, w);
    waiter_become(w, APPOINTED);
}

/* What came into the inbox while the lock was held is for no other thread. */
void leader_unlock(struct shared *s)
{
    do {
        struct waiter *w = s->ended, *next;
        s->ended = NULL;
        appoint(s);
        pthread_mutex_unlock(&s->lock);
        for (; w; w = next) {
            next = w->next;
            waiter_become(w, ENDED);
        }
        atomic_thread_fence(memory_order_seq_cst);
        if (!atomic_load(&s->inbox) || pthread_mutex_trylock(&s->lock))
            return;
        waiters_admit(s);
    } while (1);
}

/* A thread that waits alone spins for as long as it has lately paid: sleeping costs more than a quick answer takes. With
 * more of them under way there is better use for the processor. */
static void wait_for_frames(struct shared *s, const struct waiter *w)
{
    int spins = s->alone && w != &s->keeper;
    int64_t since_ns = spins ? aoe_remote_now() : 0;
    aoe_remote_wait(s->remote, LOOK_MS, spins ? (uint32_t)(s->spin_ns / 1000) : 0);
    if (spins)
        s->spin_ns = aoe_remote_now() - since_ns < SPIN_NS ? SPIN_NS : s->spin_ns / 2;
}

/* Once around; true where the leader goes on leading. */
int leader_once(struct shared *s, struct waiter *w)
{
    wait_for_frames(s, w);
    if (!s->alone && w != &s->keeper)
        sched_yield();
    pthread_mutex_lock(&s->lock);
    aoe_remote_pump(s->remote);
    waiters_admit(s);
    waiters_reap(s);
    s->alone = s->open.next == s->open.prev;
    int goes_on = !w->over && (w != &s->keeper || link_alone(&s->open)) && !(w == &s->keeper && s->ended);
    if (!goes_on)
        atomic_store(&s->leader, NULL);
    leader_unlock(s);
    return goes_on;
}

void leader_lead(struct shared *s, struct waiter *w)
{
    uint32_t appointed = APPOINTED;
    atomic_compare_exchange_strong(&w->state, &appointed, AWAKE);
    while (leader_once(s, w))
        ;
}

/* It was appointed, and then another thread brought its answer. */
void leader_resign(struct shared *s, struct waiter *w)
{
    if (atomic_load(&s->leader) != w)
        return;
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->leader, NULL);
    leader_unlock(s);
}
