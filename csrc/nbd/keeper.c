#include "keeper.h"

#include <limits.h>
#include <sched.h>
#include <string.h>

#include "fencing.h"
#include "futex.h"
#include "leader.h"
#include "waiters.h"

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

static void look_at_paths(struct shared *s, int64_t now_ns)
{
    aoe_path paths[PATHS_MAX];
    uint64_t news = aoe_core_news(s->core);
    if (news == s->news && !s->set.fence)
        return;
    s->news = news;
    uint32_t count = aoe_core_paths(s->core, paths, PATHS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const aoe_path *was = known_as(s, paths[i].number);
        if (!was || was->state != paths[i].state || was->reason != paths[i].reason || was->proved != paths[i].proved)
            s->set.tell(&paths[i]);
        if (was && paths[i].renewed > was->renewed && !(paths[i].renewed & (paths[i].renewed - 1)))
            s->set.tell_unheeded(&paths[i]); /* less and less often */
        uint32_t narrow = was ? was->narrow : NARROW_NOT;
        if (paths[i].narrow == NARROW_TRIED) /* not found out yet */
            paths[i].narrow = narrow;
        else if (paths[i].narrow != narrow)
            s->set.tell_size(&paths[i]);
    }
    memcpy(s->known, paths, count * sizeof *paths);
    s->known_count = count;
    for (uint32_t i = 0; i < count && s->set.fence && !s->stopped; i++)
        fencing_look(s, &paths[i], now_ns);
}

static void chores(struct shared *s)
{
    pthread_mutex_lock(&s->lock);
    int64_t now_ns = aoe_remote_now();
    waiters_expire(s, now_ns, ending(s, now_ns));
    look_at_paths(s, now_ns);
    leader_unlock(s);
    s->set.report();
}

/* Whether it is the leader now: where no other thread is needed. */
static int may_lead(struct shared *s)
{
    pthread_mutex_lock(&s->lock);
    int may = !atomic_load(&s->leader) && link_alone(&s->open);
    if (may)
        atomic_store(&s->leader, &s->keeper);
    leader_unlock(s);
    return may;
}

static void *keep(void *argument)
{
    struct shared *s = argument;
    struct timespec nap = {0, REST_MS * 1000000};
    while (!atomic_load(&s->stopping)) {
        if (may_lead(s))
            while (leader_once(s, &s->keeper) && !atomic_load(&s->stopping))
                chores(s);
        chores(s);
        futex(&s->stopping, FUTEX_WAIT, 0, &nap);
    }
    if (atomic_load(&s->leader) == &s->keeper) {
        pthread_mutex_lock(&s->lock);
        atomic_store(&s->leader, NULL);
        leader_unlock(s);
    }
    return NULL;
}

int keeper_start(struct shared *s)
{
    struct sched_param none = {0};
    sched_setscheduler(0, SCHED_BATCH, &none);
    int bad = pthread_create(&s->keeper_id, NULL, keep, s);
    s->kept = !bad;
    return -bad;
}

void keeper_stop(struct shared *s)
{
    atomic_store(&s->stopping, 1);
    futex(&s->stopping, FUTEX_WAKE, INT_MAX, NULL);
    if (s->kept)
        pthread_join(s->keeper_id, NULL);
    s->kept = 0;
    pthread_mutex_lock(&s->lock);
    s->stopped = 1;
    int64_t now_ns = aoe_remote_now();
    waiters_expire(s, now_ns, ending(s, now_ns));
    leader_unlock(s);
}
