/* What happens to paths, as life.c has it, and which of them is the owner. As aoe/initiator/lifecycle.py. */
#include <assert.h>

#include "session.h"

static void take_over(aoe_core *c, struct path *path, int64_t now_ns)
{
    if (c->unflushed && c->unflushed != path)
        c->losses++;
    if (!path->trial.proved)
        trial_refer_to(c, path);
    handover_over(c, now_ns);
    c->owner = path;
    path->io_ns = now_ns;
    c->news++;
    trial_compare_all(c);
    traffic_release(c, now_ns);
}

static void put_to_use(aoe_core *c, struct path *path, int64_t now_ns)
{
    if (!c->owner && c->chosen && trial_may_inherit(c, path))
        take_over(c, path, now_ns);
    else
        traffic_release(c, now_ns);
}

/* What an earlier life left in a volatile cache is there still, or the next FLUSH fails (I6). */
static void answer_for_cache(aoe_core *c, struct path *owner)
{
    aoe_debt *left = &c->debts.left_cache;
    if (!left->cached)
        return;
    left->cached = 0;
    int there = left->instance == owner->instance && left->shelf == owner->shelf && left->slot == owner->slot &&
                same_mac(left->mac, owner->mac) && owner->volatile_cache;
    if (there) {
        c->unflushed = owner;
        debts_cache(&c->debts, owner);
    } else {
        c->losses++;
        c->debts.news++;
    }
}

/* Choose the first owner: when every address has a path, or those that have none take too long. */
void lifecycle_settle_in(aoe_core *c, int64_t now_ns)
{
    struct path *first = NULL;
    int all_looked_at = 1;
    for (uint32_t i = 0; i < c->paths_count; i++) {
        struct path *path = c->paths[i];
        if (path->state == PATH_USABLE && (!first || path->draining < first->draining))
            first = path;
    }
    if (!first)
        return;
    for (uint32_t a = 0; a < c->set.addresses; a++)
        all_looked_at &= discovery_looked_at(c, c->addresses[a]);
    if (now_ns - c->usable_ns >= (all_looked_at ? c->set.timing.settle_in_ns : c->set.timing.query_max_ns)) {
        c->chosen = 1;
        first->trial.proved = 1;
        trial_share(c, first);
        answer_for_cache(c, first);
        board_note(c, first, HAPPENS_CHOSEN, WHY_NONE);
    }
}

static void give_up(aoe_core *c, struct path *path, int64_t now_ns)
{
    path->vouched = 0;
    struct exchange *looks[] = {path->check, path->question};
    path->check = path->question = NULL;
    if (path == c->owner) {
        handover_over(c, now_ns);
        c->owner = NULL;
        c->lost_ns = now_ns;
    }
    traffic_take_back_all(c, path, now_ns);
    while (!link_alone(&path->refused)) {
        struct operation *o = OWNER_OF(path->refused.next, struct operation, held_link);
        link_remove(&o->held_link);
        if (!o->only)
            traffic_hold(c, o);
    }
    for (int i = 0; i < 2; i++)
        if (looks[i])
            traffic_abandon_exchange(c, looks[i], now_ns);
}

static void turn(aoe_core *c, int64_t now_ns)
{
    if (c->owner) {
        traffic_release(c, now_ns);
        return;
    }
    for (uint32_t i = 0; i < c->paths_count; i++)
        if (now_ns >= c->paths[i]->check_after_ns)
            looks_look(c, c->paths[i], now_ns);
}

static void vouch(aoe_core *c, struct path *path)
{
    c->news += !path->vouched;
    path->vouched = 1;
}

/* How soon one that is refused is looked at again. */
static int64_t refused_ns(const aoe_core *c, const struct path *path)
{
    return c->owner && c->owner != path ? c->set.timing.query_idle_ns : c->set.timing.recheck_ns;
}

static void carry_out(aoe_core *c, struct path *path, int deed, int64_t now_ns)
{
    switch (deed) {
    case DO_GIVE_UP: give_up(c, path, now_ns); break;
    case DO_TURN: turn(c, now_ns); break;
    case DO_VOUCH: vouch(c, path); break;
    case DO_LOOK: looks_look(c, path, now_ns); break;
    case DO_RESIZE: sizes_restart(&path->sizes, now_ns); break;
    case DO_MEASURE: health_measure(c, path, now_ns); break;
    case DO_USE: put_to_use(c, path, now_ns); break;
    case DO_OWN: take_over(c, path, now_ns); break;
    case DO_AGAIN_SOON: path->check_after_ns = now_ns + c->set.timing.recheck_ns; break;
    case DO_AGAIN_SLOW: path->check_after_ns = now_ns + c->set.timing.slow_ns; break;
    case DO_AGAIN_REFUSED: path->check_after_ns = now_ns + refused_ns(c, path); break;
    default: path->check_after_ns = now_ns + c->set.timing.condemned_ns;
    }
}

static void become(aoe_core *c, struct path *path, int state, int reason, int64_t now_ns)
{
    if (path->state == state && path->reason == reason)
        return;
    if (state == PATH_USABLE) {
        path->usable_ns = now_ns;
        if (!c->usable_ns)
            c->usable_ns = now_ns;
    }
    path->state = state;
    path->reason = reason;
    c->news++;
}

/* As the table of a path's life has it. */
void lifecycle_happened(aoe_core *c, const struct effect *e, int64_t now_ns)
{
    struct path *path = e->path;
    const struct life_row *row = &life_table[path->state][e->happens];
    assert(row->is_there && "this happens to a path in such a state");
    if (!row->stays)
        become(c, path, row->to, e->reason, now_ns);
    for (const uint8_t *deed = row->deeds; *deed; deed++)
        carry_out(c, path, *deed, now_ns);
}

/* The proved ones do not answer, either. */
void lifecycle_inherit(aoe_core *c, int64_t now_ns)
{
    struct path *heir = trial_heir(c);
    if (heir && now_ns - c->lost_ns >= c->set.timing.probe_ns)
        board_note(c, heir, HAPPENS_CHOSEN, WHY_NONE);
}

/* An owner that is to be left is handed over instead. */
void lifecycle_go_back(aoe_core *c, int64_t now_ns)
{
    if (c->owner->draining)
        return;
    for (uint32_t i = 0; i < c->paths_count && c->paths[i] != c->owner; i++) {
        struct path *path = c->paths[i];
        int good = path->state == PATH_USABLE && path->trial.proved && !path->draining;
        if (good && now_ns - path->usable_ns >= c->set.failback_ns) {
            board_note(c, path, HAPPENS_CHOSEN, WHY_NONE);
            return;
        }
    }
}
