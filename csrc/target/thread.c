/* One thread of the engine: clocks, frames in order of reception, what Python published, and rest. */
#include "thread.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clocks.h"
#include "cuts.h"
#include "map.h"
#include "operations.h"
#include "replies.h"
#include "serve.h"
#include "sockets.h"
#include "table.h"

enum { SECOND_NS = 1000000000 };

/* The port whose next frame came first; with one port there is nothing to compare (rule T2). */
static int next_port(struct thread *t, uint64_t horizon)
{
    int first = -1;
    uint64_t first_ns = 0;
    if (t->ports_used == 1)
        return port_filled(t, 0) ? 0 : -1;
    for (uint32_t p = 0; p < t->ports_used; p++) {
        if (!port_filled(t, p))
            continue;
        uint64_t stamp = ring_peek(&t->ports[p].ring).stamp_ns;
        if ((first < 0 || stamp < first_ns) && (stamp <= horizon || t->suspect)) {
            first = (int)p;
            first_ns = stamp;
        }
    }
    return first;
}

static uint32_t take_frames(struct thread *t)
{
    uint32_t taken = 0;
    assert(!sectors_busy(t->sectors) || atomic_load_explicit(&t->pending, memory_order_relaxed));
    uint64_t horizon = t->now_ns;
    int port = -1;
    while (taken < BATCH && (port = next_port(t, horizon)) >= 0) {
        struct arrival a = ring_peek(&t->ports[port].ring);
        if (a.stamp_ns > t->now_ns)
            t->now_ns = clock_ns(CLOCK_REALTIME);
        serve_frame(t, (uint32_t)port, &a);
        ring_next(&t->ports[port].ring);
        taken++;
    }
    if (port < 0)
        t->suspect = 0;
    return taken;
}

/* What Python published and released */

void thread_adopt(struct thread *t, struct export *x)
{
    struct view *next = atomic_exchange(&x->next, NULL), *last = x->now;
    if (!next)
        return;
    assert(thread_owns(t, x) || !t->engine->running);
    assert(!last || (next->number > last->number && !is_gone(x))); /* what goes does not come back */
    if (last && last->trust == next->trust)
        next->flags |= last->flags & AOE_PASS; /* Python may not know yet that a sync failed */
    assert(!last || x->device == &t->devices[next->device] || (!x->at_disk && !x->syncing)); /* what is there is counted there */
    x->device = &t->devices[next->device];
    x->device->room = next->room / t->engine->set.threads;
    depth_adapt(&x->depth, (next->flags & AOE_DIRECT) != 0);
    x->now = next;
    if (last && rates_alike(last->rates, next->rates)) { /* what was spent stays spent */
        struct rates *fresh = next->rates;
        next->rates = last->rates;
        last->rates = fresh;
    }
    view_free(last);
    if (is_gone(x)) {
        table_refill(t);
        t->leaving++;
        return;
    }
    if (!last)
        table_add(t, x);
    map_store(t, x);
    operations_settle(t, x);
}

/* An export whose last request is over goes, and with it all that refers to it. */
static void let_go(struct thread *t, struct export *x)
{
    struct view *last = x->now;
    int64_t number = last->number;
    assert(t->leaving && turns_empty(&x->ready) && turns_empty(&x->spare) && !x->unsynced && !x->order.tail && !x->order.pending && !x->rest.until_ns);
    cuts_forget(t, x);
    outlets_unmap(t);
    map_forget(t, x);
    streams_end(&x->streams);
    outlets_forget(t, x);
    work_leave(&x->work, &t->engine->crowd);
    x->background.count = 0;
    x->rest = (struct rest){0};
    x->now = NULL;
    view_free(last);
    t->leaving--;
    t->up_news = 1;
    atomic_store_explicit(&x->owner, NO_THREAD, memory_order_release);
    atomic_store_explicit(&x->settled, number, memory_order_release);
}

static int is_idle(const struct export *x)
{
    return !x->order.head && !x->at_disk && !x->syncing && !x->rest.until_ns;
}

static void let_go_of_idle(struct thread *t)
{
    for (uint32_t i = 0; i < t->engine->set.exports; i++) {
        struct export *x = &t->engine->exports[i];
        if (thread_owns(t, x) && x->now && is_gone(x) && is_idle(x))
            let_go(t, x);
    }
}

static void read_mail(struct thread *t)
{
    aoe_engine *e = t->engine;
    if (!atomic_exchange(&t->mail, 0))
        return;
    sockets_adopt(t);
    outlets_unmap(t); /* a map may go */
    for (uint32_t i = 0; i < e->set.exports; i++) {
        struct export *x = &e->exports[i];
        if (thread_owns(t, x)) {
            thread_adopt(t, x);
            cuts_adopt(t, x);
            operations_released(t, x);
        }
    }
}

/* The loop */

static void distrust_stamps(struct thread *t)
{
    aoe_engine *e = t->engine;
    t->era++;
    t->suspect = 1;
    for (uint32_t i = 0; i < e->set.exports; i++) {
        struct export *x = &e->exports[i];
        if (thread_owns(t, x))
            streams_clock_stepped(&x->streams, t->now_ns);
    }
    count(t, AOE_ENGINE_CLOCK_STEPPED);
}

/* How long a thread sleeps at most. A clock that is slewed by 0.05 % (adjtimex(2)) moves by 2.5 ms meanwhile, which
 * is no step. */
enum { LOOK_AT_CLOCKS_MS = 5000 };

static void look_at_clocks(struct thread *t)
{
    t->now_ns = clock_ns(CLOCK_REALTIME);
    t->boot_ns = clock_ns(CLOCK_BOOTTIME);
    int64_t distance = (int64_t)(t->now_ns - t->boot_ns);
    if (t->clock_known && llabs(distance - t->distance) > CLOCK_STEP_NS)
        distrust_stamps(t);
    t->clock_known = 1;
    t->distance = distance;
}

/* A client found no room: those that were not heard lately make some. */
static void sweep(struct thread *t)
{
    aoe_engine *e = t->engine;
    t->swept_ns = t->boot_ns;
    for (uint32_t i = 0; i < e->set.exports; i++)
        if (thread_owns(t, &e->exports[i]) && e->exports[i].now)
            work_sweep(&e->exports[i].work, &e->crowd, t->boot_ns);
}

/* Not while it drains, nor before it begins: what comes then stays where it is, and is nothing to do. */
static int takes(const struct thread *t)
{
    return !atomic_load_explicit(&t->engine->draining, memory_order_relaxed);
}

static int something_waits(struct thread *t)
{
    if (atomic_load_explicit(&t->mail, memory_order_relaxed))
        return 1;
    for (uint32_t p = 0; takes(t) && p < t->ports_used; p++)
        if (port_filled(t, p))
            return 1;
    return 0;
}

static struct pollfd port_wanted(const struct thread *t, uint32_t p)
{
    const struct port *port = &t->ports[p];
    int events = (port->open == PORT_OPEN && takes(t) ? POLLIN : 0) | (port->out.blocked ? POLLOUT : 0);
    return (struct pollfd){port->open ? port->ring.fd : -1, (short)events, 0};
}

static void sleep_for(struct pollfd *fds, nfds_t count, uint64_t ns)
{
    struct timespec most = {.tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS)};
    ppoll(fds, count, &most, NULL);
}

static void rested(struct thread *t, uint64_t ns)
{
    number_add(&t->idle_ns, ns);
    number_put(&t->resting_ns, 0);
}

/* Spin as long as it has lately paid and takes no other thread's processor; then sleep until something happens. The
 * disk and the clients keep one waiting for different times. */
static void rest(struct thread *t)
{
    aoe_engine *e = t->engine;
    uint64_t since = clock_ns(CLOCK_MONOTONIC), spent = 0;
    number_put(&t->resting_ns, since);
    uint64_t *spin_ns = &t->spin_ns[sectors_busy(t->sectors)];
    uint64_t rest_ns = delays_left_ns(&t->delays, t->boot_ns, LOOK_AT_CLOCKS_MS * 1000000ull);
    rest_ns = rests_left_ns(t->resting, t->boot_ns, rest_ns);
    while (spent < *spin_ns && spent < rest_ns && !sectors_threads_busy(t->sectors)) {
        for (int i = 0; i < 16; i++) {
            if (something_waits(t)) {
                rested(t, spent);
                return;
            }
            __builtin_ia32_pause();
        }
        uint64_t before = spent;
        spent = clock_ns(CLOCK_MONOTONIC) - since;
        t->boot_ns += spent - before; /* how long the disk takes is told by it */
        if (operations_completed(t)) {
            rested(t, spent);
            return;
        }
    }
    uint32_t used = t->ports_used;
    struct pollfd fds[used + 1];
    for (uint32_t p = 0; p < used; p++)
        fds[p] = port_wanted(t, p);
    fds[used] = (struct pollfd){t->event, POLLIN, 0};
    sleep_for(fds, used + 1, rest_ns > spent ? rest_ns - spent : 0);
    if (fds[used].revents & POLLIN) {
        eventfd_t ignored;
        eventfd_read(t->event, &ignored);
    }
    for (uint32_t p = 0; p < used; p++)
        if (fds[p].revents & POLLERR) { /* the interface went down: take the error off the socket */
            int error;
            socklen_t size = sizeof error;
            getsockopt(t->ports[p].ring.fd, SOL_SOCKET, SO_ERROR, &error, &size);
        }
    uint64_t slept = clock_ns(CLOCK_MONOTONIC) - since;
    rested(t, slept);
    uint32_t most = e->set.spin_us * 1000;
    *spin_ns = slept < most ? most : *spin_ns / 2;
}

/* Once around: what Python said, what the disk did, what came in, what goes out. */
void thread_pass(struct thread *t)
{
    aoe_engine *e = t->engine;
    uint32_t work = 0;
    look_at_clocks(t);
    if (number(&e->crowd.full_ns) > t->swept_ns + CLIENTS_SWEPT_NS)
        sweep(t);
    if (atomic_load_explicit(&t->mail, memory_order_relaxed))
        read_mail(t);
    work += (uint32_t)operations_completed(t);
    if (t->delays.count || t->resting)
        work += (uint32_t)operations_begin(t);
    if (t->cuts)
        work += (uint32_t)cuts_look(t);
    if (takes(t))
        work += take_frames(t);
    sectors_go(t->sectors);
    outlets_flush(t);
    if (t->leaving)
        let_go_of_idle(t);
    if (t->ports_leave)
        sockets_let_go(t);
    if (t->up_news) {
        t->up_news = 0;
        eventfd_write(e->event, 1);
    }
    if (!work)
        rest(t);
}

void *thread_run(void *argument)
{
    struct thread *t = argument;
    aoe_engine *e = t->engine;
    e->start_error = sectors_begin(t->sectors);
    int bad = e->start_error;
    number_put(&t->began_ns, clock_ns(CLOCK_MONOTONIC));
    sem_post(&e->started);
    while (!bad && !atomic_load_explicit(&e->stopping, memory_order_relaxed))
        thread_pass(t);
    atomic_store(&t->left, 1);
    return NULL;
}
