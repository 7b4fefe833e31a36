/* Which thread moves the frames: of those that wait for an answer, one leads. It sleeps in the sockets, and gives each
 * of the others its answer; when it has its own, it appoints one of them. So a request that comes alone needs no other
 * thread, and of many that come together each costs one waking. A thread that finds the lock taken leaves the
 * request in the inbox, and the one that holds it sends all that are there at once. While none asks, the keeper leads.
 *
 * aoe_remote_pump and aoe_remote_wait are the leader's, and the latter is called without the lock: of what it looks
 * at, aoe_remote_send and the core change nothing. */
#include "shared.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shared/list.h"

enum { REST_MS = 10, LOOK_MS = 100, LEAVE_MS = 1000, SPIN_NS = 1000 * SPIN_US };
#define LONG_NS 3000000000ll
enum { AWAKE, ASLEEP, APPOINTED, ENDED };

struct waiter {
    struct waiter *next; /* in the inbox, or among those that have ended */
    struct link open;
    uint32_t verb;
    int over, crowded, overdue;
    uint64_t offset, length;
    uint8_t *data;
    aoe_request *request;
    int64_t since_ns, until_ns; /* by the core's own time; until_ns negative: for ever */
    struct answer answer;
    _Atomic uint32_t state;
};

struct fencing {
    struct shared *shared;
    aoe_way way;
    int runs;
    int64_t after_ns;
};

struct shared {
    struct shared_settings set;
    aoe_core *core;
    aoe_remote *remote;
    pthread_mutex_t lock;
    _Atomic(struct waiter *) inbox;
    _Atomic(struct waiter *) leader;
    struct waiter *ended; /* to be told so when the lock is given up */
    struct link open;     /* the oldest first */
    int stopped, ends;
    int alone; /* the leader's own request is the only one */
    int64_t spin_ns;
    int64_t look_ns; /* when to ask again whether it ends */
    _Atomic uint32_t inside, stopping;
    pthread_t keeper_id;
    int kept;
    struct waiter keeper;
    uint64_t news;
    aoe_way known[WAYS_MAX];
    uint32_t known_count;
    struct fencing fencing[WAYS_MAX];
};

static long futex(_Atomic uint32_t *word, int what, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, what | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

/* Waiters */

/* Once it has ended, its thread may have left already: waking by its address does no harm then. */
static void become(struct waiter *w, uint32_t state)
{
    if (atomic_exchange(&w->state, state) == ASLEEP)
        futex(&w->state, FUTEX_WAKE, 1, NULL);
}

/* Until it is appointed, or has ended. */
static uint32_t rest(struct waiter *w)
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

/* With the lock */

/* Where the core has no room, it is asked again a little later. */
static void reap(struct shared *s)
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

static void admit(struct shared *s)
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
    reap(s);
}

/* The youngest, because it will have to wait longest. */
static void appoint(struct shared *s)
{
    if (atomic_load(&s->leader) || link_alone(&s->open))
        return;
    struct waiter *w = OWNER_OF(s->open.prev, struct waiter, open);
    s->alone = s->open.next == s->open.prev;
    atomic_store(&s->leader, w);
    become(w, APPOINTED);
}

/* What came into the inbox while the lock was held is for no other thread. */
static void give_up_lock(struct shared *s)
{
    do {
        struct waiter *w = s->ended, *next;
        s->ended = NULL;
        appoint(s);
        pthread_mutex_unlock(&s->lock);
        for (; w; w = next) {
            next = w->next;
            become(w, ENDED);
        }
        atomic_thread_fence(memory_order_seq_cst);
        if (!atomic_load(&s->inbox) || pthread_mutex_trylock(&s->lock))
            return;
        admit(s);
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
static int lead_once(struct shared *s, struct waiter *w)
{
    wait_for_frames(s, w);
    if (!s->alone && w != &s->keeper)
        sched_yield();
    pthread_mutex_lock(&s->lock);
    aoe_remote_pump(s->remote);
    admit(s);
    reap(s);
    s->alone = s->open.next == s->open.prev;
    int goes_on = !w->over && (w != &s->keeper || link_alone(&s->open)) && !(w == &s->keeper && s->ended);
    if (!goes_on)
        atomic_store(&s->leader, NULL);
    give_up_lock(s);
    return goes_on;
}

static void lead(struct shared *s, struct waiter *w)
{
    uint32_t appointed = APPOINTED;
    atomic_compare_exchange_strong(&w->state, &appointed, AWAKE);
    while (lead_once(s, w))
        ;
}

/* It was appointed, and then another thread brought its answer. */
static void resign(struct shared *s, struct waiter *w)
{
    if (atomic_load(&s->leader) != w)
        return;
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->leader, NULL);
    give_up_lock(s);
}

struct answer shared_ask(struct shared *s, uint32_t verb, uint64_t offset, uint64_t length, uint8_t *data,
                         int64_t for_ns)
{
    struct waiter w = {.verb = verb, .offset = offset, .length = length, .data = data};
    w.until_ns = for_ns < 0 ? s->set.timeout_ns : for_ns;
    link_init(&w.open);
    atomic_fetch_add(&s->inside, 1);
    w.next = atomic_load(&s->inbox);
    while (!atomic_compare_exchange_weak(&s->inbox, &w.next, &w))
        ;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&s->inside) > 2)
        sched_yield();
    if (atomic_load(&s->inbox) && !pthread_mutex_trylock(&s->lock)) {
        admit(s);
        give_up_lock(s);
    }
    while (rest(&w) != ENDED)
        lead(s, &w);
    resign(s, &w);
    atomic_fetch_sub(&s->inside, 1);
    return w.answer;
}

/* The keeper: what time brings */

static int ending(struct shared *s, int64_t now_ns)
{
    if (!s->ends && now_ns >= s->look_ns) {
        s->look_ns = now_ns + LOOK_MS * 1000000ll;
        s->ends = s->set.ending();
    }
    if (s->ends && link_alone(&s->open))
        s->set.idle();
    return s->ends;
}

/* A thread that looks twice has left the leader time to take what had arrived. */
static int timed_out(struct waiter *w, int64_t own_ns) { return w->until_ns >= 0 && own_ns >= w->until_ns && w->overdue++; }

static void expire(struct shared *s, int64_t now_ns)
{
    struct link *next;
    int ends = ending(s, now_ns);
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
    reap(s);
}

static void *fence(void *argument)
{
    struct fencing *f = argument;
    struct shared *s = f->shared;
    int ended_well = fence_run(s->set.fence, &f->way);
    pthread_mutex_lock(&s->lock);
    if (ended_well && !s->stopped) {
        aoe_core_fenced(s->core, f->way.number, aoe_remote_now());
        aoe_remote_send(s->remote);
        reap(s);
    }
    f->after_ns = aoe_remote_now() + FENCE_AGAIN_NS;
    f->runs = 0;
    give_up_lock(s);
    atomic_fetch_sub(&s->inside, 1);
    return NULL;
}

static int same_server(const aoe_way *one, const aoe_way *other)
{
    return !memcmp(one->mac, other->mac, 6) && one->shelf == other->shelf && one->slot == other->slot;
}

/* A server that was lost with writes of unknown fate, once, and while another one carries on. */
static int may_fence(const struct shared *s, const aoe_way *way)
{
    int carried_on = 0;
    if (way->state != WAY_DOWN || !way->unsettled)
        return 0;
    for (uint32_t i = 0; i < WAYS_MAX; i++)
        if (s->fencing[i].runs && same_server(&s->fencing[i].way, way))
            return 0;
    for (uint32_t i = 0; i < s->known_count; i++)
        if (s->known[i].state == WAY_USABLE) {
            carried_on = 1;
            if (same_server(&s->known[i], way))
                return 0;
        }
    return carried_on;
}

static const aoe_way *known_as(const struct shared *s, uint32_t number)
{
    for (uint32_t i = 0; i < s->known_count; i++)
        if (s->known[i].number == number)
            return &s->known[i];
    return NULL;
}

/* Of this way, or else one that is no way's any more; NULL where all are in use. */
static struct fencing *fencing_of(struct shared *s, const aoe_way *way)
{
    struct fencing *spare = NULL;
    for (uint32_t i = 0; i < WAYS_MAX; i++) {
        struct fencing *f = &s->fencing[i];
        if (f->way.number == way->number)
            return f;
        if (!f->runs && !known_as(s, f->way.number))
            spare = f;
    }
    if (spare)
        *spare = (struct fencing){s, *way, 0, 0};
    return spare;
}

static void fence_lost(struct shared *s, const aoe_way *way, int64_t now_ns)
{
    struct fencing *f = may_fence(s, way) ? fencing_of(s, way) : NULL;
    pthread_t id;
    if (!f || f->runs || now_ns < f->after_ns)
        return;
    *f = (struct fencing){s, *way, 1, 0};
    atomic_fetch_add(&s->inside, 1);
    if (!pthread_create(&id, NULL, fence, f)) {
        pthread_detach(id);
        return;
    }
    f->runs = 0;
    atomic_fetch_sub(&s->inside, 1);
}

static void look_at_ways(struct shared *s, int64_t now_ns)
{
    aoe_way ways[WAYS_MAX];
    uint64_t news = aoe_core_news(s->core);
    if (news == s->news && !s->set.fence)
        return;
    s->news = news;
    uint32_t count = aoe_core_ways(s->core, ways, WAYS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const aoe_way *was = known_as(s, ways[i].number);
        if (!was || was->state != ways[i].state || was->reason != ways[i].reason || was->proved != ways[i].proved)
            s->set.tell(&ways[i]);
        if (was && ways[i].renewed > was->renewed && !(ways[i].renewed & (ways[i].renewed - 1)))
            s->set.tell_unheeded(&ways[i]); /* less and less often */
        uint32_t narrow = was ? was->narrow : NARROW_NOT;
        if (ways[i].narrow == NARROW_TRIED) /* not found out yet */
            ways[i].narrow = narrow;
        else if (ways[i].narrow != narrow)
            s->set.tell_size(&ways[i]);
    }
    memcpy(s->known, ways, count * sizeof *ways);
    s->known_count = count;
    for (uint32_t i = 0; i < count && s->set.fence && !s->stopped; i++)
        fence_lost(s, &ways[i], now_ns);
}

static void chores(struct shared *s)
{
    pthread_mutex_lock(&s->lock);
    int64_t now_ns = aoe_remote_now();
    expire(s, now_ns);
    look_at_ways(s, now_ns);
    give_up_lock(s);
    s->set.report();
}

/* Whether it is the leader now: where no other thread is needed. */
static int may_lead(struct shared *s)
{
    pthread_mutex_lock(&s->lock);
    int may = !atomic_load(&s->leader) && link_alone(&s->open);
    if (may)
        atomic_store(&s->leader, &s->keeper);
    give_up_lock(s);
    return may;
}

static void *keep(void *argument)
{
    struct shared *s = argument;
    struct timespec nap = {0, REST_MS * 1000000};
    while (!atomic_load(&s->stopping)) {
        if (may_lead(s))
            while (lead_once(s, &s->keeper) && !atomic_load(&s->stopping))
                chores(s);
        chores(s);
        futex(&s->stopping, FUTEX_WAIT, 0, &nap);
    }
    if (atomic_load(&s->leader) == &s->keeper) {
        pthread_mutex_lock(&s->lock);
        atomic_store(&s->leader, NULL);
        give_up_lock(s);
    }
    return NULL;
}

/* Its life */

int shared_open(struct shared **shared, const struct shared_settings *settings)
{
    struct shared *s = calloc(1, sizeof *s);
    *shared = NULL;
    if (!s)
        return -ENOMEM;
    s->set = *settings;
    link_init(&s->open);
    pthread_mutex_init(&s->lock, NULL);
    s->core = aoe_core_open(&settings->core);
    int bad = s->core ? aoe_remote_open(&s->remote, s->core, &settings->core, settings->ports) : -ENOMEM;
    if (bad) {
        if (s->core)
            aoe_core_close(s->core);
        free(s);
        return bad;
    }
    *shared = s;
    return 0;
}

static void wait_while(struct shared *s, int (*so)(const aoe_core *core), int is, int64_t until_ns)
{
    while (so(s->core) == is && aoe_core_own_time(s->core, aoe_remote_now()) < until_ns) {
        aoe_remote_wait(s->remote, REST_MS, 0);
        aoe_remote_pump(s->remote);
    }
}

int shared_find(struct shared *s, int64_t for_ns)
{
    wait_while(s, aoe_core_chosen, 0, aoe_core_own_time(s->core, aoe_remote_now()) + for_ns);
    wait_while(s, aoe_core_comparing, 1, aoe_core_own_time(s->core, aoe_remote_now()) + COMPARE_NS);
    return aoe_core_chosen(s->core);
}

int shared_start(struct shared *s)
{
    struct sched_param none = {0};
    sched_setscheduler(0, SCHED_BATCH, &none);
    int bad = pthread_create(&s->keeper_id, NULL, keep, s);
    s->kept = !bad;
    return -bad;
}

void shared_stop(struct shared *s)
{
    atomic_store(&s->stopping, 1);
    futex(&s->stopping, FUTEX_WAKE, INT_MAX, NULL);
    if (s->kept)
        pthread_join(s->keeper_id, NULL);
    s->kept = 0;
    pthread_mutex_lock(&s->lock);
    s->stopped = 1;
    expire(s, aoe_remote_now());
    give_up_lock(s);
}

/* A thread that does not come back in time keeps all of it. */
void shared_close(struct shared *s)
{
    struct timespec nap = {0, 1000000};
    shared_stop(s);
    for (int ms = 0; atomic_load(&s->inside) && ms < LEAVE_MS; ms++)
        nanosleep(&nap, NULL);
    if (atomic_load(&s->inside))
        return;
    aoe_remote_close(s->remote);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

int shared_disk(struct shared *s, aoe_disk *disk)
{
    pthread_mutex_lock(&s->lock);
    int known = aoe_core_disk(s->core, disk);
    give_up_lock(s);
    return known;
}

uint32_t shared_ways(struct shared *s, aoe_way *ways, uint32_t room)
{
    pthread_mutex_lock(&s->lock);
    uint32_t count = aoe_core_ways(s->core, ways, room);
    give_up_lock(s);
    return count < room ? count : room;
}

const char *shared_interface(const struct shared *s, uint32_t port) { return aoe_remote_name(s->remote, port); }
