#include "waiters.h"

#include <assert.h>

#include "futex.h"

#define LONG_NS 3000000000ll

/* Once it has ended, its thread may have left already: waking by its address does no harm then. */
void waiter_become(struct waiter *w, uint32_t state)
{
    if (atomic_exchange(&w->state, state) == ASLEEP)
        futex(&w->state, FUTEX_WAKE, 1, NULL);
}

/* Until it is appointed, or has ended. */
uint32_t waiter_rest(struct waiter *w)
{
    for (;;) {
        uint32_t state = AWAKE;
        if (!atomic_compare_exchange_strong(&w->state, &state, ASLEEP) && state != ASLEEP)
            return state;
        futex(&w->state, FUTEX_WAIT, ASLEEP, NULL);
    }
}

static void finish(struct shared *s, struct waiter *w)
{
    assert(!w->over && !w->request);
    link_remove(&w->open);
    w->over = 1;
    w->next = s->ended;
    s->ended = w;
}

static void drop(struct shared *s, struct waiter *w, uint32_t outcome, int64_t now_ns)
{
    if (w->request)
        aoe_core_abandon(s->core, w->request, now_ns);
    w->request = NULL;
    w->answer.outcome = outcome;
    finish(s, w);
}

void waiter_put(struct shared *s, struct waiter *w)
{
    w->next = atomic_load(&s->inbox);
    while (!atomic_compare_exchange_weak(&s->inbox, &w->next, w))
        ;
}

/* With the lock */

/* Where the core has no room, it is asked again a little later. */
void waiters_reap(struct shared *s)
{
    aoe_request *r;
    while ((r = aoe_core_done(s->core))) {
        struct waiter *w = (struct waiter *)(uintptr_t)r->user;
        assert(w->request == r && !w->over);
        w->answer = (struct answer){r->outcome, r->status, r->error, r->lba};
        w->request = NULL;
        w->crowded = r->outcome == AOE_ENDED_TOO_MANY;
        aoe_core_free(s->core, r);
        if (!w->crowded)
            finish(s, w);
    }
}

static void begin(struct shared *s, struct waiter *w, int64_t now_ns)
{
    assert(!w->request && !w->over);
    w->crowded = 0;
    w->request = aoe_core_start(s->core, w->verb, w->offset, w->length, w->data, w->length, 0,
                                (uint64_t)(uintptr_t)w, now_ns);
    if (w->request)
        return;
    w->answer.outcome = AOE_ENDED_NO_MEMORY;
    finish(s, w);
}

static struct waiter *inbox_in_order(struct shared *s)
{
    struct waiter *w = atomic_exchange(&s->inbox, NULL), *first = NULL, *next;
    for (; w; w = next) {
        next = w->next;
        w->next = first;
        first = w;
    }
    return first;
}

void waiters_admit(struct shared *s)
{
    struct waiter *w = inbox_in_order(s), *next;
    int64_t now_ns = w ? aoe_remote_now() : 0;
    if (!w)
        return;
    for (; w; w = next) {
        next = w->next;
        link_append(&s->open, &w->open);
        w->since_ns = aoe_core_own_time(s->core, now_ns);
        if (w->until_ns >= 0)
            w->until_ns += w->since_ns;
        if (s->stopped)
            drop(s, w, ASK_CLOSED, now_ns);
        else
            begin(s, w, now_ns);
    }
    aoe_remote_send(s->remote);
    waiters_reap(s);
}

/* A thread that looks twice has left the leader time to take what had arrived. */
static int timed_out(struct waiter *w, int64_t own_ns) { return w->until_ns >= 0 && own_ns >= w->until_ns && w->overdue++; }

void waiters_expire(struct shared *s, int64_t now_ns, int ends)
{
    struct link *next;
    int64_t own_ns = aoe_core_own_time(s->core, now_ns);
    for (struct link *l = s->open.next; l != &s->open; l = next) {
        struct waiter *w = OWNER_OF(l, struct waiter, open);
        next = l->next;
        if (s->stopped || (ends && own_ns - w->since_ns >= LONG_NS))
            drop(s, w, ASK_CLOSED, now_ns);
        else if (timed_out(w, own_ns))
            drop(s, w, ASK_TIMED_OUT, now_ns);
        else if (w->crowded)
            begin(s, w, now_ns);
    }
    aoe_remote_send(s->remote);
    waiters_reap(s);
}
