#include "cuts.h"

#include <errno.h>

#include "cloner.h"
#include "operations.h"

enum { WORD = 32 };

/* What Python sees: the number of a cut, its errno, its stage. */
static void tell(struct thread *t, struct export *x, uint64_t number, uint32_t stage, int error)
{
    uint64_t word = number << WORD | (uint64_t)error << 8 | stage;
    atomic_store_explicit(&x->cut_stage, word, memory_order_release);
    t->up_news = 1;
}

static void free_cut(struct cutting *c)
{
    cloner_close(c->cloner);
    free(c->cut);
    free(c);
}

static void let_go(struct thread *t, struct op *op)
{
    for (struct op *next; op; op = next) {
        next = op->link;
        operation_run(t, op);
    }
}

static void unlink_cutting(struct thread *t, struct export *x)
{
    struct export **at = &t->cuts;
    while (*at != x)
        at = &(*at)->next_cut;
    *at = x->next_cut;
    x->cutting = NULL;
    x->snapshot = NULL;
}

/* Changes wait for nothing any more. */
static void end(struct thread *t, struct export *x, uint32_t stage, int error)
{
    struct cutting *c = x->cutting;
    *c->freed_tail = cut_end(c->cut);
    struct op *freed = c->freed;
    unlink_cutting(t, x);
    tell(t, x, c->number, stage, error);
    free_cut(c);
    let_go(t, freed);
}

static void adopt_new(struct thread *t, struct export *x, struct cutting *c)
{
    if (x->cutting) /* Python asks for another one when it has no use for this one */
        end(t, x, AOE_CUT_NONE, 0);
    x->cutting = c;
    x->snapshot = c->cut;
    x->next_cut = t->cuts;
    t->cuts = x;
    c->stage = AOE_CUT_BEGINS;
    c->freed_tail = &c->freed;
    number_put(&x->cut_cloned, 0);
}

static uint32_t asked(const struct export *x)
{
    uint64_t word = atomic_load_explicit(&x->cut_asked, memory_order_acquire);
    return x->cutting && word >> WORD == x->cutting->number ? (uint32_t)word : AOE_CUT_NONE;
}

void cuts_adopt(struct thread *t, struct export *x)
{
    struct cutting *next = atomic_exchange(&x->cut_next, NULL);
    if (next)
        adopt_new(t, x, next);
    if (asked(x) == AOE_CUT_ENDS)
        end(t, x, AOE_CUT_NONE, 0);
}

/* A change that was let through before the cut, and is not over. One that is delayed has not begun. */
static int under_way(const struct thread *t, const struct op *op)
{
    return cut_concerns(op) && op->state != S_WAITING && !op->kept && op->begin_ns <= t->boot_ns;
}

static int holds(const struct thread *t, const struct export *x)
{
    const struct op *op = x->order.head;
    while (op && !under_way(t, op))
        op = op->next;
    return !op;
}

static void ask(struct cutting *c)
{
    int64_t needed = cut_needed(c->cut), range = needed < 0 ? cut_following(c->cut) : needed;
    if (c->asked == CLONER_NEEDED || (c->asked == CLONER_RESTS && needed < 0))
        return;
    assert(range >= 0);
    cloner_ask(c->cloner, (uint32_t)range, needed < 0 ? c->rest_ns : 0);
    c->asked = needed < 0 ? CLONER_RESTS : CLONER_NEEDED;
}

static void rest_after(struct cutting *c, uint64_t took_ns)
{
    c->rest_ns = took_ns < c->rest_max_ns ? took_ns : c->rest_max_ns;
}

/* To clone waits for the writes that are at the disk, so some ranges that are needed are cloned one after the other
 * before the changes that waited for them go there. */
static void freed(struct thread *t, struct cutting *c, struct op *waited)
{
    *c->freed_tail = waited;
    while (*c->freed_tail)
        c->freed_tail = &(*c->freed_tail)->link;
    ask(c); /* before the changes: they may take the processor */
    if (c->asked == CLONER_NEEDED && ++c->batch < c->batch_max)
        return;
    struct op *all = c->freed;
    c->freed = NULL;
    c->freed_tail = &c->freed;
    c->batch = 0;
    let_go(t, all);
}

/* What was cloned, and what is to be next; whether there was anything. */
static int go_on(struct thread *t, struct export *x)
{
    struct cutting *c = x->cutting;
    struct cloned done;
    int any = cloner_take(c->cloner, &done);
    if (any && done.error) {
        end(t, x, AOE_CUT_FAILED, done.error);
        return 1;
    }
    if (any) {
        c->asked = CLONER_FREE;
        rest_after(c, done.took_ns);
        struct op *waited = cut_has(c->cut, done.first, done.last);
        number_put(&x->cut_cloned, c->cut->count - c->cut->left);
        if (c->cut->left) {
            freed(t, c, waited);
        } else {
            assert(!c->cut->kept);
            end(t, x, AOE_CUT_WHOLE, 0);
            let_go(t, waited);
        }
    } else {
        ask(c);
    }
    return any;
}

static int look(struct thread *t, struct export *x)
{
    struct cutting *c = x->cutting;
    if (c->stage == AOE_CUT_BEGINS && holds(t, x)) {
        c->stage = AOE_CUT_HOLDS;
        tell(t, x, c->number, AOE_CUT_HOLDS, 0);
    }
    if (c->stage == AOE_CUT_HOLDS && asked(x) == AOE_CUT_GOES)
        c->stage = AOE_CUT_GOES;
    return c->stage == AOE_CUT_GOES && go_on(t, x);
}

int cuts_look(struct thread *t)
{
    int any = 0;
    for (struct export *x = t->cuts, *next; x; x = next) {
        next = x->next_cut;
        any |= look(t, x);
    }
    return any;
}

void cuts_forget(struct thread *t, struct export *x)
{
    cuts_adopt(t, x);
    if (x->cutting)
        end(t, x, AOE_CUT_FAILED, ENODEV);
}

void cuts_drop(struct export *x)
{
    struct cutting *next = atomic_exchange(&x->cut_next, NULL);
    if (next)
        free_cut(next);
    if (x->cutting)
        free_cut(x->cutting);
    x->cutting = NULL;
}

/* What Python calls */

int64_t aoe_engine_cut(aoe_engine *e, uint32_t index, const aoe_cut *wanted)
{
    assert(index < e->set.exports && wanted->step);
    struct export *x = &e->exports[index];
    uint32_t owner = atomic_load(&x->owner);
    int error = ENOMEM;
    if (owner == NO_THREAD)
        return -ENODEV;
    struct thread *t = &e->threads[owner];
    struct cutting *c = calloc(1, sizeof *c);
    struct cut *cut = cut_new(wanted->length, wanted->step);
    struct cloner *cloner =
        c && cut ? cloner_open(wanted->of, wanted->into, wanted->length, wanted->step, t->event, &error) : NULL;
    if (!cloner) {
        free(cut);
        free(c);
        return -error;
    }
    *c = (struct cutting){.cut = cut, .cloner = cloner, .number = ++x->cut_number, .rest_max_ns = wanted->rest_max_ns};
    c->batch_max = wanted->batch;
    int64_t its_number = (int64_t)c->number;
    atomic_store(&x->cut_asked, c->number << WORD | AOE_CUT_BEGINS);
    struct cutting *last = atomic_exchange(&x->cut_next, c);
    if (last)
        free_cut(last);
    thread_wake(t);
    return its_number;
}

void aoe_engine_cut_ask(aoe_engine *e, uint32_t index, int64_t which, uint32_t what)
{
    assert(index < e->set.exports);
    struct export *x = &e->exports[index];
    uint32_t owner = atomic_load(&x->owner);
    if (owner == NO_THREAD || (uint64_t)which != x->cut_number)
        return;
    atomic_store_explicit(&x->cut_asked, (uint64_t)which << WORD | what, memory_order_release);
    thread_wake(&e->threads[owner]);
}

void aoe_engine_cut_look(aoe_engine *e, uint32_t index, int64_t which, aoe_cut_state *state)
{
    assert(index < e->set.exports);
    struct export *x = &e->exports[index];
    uint64_t word = atomic_load_explicit(&x->cut_stage, memory_order_acquire);
    int is_it = word >> WORD == (uint64_t)which;
    state->stage = is_it ? word & 0xff : AOE_CUT_BEGINS;
    state->error = is_it ? word >> 8 & 0xffff : 0;
    state->cloned = number(&x->cut_cloned);
}
