#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "keeper.h"
#include "leader.h"
#include "settling.h"
#include "waiters.h"

enum { LEAVE_MS = 1000 };

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

static void step(struct shared *s)
{
    aoe_remote_wait(s->remote, REST_MS, 0);
    aoe_remote_pump(s->remote);
}

static void wait_while(struct shared *s, int (*so)(const aoe_core *core), int is, int64_t until_ns)
{
    while (so(s->core) == is && aoe_core_own_time(s->core, aoe_remote_now()) < until_ns)
        step(s);
}

int shared_find(struct shared *s, int64_t for_ns)
{
    wait_while(s, aoe_core_chosen, 0, aoe_core_own_time(s->core, aoe_remote_now()) + for_ns);
    wait_while(s, aoe_core_comparing, 1, aoe_core_own_time(s->core, aoe_remote_now()) + COMPARE_NS);
    return aoe_core_chosen(s->core);
}

void shared_keep(struct shared *s, void (*keep)(const aoe_core *core, int sending)) { aoe_remote_keep(s->remote, keep); }

void shared_settle(struct shared *s)
{
    settling_begin(s);
    while (aoe_core_left(s->core)) {
        step(s);
        settling_look(s);
    }
}

int shared_start(struct shared *s) { return keeper_start(s); }

void shared_stop(struct shared *s) { keeper_stop(s); }

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

struct answer shared_ask(struct shared *s, uint32_t verb, uint64_t offset, uint64_t length, uint8_t *data,
                         int64_t for_ns)
{
    struct waiter w = {.verb = verb, .offset = offset, .length = length, .data = data};
    w.until_ns = for_ns < 0 ? s->set.timeout_ns : for_ns;
    link_init(&w.open);
    atomic_fetch_add(&s->inside, 1);
    waiter_put(s, &w);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&s->inside) > 2)
        sched_yield();
    if (atomic_load(&s->inbox) && !pthread_mutex_trylock(&s->lock)) {
        waiters_admit(s);
        leader_unlock(s);
    }
    while (waiter_rest(&w) != ENDED)
        leader_lead(s, &w);
    leader_resign(s, &w);
    atomic_fetch_sub(&s->inside, 1);
    return w.answer;
}

int shared_disk(struct shared *s, aoe_disk *disk)
{
    pthread_mutex_lock(&s->lock);
    int known = aoe_core_disk(s->core, disk);
    leader_unlock(s);
    return known;
}

uint32_t shared_paths(struct shared *s, aoe_path *paths, uint32_t room)
{
    pthread_mutex_lock(&s->lock);
    uint32_t count = aoe_core_paths(s->core, paths, room);
    leader_unlock(s);
    return count < room ? count : room;
}

const char *shared_interface(const struct shared *s, uint32_t port) { return aoe_remote_name(s->remote, port); }
