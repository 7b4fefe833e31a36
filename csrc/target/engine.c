/* The engine's life, and what Python calls. */
#include "state.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clocks.h"
#include "cuts.h"
#include "map.h"
#include "ports.h"
#include "requests.h"
#include "sockets.h"
#include "table.h"
#include "thread.h"

int aoe_engine_open(aoe_engine **engine, const aoe_settings *settings)
{
    aoe_engine *e = calloc(1, sizeof *e);
    *engine = e;
    if (!e)
        return -ENOMEM;
    assert(settings->ports <= 8 * sizeof((struct view *)0)->elsewhere);
    e->set = *settings;
    e->uring = 1;
    e->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    /* Room before the payload for the header, and behind it for a read rounded out to 4 KiB at both ends. */
    e->buffer_size = PAGE + ((settings->frame_max + 2 * PAGE + PAGE - 1) & ~(size_t)(PAGE - 1));
    pthread_mutex_init(&e->up_lock, NULL);
    sem_init(&e->started, 0, 0);
    e->up = malloc(UP_BYTES);
    e->exports = calloc(settings->exports, sizeof *e->exports);
    e->threads = calloc(settings->threads, sizeof *e->threads);
    e->port_facts = calloc(settings->ports, sizeof *e->port_facts);
    for (e->table_mask = 4; e->table_mask < 2 * settings->exports; e->table_mask *= 2)
        ;
    e->table_mask--;
    int bad = e->event < 0 || !e->up || !e->exports || !e->threads || !e->port_facts;
    for (uint32_t i = 0; !bad && i < settings->exports; i++)
        e->exports[i].owner = NO_THREAD;
    for (uint32_t i = 0; !bad && i < settings->threads; i++) {
        struct thread *t = &e->threads[i];
        t->engine = e;
        t->index = i;
        t->event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        t->ports = calloc(settings->ports, sizeof *t->ports);
        t->devices = calloc(settings->exports, sizeof *t->devices);
        t->sectors = sectors_open((int)settings->plain_io, t->event);
        e->uring &= t->sectors && sectors_use_uring(t->sectors);
        bad = t->event < 0 || !t->sectors || maps_open(t) < 0 || !t->ports || !t->devices || table_make(t) < 0 || requests_make(t) < 0;
        for (uint32_t p = 0; !bad && p < settings->ports; p++)
            t->ports[p].ring.fd = -1;
    }
    if (!bad)
        return 0;
    aoe_engine_close(e);
    *engine = NULL;
    return -ENOMEM;
}

int aoe_engine_set_port(aoe_engine *e, uint32_t port, const aoe_port *now)
{
    assert(port < e->set.ports);
    port_publish(e, port, now);
    return 0;
}

static void make_anew(const aoe_engine *e, struct export *x, uint32_t index, const aoe_export *now)
{
    work_end(&x->work);
    memset(x, 0, offsetof(struct export, owner));
    x->index = index;
    x->shelf = now->shelf;
    x->slot = now->slot;
    depth_begin(&x->depth, e->set.places);
}

int64_t aoe_engine_set_export(aoe_engine *e, uint32_t index, const aoe_export *now)
{
    assert(index < e->set.exports && now->device < e->set.exports && now->block >= SECTOR);
    size_t macs = 6 * ((size_t)now->masked + now->reserved);
    struct view *v = malloc(sizeof *v + macs);
    struct export *x = &e->exports[index];
    int is_new = atomic_load_explicit(&x->owner, memory_order_acquire) == NO_THREAD;
    struct rates *rates = limits_any(&now->limits) ? rates_new(&now->limits) : NULL;
    if (!v || (limits_any(&now->limits) && !rates)) {
        free(rates);
        free(v);
        return -ENOMEM;
    }
    assert(!is_new || !x->up_used); /* Python has taken all that came up of the one before */
    if (is_new)
        make_anew(e, x, index, now);
    if (is_new && streams_adopt(&x->streams, now->streams, now->streams_count, clock_ns(CLOCK_REALTIME))) {
        free(rates);
        free(v);
        return -ENOMEM;
    }
    *v = (struct view){.number = atomic_fetch_add(&x->published, 1) + 1,
                       .fd = now->fd,
                       .flags = now->flags,
                       .block_sectors = now->block / SECTOR,
                       .base = now->base,
                       .sectors = now->sectors,
                       .trust = now->trust,
                       .device = now->device,
                       .room = now->room,
                       .elsewhere = now->elsewhere,
                       .masked = now->masked,
                       .reserved = now->reserved,
                       .rates = rates};
    for (int i = 0; i < INSTANCE_BYTES; i++)
        v->instance[i] = (uint8_t)(now->instance >> 8 * i);
    if (macs)
        memcpy(v->macs, now->macs, macs);
    int64_t number = v->number;
    view_free(atomic_exchange(&x->next, v));
    if (is_new)
        atomic_store_explicit(&x->owner, ring_owner(x->shelf, x->slot, e->set.threads), memory_order_release);
    struct thread *t = &e->threads[atomic_load(&x->owner)];
    if (e->running)
        thread_wake(t);
    else
        thread_adopt(t, x);
    return number;
}

int aoe_engine_filter(aoe_engine *e)
{
    uint16_t shelves[256];
    uint32_t shelf_count = 0;
    for (uint32_t i = 0; i < e->set.exports && shelf_count < 256; i++) {
        uint32_t known = 0;
        if (atomic_load(&e->exports[i].owner) == NO_THREAD)
            continue;
        while (known < shelf_count && shelves[known] != e->exports[i].shelf)
            known++;
        if (known == shelf_count)
            shelves[shelf_count++] = e->exports[i].shelf;
    }
    for (uint32_t i = 0; i < e->set.threads; i++)
        for (uint32_t p = 0; p < e->set.ports; p++) {
            const struct port *port = &e->threads[i].ports[p];
            int comes = atomic_load(&port->stage) == PORT_COMES;
            int bad = comes ? ring_filter(port->ring.fd, shelves, shelf_count, i, e->set.threads) : 0;
            if (bad)
                return bad;
        }
    return 0;
}

int aoe_engine_start(aoe_engine *e, const int *cpus)
{
    sigset_t all, before;
    int bad = aoe_engine_filter(e);
    if (bad)
        return bad;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* map.c takes it */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (uint32_t i = 0; i < e->set.threads && !bad; i++) {
        struct thread *t = &e->threads[i];
        bad = -pthread_create(&t->id, NULL, thread_run, t);
        if (bad)
            break;
        e->running++;
        if (cpus[i] >= 0) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET((size_t)cpus[i], &set);
            pthread_setaffinity_np(t->id, sizeof set, &set);
        }
        sem_wait(&e->started);
        bad = e->start_error;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return bad;
}

int64_t aoe_engine_settled(aoe_engine *e, uint32_t index)
{
    int64_t settled = atomic_load(&e->exports[index].settled);
    assert(settled <= atomic_load(&e->exports[index].published));
    return settled;
}

uint32_t aoe_engine_numbers(aoe_engine *e, uint32_t index, uint64_t *numbers, aoe_client *clients, uint64_t *other)
{
    assert(index < e->set.exports);
    const struct work *w = &e->exports[index].work;
    for (int i = 0; i < AOE_EXPORT_NUMBERS; i++)
        numbers[i] = number(&w->numbers[i]);
    return work_clients(w, clients, other);
}

void aoe_engine_thread(aoe_engine *e, uint32_t index, uint64_t *numbers)
{
    assert(index < e->set.threads);
    const struct thread *t = &e->threads[index];
    uint64_t began_ns = number(&t->began_ns), resting_ns = number(&t->resting_ns);
    uint64_t now_ns = clock_ns(CLOCK_MONOTONIC), idle_ns = number(&t->idle_ns);
    uint64_t all_ns = began_ns ? now_ns - began_ns : 0;
    idle_ns += resting_ns && resting_ns < now_ns ? now_ns - resting_ns : 0;
    numbers[AOE_THREAD_IDLE] = idle_ns < all_ns ? idle_ns : all_ns;
    numbers[AOE_THREAD_BUSY] = all_ns - numbers[AOE_THREAD_IDLE];
}

void aoe_engine_set_age(aoe_engine *e, uint64_t ns) { __atomic_store_n(&e->set.frame_age_ns, ns, __ATOMIC_RELAXED); }

int aoe_engine_event(aoe_engine *e) { return e->event; }

int aoe_engine_release(aoe_engine *e, uint32_t index, uint64_t ticket)
{
    assert(index < e->set.exports && ticket);
    uint32_t owner = atomic_load(&e->exports[index].owner);
    if (owner == NO_THREAD)
        return 0;
    struct thread *t = &e->threads[owner];
    atomic_store(&t->ops[ticket % OPS].op.released, ticket);
    thread_wake(t);
    return 0;
}

int64_t aoe_engine_drain(aoe_engine *e)
{
    int64_t pending = 0;
    atomic_store(&e->draining, 1);
    for (uint32_t i = 0; i < e->set.threads; i++) {
        pending += atomic_load(&e->threads[i].pending);
        eventfd_write(e->threads[i].event, 1);
    }
    return pending;
}

void aoe_engine_resume(aoe_engine *e)
{
    atomic_store(&e->draining, 0);
    for (uint32_t i = 0; i < e->set.threads; i++)
        eventfd_write(e->threads[i].event, 1);
}

void aoe_engine_count(aoe_engine *e, uint64_t *counters)
{
    memset(counters, 0, AOE_COUNTERS * sizeof *counters);
    for (uint32_t i = 0; i < e->set.threads; i++) {
        struct thread *t = &e->threads[i];
        for (uint32_t c = 0; c < AOE_COUNTERS; c++)
            counters[c] += number(&t->counters[c]);
        for (uint32_t p = 0; p < e->set.ports; p++)
            counters[AOE_RING_FULL] += port_ring_full(&t->ports[p]);
    }
}

int aoe_engine_uses_uring(aoe_engine *e) { return e->uring; }

/* A request at the disk may keep a thread from ending, but hardly its loop. */
static int leaves(struct thread *t)
{
    for (int ms = 0; ms < 1000 && !atomic_load(&t->left); ms++)
        usleep(1000);
    return atomic_load(&t->left);
}

int aoe_engine_stop(aoe_engine *e)
{
    int hangs = 0;
    if (atomic_exchange(&e->stopping, 1))
        return !e->left_behind;
    for (int i = 0; i < e->running; i++) {
        struct thread *t = &e->threads[i];
        int under_way = atomic_load(&t->pending) != 0; /* its thread would wait for that as it ends */
        hangs |= under_way;
        eventfd_write(t->event, 1);
        if (under_way)
            pthread_detach(t->id);
        else
            pthread_join(t->id, NULL);
    }
    e->left_behind = hangs;
    return !hangs;
}

uint32_t aoe_engine_streams(aoe_engine *e, uint32_t index, aoe_stream *left)
{
    assert(index < e->set.exports && atomic_load(&e->stopping) && !e->left_behind);
    return streams_leave(&e->exports[index].streams, left);
}

void aoe_engine_close(aoe_engine *e)
{
    int all_ended = aoe_engine_stop(e);
    for (uint32_t i = 0; e->threads && i < e->set.threads; i++) {
        struct thread *t = &e->threads[i];
        if ((int)i < e->running && !leaves(t))
            continue;
        if (t->sectors)
            sectors_close(t->sectors);
        for (uint32_t p = 0; t->ports && p < e->set.ports; p++)
            ring_close(&t->ports[p].ring);
    }
    if (!all_ended)
        return; /* a request at the disk still owns buffers */
    for (uint32_t i = 0; e->exports && i < e->set.exports; i++)
        cuts_drop(&e->exports[i]);
    for (uint32_t i = 0; e->threads && i < e->set.threads; i++) {
        struct thread *t = &e->threads[i];
        if (t->buffers)
            munmap(t->buffers, OPS * e->buffer_size);
        free(t->ops);
        free(t->ports);
        free(t->table);
        free(t->devices);
        if (t->event > 0)
            close(t->event);
        if (t->watch > 0)
            close(t->watch);
    }
    for (uint32_t i = 0; e->exports && i < e->set.exports; i++) {
        struct export *x = &e->exports[i];
        map_drop(x);
        view_free(x->now);
        streams_end(&x->streams);
        work_end(&x->work);
        view_free(atomic_load(&x->next));
    }
    if (e->event >= 0)
        close(e->event);
    pthread_mutex_destroy(&e->up_lock);
    sem_destroy(&e->started);
    free(e->up);
    free(e->exports);
    free(e->threads);
    free(e->port_facts);
    free(e);
}
