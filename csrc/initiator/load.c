/* A load on a disk: a number of requests outstanding, and how long each took. */
#include "remote.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 5 };

static const uint64_t OURS = 1ull << 63; /* in a request's `user`: the caller's have no such bit */

struct place {
    aoe_request *request; /* NULL: free */
    uint8_t *buffer;
    int64_t began_ns;
};

struct load_run {
    uint32_t depth, used;
    uint64_t block;
    uint8_t *buffers, *data;
    uint32_t *free; /* numbers of places, the last `depth - used` are in use */
    struct link foreign; /* what ended and was asked for by others */
    struct place places[];
};

/* Log-linear: 32 steps for each power of two, about 3 % wide. */
static unsigned bucket(uint64_t ns)
{
    if (ns < 32)
        return (unsigned)ns;
    unsigned top = 63 - (unsigned)__builtin_clzll(ns);
    unsigned at = (top - 4) * 32 + (unsigned)(ns >> (top - 5) & 31);
    return at < AOE_LOAD_BUCKETS ? at : AOE_LOAD_BUCKETS - 1;
}

static uint64_t chance(aoe_load *l)
{
    l->seed = l->seed ? l->seed : 1;
    l->seed ^= l->seed << 13;
    l->seed ^= l->seed >> 7;
    l->seed ^= l->seed << 17;
    return l->seed;
}

static uint64_t next_place(aoe_load *l)
{
    uint64_t blocks = l->range / l->block;
    if (l->random)
        return chance(l) % blocks * l->block;
    uint64_t at = l->position / l->block % blocks * l->block;
    l->position = at + l->block;
    return at;
}

/* Its life */

static struct load_run *run_new(const aoe_load *l)
{
    struct load_run *run = calloc(1, sizeof *run + l->depth * sizeof *run->places);
    if (!run)
        return NULL;
    run->depth = l->depth;
    run->block = l->block;
    link_init(&run->foreign);
    run->free = malloc(l->depth * sizeof *run->free);
    run->buffers = malloc(l->depth * l->block);
    run->data = calloc(1, l->block);
    for (uint32_t i = 0; i < l->depth && run->free; i++)
        run->free[i] = i;
    for (uint32_t i = 0; i < l->depth && run->buffers; i++)
        run->places[i].buffer = run->buffers + i * l->block;
    if (run->data && l->data)
        memcpy(run->data, l->data, l->block);
    return run;
}

static void run_free(struct load_run *run)
{
    free(run->free);
    free(run->buffers);
    free(run->data);
    free(run);
}

static void end(aoe_remote *r)
{
    if (r->run)
        run_free(r->run);
    r->run = NULL;
}

static int begin(aoe_remote *r, const aoe_load *l)
{
    if (!l->depth || l->depth > LOAD_DEPTH_MAX || !l->block || l->range < l->block)
        return -EINVAL;
    if (r->run)
        return r->run->depth == l->depth && r->run->block == l->block ? 0 : -EBUSY;
    r->run = run_new(l);
    r->run_free = run_free;
    if (r->run && r->run->free && r->run->buffers && r->run->data)
        return 0;
    end(r);
    return -ENOMEM;
}

/* Requests */

static void fill(aoe_remote *r, aoe_load *l, int64_t now_ns)
{
    struct load_run *run = r->run;
    while (run->used < run->depth) {
        uint32_t number = run->free[run->used++];
        struct place *place = &run->places[number];
        assert(number < run->depth && !place->request);
        int writes = l->write_percent && chance(l) % 100 < l->write_percent;
        place->began_ns = now_ns;
        aoe_request *request = aoe_core_start(r->core, writes ? AOE_VERB_WRITE : AOE_VERB_READ, next_place(l), run->block,
                                        writes ? run->data : place->buffer, run->block, 0, OURS | number, now_ns);
        if (!request) {
            l->errors++;
            run->used--;
            return;
        }
        place->request = request;
    }
}

static void vacate(struct load_run *run, uint32_t number)
{
    assert(run->used && run->used <= run->depth && run->places[number].request);
    run->places[number].request = NULL;
    run->free[--run->used] = number;
}

static int is_ours(const struct load_run *run, const aoe_request *request)
{
    uint64_t number = request->user & ~OURS;
    return request->user & OURS && number < run->depth && run->places[number].request == request;
}

static void reap(aoe_remote *r, aoe_load *l, int64_t now_ns)
{
    struct load_run *run = r->run;
    aoe_request *request;
    while ((request = aoe_core_done(r->core))) {
        if (!is_ours(run, request)) {
            link_append(&run->foreign, &((struct asked *)request)->done);
            continue;
        }
        uint32_t number = (uint32_t)(request->user & ~OURS);
        if (request->outcome == AOE_ENDED_OK) {
            l->done++;
            l->histogram[bucket((uint64_t)(now_ns - run->places[number].began_ns))]++;
        } else {
            l->errors++;
        }
        aoe_core_free(r->core, request);
        vacate(run, number);
    }
}

/* What others asked for is theirs to take. */
static void give_back(aoe_remote *r)
{
    struct link *first;
    while ((first = r->run->foreign.next) != &r->run->foreign) {
        link_remove(first);
        link_append(&r->core->done, first);
    }
}

static void abandon_rest(aoe_remote *r, aoe_load *l, int64_t now_ns)
{
    for (uint32_t i = 0; i < r->run->depth; i++)
        if (r->run->places[i].request) {
            l->errors++;
            aoe_core_abandon(r->core, r->run->places[i].request, now_ns);
            vacate(r->run, i);
        }
    aoe_remote_send(r); /* it may refer to what is freed next */
}

/* The loop */

static int64_t turn(aoe_remote *r, aoe_load *l)
{
    aoe_remote_send(r);
    aoe_remote_wait(r, WAIT_MS, SPIN_US);
    aoe_remote_pump(r);
    int64_t now_ns = aoe_remote_now();
    reap(r, l, now_ns);
    return now_ns;
}

int aoe_remote_load(aoe_remote *r, aoe_load *l, int64_t for_ns, int phase)
{
    int bad = begin(r, l);
    if (bad)
        return bad;
    int64_t now_ns = aoe_remote_now(), end_ns = now_ns + for_ns;
    while (now_ns < end_ns && (phase == AOE_LOAD_ASKS || r->run->used)) {
        if (phase == AOE_LOAD_ASKS)
            fill(r, l, now_ns);
        now_ns = turn(r, l);
    }
    if (phase == AOE_LOAD_ENDS)
        abandon_rest(r, l, now_ns);
    give_back(r);
    int outstanding = (int)r->run->used;
    if (phase == AOE_LOAD_ENDS)
        end(r);
    return outstanding;
}
