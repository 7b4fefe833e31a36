/* Snapshots of the exports: in place of target/cloner.c, what clones when the script says so, and the judgement of
 * what came of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "target/cloner.h"

enum { STEP = 4096, REST_MAX_NS = 1000, LENGTH = FILE_SECTORS * SECTOR };

struct cloner {
    int export, asked, half, is_done;
    uint32_t range;
    struct cloned done;
};

/* Of an export: what its store had at the moment, and what was cloned since. */
static struct snapshot {
    struct cloner *cloner;
    int64_t number; /* 0: none is being made */
    int holds, goes, fails;
    uint8_t expected[LENGTH], found[LENGTH];
} snapshots[EXPORTS];

void snapshots_reset(void)
{
    for (int i = 0; i < EXPORTS; i++)
        snapshots[i].cloner = NULL;
    for (int i = 0; i < EXPORTS; i++)
        snapshots[i].number = 0;
}

struct cloner *cloner_open(int of, int into, uint64_t length, uint64_t step, int event, int *error)
{
    (void)into, (void)event;
    CHECK(length == LENGTH && step == STEP);
    struct cloner *c = calloc(1, sizeof *c);
    CHECK(c != NULL);
    while (store_fd[c->export] != of)
        c->export++;
    snapshots[c->export].cloner = c;
    *error = 0;
    return c;
}

void cloner_ask(struct cloner *c, uint32_t range, uint64_t rest_ns)
{
    CHECK(range < LENGTH / STEP && rest_ns <= REST_MAX_NS && !c->is_done);
    CHECK(snapshots[c->export].cloner != c || snapshots[c->export].goes); /* nothing is cloned before the moment */
    if (c->half) /* it is being cloned */
        return;
    c->asked = 1;
    c->range = range;
}

int cloner_take(struct cloner *c, struct cloned *done)
{
    int is_done = c->is_done;
    c->is_done = 0;
    *done = c->done;
    return is_done;
}

void cloner_close(struct cloner *c)
{
    if (snapshots[c->export].cloner == c)
        snapshots[c->export].cloner = NULL;
    free(c);
}

static void look(int export, uint64_t at, uint64_t length, uint8_t *bytes)
{
    CHECK(pread(store_fd[export], bytes, length, (off_t)(stores[export].base + at)) == (ssize_t)length);
}

/* Half of a range: what changes before the other half is found out. */
static void clone_half(struct snapshot *s, int export)
{
    struct cloner *c = s->cloner;
    if (!c || !c->asked)
        return;
    uint64_t at = (uint64_t)c->range * STEP + (c->half ? STEP / 2 : 0);
    look(export, at, STEP / 2, s->found + at);
    c->half = !c->half;
    if (c->half && !planted(8))
        return;
    c->half = 0;
    c->asked = 0;
    c->is_done = 1;
    c->done = (struct cloned){.first = c->range, .last = c->range + 1, .error = s->fails ? ENOSPC : 0, .took_ns = 2000};
}

static void begin(struct snapshot *s, int export)
{
    aoe_cut cut = {.of = store_fd[export], .into = -1, .length = LENGTH, .step = STEP, .rest_max_ns = REST_MAX_NS, .batch = 3};
    int64_t number = aoe_engine_cut(engine, (uint32_t)export, &cut);
    if (number == -ENODEV)
        return;
    CHECK(number > 0);
    s->number = number;
    s->holds = s->goes = s->fails = 0;
}

static void end(struct snapshot *s, int export)
{
    aoe_engine_cut_ask(engine, (uint32_t)export, s->number, AOE_CUT_ENDS);
    s->number = 0;
}

/* From the moment on nothing changes before it is cloned. */
void snapshots_look(int export)
{
    struct snapshot *s = &snapshots[export];
    uint8_t now[LENGTH];
    aoe_cut_state state;
    if (!s->number)
        return;
    aoe_engine_cut_look(engine, (uint32_t)export, s->number, &state);
    look(export, 0, LENGTH, now);
    if (!s->holds && state.stage == AOE_CUT_HOLDS)
        memcpy(s->expected, now, LENGTH);
    s->holds |= state.stage == AOE_CUT_HOLDS;
    if (s->holds && !s->goes)
        CHECK(!memcmp(s->expected, now, LENGTH));
    if (state.stage == AOE_CUT_WHOLE)
        CHECK(s->goes && !s->fails && !memcmp(s->expected, s->found, LENGTH) && state.cloned == LENGTH / STEP);
    if (state.stage == AOE_CUT_FAILED)
        CHECK((s->fails && state.error == ENOSPC) || state.error == ENODEV);
    if (state.stage == AOE_CUT_WHOLE || state.stage == AOE_CUT_FAILED)
        s->number = 0;
}

static void go(struct snapshot *s, int export)
{
    snapshots_look(export);
    if (!s->number || !s->holds)
        return;
    s->goes = 1;
    aoe_engine_cut_ask(engine, (uint32_t)export, s->number, AOE_CUT_GOES);
}

void snapshots_do(uint8_t how)
{
    int export = how & 3;
    struct snapshot *s = &snapshots[export];
    switch (how >> 2 & 3) {
    case 0:
        if (!s->number)
            begin(s, export);
        break;
    case 1: go(s, export); break;
    case 2:
        s->fails |= how >> 4 == 15;
        for (int halves = how >> 4 & 7; halves-- >= 0;)
            clone_half(s, export);
        break;
    default:
        if (s->number)
            end(s, export);
    }
}

void snapshots_go_on(void)
{
    for (int i = 0; i < EXPORTS; i++) {
        go(&snapshots[i], i);
        clone_half(&snapshots[i], i);
    }
}

int snapshots_over(void)
{
    int left = 0;
    for (int i = 0; i < EXPORTS; i++)
        left += snapshots[i].number != 0;
    return !left;
}
