/* Whether servers have one disk: what proof.c finds out means this for ways. As in aoe/initiator/trial.py and session.py. */
#include <string.h>

#include "session.h"

/* Whether two ways lead to one life of one server: by its MAC, or, where it has several network cards, by its instance:
 * 64 bits that a target of ours draws when it starts. One address is one export of it. */
int trial_same_server(const struct way *w, const struct way *other)
{
    if (w == other)
        return 1;
    if (!w->identified || !other->identified || w->ours != other->ours || w->instance != other->instance)
        return 0;
    return w->shelf == other->shelf && w->slot == other->slot && (!memcmp(w->mac, other->mac, 6) || w->ours);
}

/* Whether it is another way to the server of the owner. */
int trial_leads_to_owner(const aoe_core *c, const struct way *w)
{
    return c->owner && trial_same_server(w, c->owner);
}

/* All ways to a server have the same. */
void trial_share(aoe_core *c, const struct way *w)
{
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (c->ways[i] != w && trial_same_server(c->ways[i], w))
            c->ways[i]->trial = w->trial;
}

/* A server that is new, or has started again: its trial begins, or another way there has begun it. */
void trial_meet(const aoe_core *c, struct way *w)
{
    w->trial = (struct trial){0};
    for (uint32_t i = 0; i < c->ways_count; i++) {
        if (c->ways[i] == w || !trial_same_server(c->ways[i], w))
            continue;
        w->trial = c->ways[i]->trial;
        return;
    }
}

/* What others were compared with is no more: the disk is what this server has. */
void trial_refer_to(aoe_core *c, const struct way *w)
{
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct trial *t = &c->ways[i]->trial;
        if (trial_same_server(c->ways[i], w))
            continue;
        t->sampled = t->proved = 0;
        t->condemned = WHY_NONE;
        t->misses = 0;
    }
}

/* Whether they say of the same kind of id that their stores are not one. */
static int other_store(const struct way *w, const struct way *other)
{
    return w->store_kind && w->store_kind == other->store_kind && memcmp(w->store, other->store, sizeof w->store) != 0;
}

int trial_has_other_store(const aoe_core *c, const struct way *w)
{
    for (uint32_t i = 0; i < c->ways_count; i++) {
        const struct way *other = c->ways[i];
        int compared = c->owner ? other == c->owner : other->state == WAY_USABLE;
        if (compared && other->identified && !trial_same_server(other, w) && other_store(w, other))
            return 1;
    }
    return 0;
}

/* Whether a way has to be compared with the owner before it is usable. */
int trial_is_unsure(const aoe_core *c, const struct way *w)
{
    return c->owner && !w->trial.sampled && !w->trial.proved && !trial_leads_to_owner(c, w);
}

/* Whether a proved server is usable. */
static int proved_usable(const aoe_core *c)
{
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (c->ways[i]->state == WAY_USABLE && c->ways[i]->trial.proved)
            return 1;
    return 0;
}

/* Whether it has to be proved before it takes over: as long as one that is may come back. When all have started again,
 * there is none, and it is as it was at first. */
int trial_is_barred(const aoe_core *c, const struct way *w)
{
    int proved = 0;
    for (uint32_t i = 0; i < c->ways_count; i++)
        proved |= c->ways[i]->trial.proved;
    return c->set.require && !w->trial.proved && proved;
}

/* Whether a way takes over at once where there is no owner: a proved one goes first. */
int trial_may_inherit(const aoe_core *c, const struct way *w)
{
    return w->trial.proved || !(proved_usable(c) || trial_is_barred(c, w));
}

/* Which way takes over where the proved ones do not answer, either. */
struct way *trial_heir(const aoe_core *c)
{
    struct way *heir = NULL;
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *w = c->ways[i];
        if (w->state != WAY_USABLE || w->check || !w->vouched || trial_is_barred(c, w))
            continue;
        if (!heir || (w->trial.proved && !heir->trial.proved))
            heir = w;
    }
    return heir;
}

/* The owner has started again: whether a proved server, if there is one, is the owner from now on. Else this is what
 * the disk is; it counts as proved where there never was another. */
static int gives_way(aoe_core *c, struct way *w)
{
    int others = 0, usable = 0;
    for (uint32_t i = 0; i < c->ways_count; i++) {
        const struct way *other = c->ways[i];
        if (trial_same_server(other, w) || !other->trial.proved)
            continue;
        others = 1;
        usable |= other->state == WAY_USABLE;
    }
    if (others && (c->set.require || usable))
        return 1;
    trial_refer_to(c, w);
    w->trial.proved = !others;
    trial_share(c, w);
    return 0;
}

/* Others are compared with one that is the owner from now on. */
void trial_compare_all(aoe_core *c)
{
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (c->ways[i]->state == WAY_USABLE && trial_is_unsure(c, c->ways[i]))
            board_note(c, c->ways[i], HAPPENS_DOUBTED, WHY_NONE);
}

/* The owner has started again: whether another one is it from now on. */
int trial_is_replaced(aoe_core *c, struct way *w)
{
    if (w->trial.proved) /* another way there has seen to it */
        return 0;
    if (gives_way(c, w))
        return 1;
    trial_compare_all(c);
    return 0;
}
