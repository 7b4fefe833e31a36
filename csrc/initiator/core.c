/* Byte ranges become requests of one frame and back: split, put in order, patched at odd ends. What comes in, what is
 * left to be done then, and what a core says of itself. As aoe/initiator/core.py. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

static void became(aoe_core *c, const struct event *e, int64_t now_ns)
{
    struct operation *o = e->operation;
    if (e->what == EFFECT_SETTLED)
        pieces_settled(c, o);
    else if (o->look)
        proof_became(c, o->look, e, now_ns);
    else if (e->what == EFFECT_TOO_LARGE && o->piece)
        pieces_carry_on(c, o->piece, e->sectors, now_ns);
    else if (o->piece)
        progress_answered(c, o->piece, e, now_ns);
}

/* What holds its range now goes before anything else is looked at. */
static void let_go(aoe_core *c, int64_t now_ns)
{
    while (!link_alone(&c->ready)) {
        struct piece *p = OWNER_OF(c->ready.next, struct piece, ready);
        link_remove(&p->ready);
        progress_go(c, p, now_ns);
    }
}

static void conclude(aoe_core *c, int64_t now_ns)
{
    let_go(c, now_ns);
    while (c->events_first < c->events_count) {
        struct event e = c->events[c->events_first++];
        became(c, &e, now_ns);
        let_go(c, now_ns);
    }
    c->events_first = c->events_count = 0;
}

/* Nothing is left to be done now. */
static void run(aoe_core *c, int64_t now_ns)
{
    conclude(c, now_ns);
    if (!c->proof.works && c->proof.news == c->news)
        return;
    proof_step(c, now_ns);
    conclude(c, now_ns);
}

/* The border */

aoe_core *aoe_core_open(const aoe_core_settings *settings)
{
    assert(settings->timing.rto_min_ns > 0 && settings->timing.pulse_ns < settings->timing.gap_ns);
    aoe_core *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->addresses = calloc(settings->addresses + 1, sizeof *c->addresses);
    c->ports = calloc(settings->ports + 1, sizeof *c->ports);
    if (!c->addresses || !c->ports) {
        free(c->addresses);
        free(c->ports);
        free(c);
        return NULL;
    }
    c->set = *settings;
    memcpy(c->addresses, settings->address, settings->addresses * sizeof *c->addresses);
    c->set.address = c->addresses;
    c->tag = c->first_tag = c->strangers.seed = settings->first_tag & TAG_MASK;
    c->seek_wait_ns = c->set.timing.query_first_ns;
    c->patience_ns = c->set.timing.handover_ns;
    link_init(&c->open);
    link_init(&c->held);
    link_init(&c->done);
    link_init(&c->requests);
    pool_init(&c->copies, sizeof(struct copy));
    pool_init(&c->exchanges, sizeof(struct exchange));
    debts_init(&c->debts, settings->debt, settings->debts, settings->since_ns);
    pieces_init(c);
    proof_init(&c->proof);
    return c;
}

void aoe_core_free(aoe_core *c, aoe_request *request)
{
    struct asked *a = (struct asked *)request;
    link_remove(&a->every);
    if (a->own_data)
        pieces_discard(c, a->request.data);
    free(a);
}

/* Those that hold data: the samples have gone, so that all locks are of pieces. */
static void end_pieces(aoe_core *c)
{
    for (struct link *l = c->ranges.all.next; l != &c->ranges.all; l = l->next) {
        struct piece *p = OWNER_OF(l, struct piece, lock.all);
        free(p->data);
        free(p->lock.followers);
    }
    for (struct link *l = c->messages.next; l != &c->messages; l = l->next)
        free(OWNER_OF(l, struct piece, message)->data);
}

void aoe_core_close(aoe_core *c)
{
    proof_close(&c->proof);
    aoe_core_sent(c);
    end_pieces(c);
    while (!link_alone(&c->requests))
        aoe_core_free(c, &OWNER_OF(c->requests.next, struct asked, every)->request);
    for (uint32_t i = 0; i < c->paths_count; i++)
        free(c->paths[i]);
    pool_end(&c->copies);
    pool_end(&c->exchanges);
    pool_end(&c->operations);
    pool_end(&c->pieces);
    pool_end(&c->refusals);
    free(c->effects);
    free(c->events);
    free(c->out);
    free(c->garbage);
    free(c->addresses);
    free(c->ports);
    free(c);
}

/* Nothing is known of what was under way: nothing is sent any more, and every request ends. */
static void spend(aoe_core *c)
{
    c->spent = 1;
    c->out_count = 0;
    for (struct link *l = c->requests.next; l != &c->requests; l = l->next) {
        struct asked *a = OWNER_OF(l, struct asked, every);
        if (!a->ended)
            progress_end(c, a, AOE_ENDED_NO_MEMORY);
    }
}

/* What may need memory, and ends the core where there is none. */
#define GUARDED(c, work)                                                                                               \
    do {                                                                                                               \
        jmp_buf here;                                                                                                  \
        jmp_buf *before = memory_escape(&here);                                                                        \
        if (setjmp(here))                                                                                              \
            spend(c);                                                                                                  \
        else if ((c)->spent)                                                                                           \
            spend(c);                                                                                                  \
        else                                                                                                           \
            work;                                                                                                      \
        memory_escape(before);                                                                                         \
    } while (0)

static void see_time(aoe_core *c, int64_t now_ns)
{
    int64_t gap_ns = c->seen_ns ? now_ns - c->seen_ns : 0;
    c->seen_ns = now_ns > c->seen_ns ? now_ns : c->seen_ns;
    if (gap_ns >= c->set.timing.gap_ns) {
        c->stood_ns += gap_ns;
        proof_stand_still(&c->proof, gap_ns);
        session_stand_still(c, gap_ns, now_ns);
        run(c, now_ns);
    }
}

int64_t aoe_core_own_time(aoe_core *c, int64_t now_ns)
{
    GUARDED(c, see_time(c, now_ns));
    return now_ns - c->stood_ns;
}

static void set_port(aoe_core *c, uint32_t port, const aoe_core_port *now, int64_t now_ns)
{
    see_time(c, now_ns);
    session_set_port(c, port, now, now_ns);
    run(c, now_ns);
}

void aoe_core_set_port(aoe_core *c, uint32_t port, const aoe_core_port *now, int64_t now_ns)
{
    GUARDED(c, set_port(c, port, now, now_ns));
}

static void receive(aoe_core *c, uint32_t port, const uint8_t *frame, uint32_t length, int64_t now_ns)
{
    see_time(c, now_ns);
    session_received(c, port, frame, length, now_ns);
    run(c, now_ns);
}

void aoe_core_receive(aoe_core *c, uint32_t port, const uint8_t *frame, uint32_t length, int64_t now_ns)
{
    GUARDED(c, receive(c, port, frame, length, now_ns));
}

static void tick(aoe_core *c, int64_t now_ns)
{
    see_time(c, now_ns);
    session_tick(c, now_ns);
    run(c, now_ns);
}

void aoe_core_tick(aoe_core *c, int64_t now_ns)
{
    GUARDED(c, tick(c, now_ns));
}

static void start(aoe_core *c, struct asked *a, uint32_t number, int64_t now_ns)
{
    see_time(c, now_ns);
    struct path *path = path_numbered(c, number);
    uint32_t why_not = split_refused(c, &a->request, path);
    if (why_not)
        progress_end(c, a, why_not);
    else
        split_begin(c, a, path, now_ns);
    run(c, now_ns);
}

aoe_request *aoe_core_start(aoe_core *c, uint32_t verb, uint64_t offset, uint64_t length, uint8_t *data,
                            uint64_t data_length, uint32_t number, uint64_t user, int64_t now_ns)
{
    struct asked *a = malloc(sizeof *a);
    if (!a)
        return NULL;
    *a = (struct asked){.request = {user, offset, length, data, data_length, 0, verb, AOE_ENDED_OK, 0, 0}};
    link_init(&a->pieces);
    link_init(&a->done);
    link_append(&c->requests, &a->every);
    GUARDED(c, start(c, a, number, now_ns));
    return &a->request;
}

/* Whether it would be sent as soon as there is room. */
static int is_waiting(const struct operation *o)
{
    int waits = 0;
    for (const struct link *l = o->exchanges.next; l != &o->exchanges; l = l->next)
        waits |= OWNER_OF(l, struct exchange, of_operation)->waits;
    return waits;
}

static void abandon(aoe_core *c, struct asked *a, int64_t now_ns)
{
    see_time(c, now_ns);
    for (int waits = 1; waits >= 0; waits--) { /* what waits first, or it would be sent now */
        struct link *next;
        for (struct link *l = a->pieces.next; l != &a->pieces; l = next) {
            struct piece *p = OWNER_OF(l, struct piece, of_request);
            next = l->next;
            if (waits && !(p->operation && is_waiting(p->operation)))
                continue;
            link_remove(&p->of_request);
            p->request = NULL;
            if (p->operation)
                session_abandon(c, p->operation, now_ns);
            if (p->echo)
                echo_given_up(c, p, now_ns);
        }
    }
    run(c, now_ns);
}

void aoe_core_abandon(aoe_core *c, aoe_request *request, int64_t now_ns)
{
    struct asked *a = (struct asked *)request;
    GUARDED(c, abandon(c, a, now_ns));
    link_remove(&a->done);
    aoe_core_free(c, request);
}

aoe_request *aoe_core_done(aoe_core *c)
{
    if (link_alone(&c->done))
        return NULL;
    struct asked *a = OWNER_OF(c->done.next, struct asked, done);
    link_remove(&a->done);
    return &a->request;
}

uint32_t aoe_core_out(aoe_core *c, aoe_out **out)
{
    *out = c->out;
    return c->out_count;
}

void aoe_core_sent(aoe_core *c)
{
    c->out_count = 0;
    while (c->garbage_count)
        free(c->garbage[--c->garbage_count]);
}

static void change_owner(aoe_core *c, uint32_t number, int64_t now_ns, volatile int *done)
{
    see_time(c, now_ns);
    struct path *path = path_numbered(c, number);
    *done = path && session_switch(c, path, now_ns);
    run(c, now_ns);
}

int aoe_core_switch(aoe_core *c, uint32_t number, int64_t now_ns)
{
    volatile int done = 0;
    GUARDED(c, change_owner(c, number, now_ns, &done));
    return done && !c->spent;
}

static void fenced(aoe_core *c, uint32_t number, int64_t now_ns)
{
    see_time(c, now_ns);
    struct path *path = path_numbered(c, number);
    if (path)
        session_fenced(c, path, now_ns);
    run(c, now_ns);
}

void aoe_core_fenced(aoe_core *c, uint32_t number, int64_t now_ns)
{
    GUARDED(c, fenced(c, number, now_ns));
}

static void left_is_over(aoe_core *c, const uint8_t *mac, uint32_t address, int64_t now_ns)
{
    see_time(c, now_ns);
    debts_over(&c->debts, mac, address);
    run(c, now_ns);
}

void aoe_core_left_is_over(aoe_core *c, const uint8_t *mac, uint32_t address, int64_t now_ns)
{
    GUARDED(c, left_is_over(c, mac, address, now_ns));
}

void aoe_core_late(aoe_core *c, int64_t since_ns, int64_t until_ns)
{
    debts_sent(&c->debts, since_ns, until_ns);
}

int64_t aoe_core_pulse(const aoe_core *c)
{
    return session_pulse(c);
}

uint64_t aoe_core_news(const aoe_core *c)
{
    return c->news;
}

int aoe_core_chosen(const aoe_core *c)
{
    return c->chosen;
}

int aoe_core_comparing(const aoe_core *c)
{
    int comparing = 0;
    for (uint32_t i = 0; i < c->paths_count; i++)
        comparing |= path_samples(c->paths[i]);
    return comparing;
}

int aoe_core_identity(const aoe_core *c, uint8_t *data)
{
    if (c->has_facts)
        memcpy(data, c->facts, SECTOR);
    return c->has_facts;
}

int aoe_core_disk(const aoe_core *c, aoe_disk *disk)
{
    *disk = (aoe_disk){
        .size = c->sectors * SECTOR,
        .physical_block = facts_physical_block(c->facts),
        .trims = trim_blocks_of(c->facts) > 0,
        .zeroes = (uint32_t)zeroes_of(c->facts),
    };
    facts_serial(c->facts, disk->serial);
    return c->has_facts;
}

uint32_t aoe_core_paths(const aoe_core *c, aoe_path *paths, uint32_t room)
{
    for (uint32_t i = 0; i < c->paths_count && i < room; i++) {
        const struct path *path = c->paths[i];
        struct sizes_shown shown = sizes_shown(&path->sizes);
        paths[i] = (aoe_path){
            .number = path->number,
            .port = path->port,
            .state = (uint32_t)life_shown(path->state),
            .reason = (uint32_t)path->reason,
            .owner = path == c->owner,
            .sectors = shown.there < shown.back ? shown.there : shown.back,
            .sectors_max = path->sectors,
            .narrow = (uint32_t)shown.narrow,
            .unsettled = path->lanes[LANE_CHANGES].unsettled_count,
            .renewed = path->renewed,
            .shelf = path->shelf,
            .slot = path->slot,
            .rtt_ns = path->lanes[LANE_READS].shown_ns,
            .proved = path->trial.proved || !c->chosen,
            .lba = path->trial.lba,
            .draining = (uint32_t)path->draining,
            .copy = (uint32_t)path->trial.copy,
        };
        memcpy(paths[i].mac, path->mac, 6);
    }
    return c->paths_count;
}

uint32_t aoe_core_debts(const aoe_core *c, aoe_debt *debts)
{
    return debts_all(&c->debts, debts);
}

uint64_t aoe_core_debts_news(const aoe_core *c)
{
    return c->debts.news;
}

uint32_t aoe_core_left(const aoe_core *c)
{
    return c->debts.left_count;
}

void aoe_core_count(const aoe_core *c, uint64_t *counters)
{
    memcpy(counters, c->counters, sizeof c->counters);
}
