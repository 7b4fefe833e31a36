/* Whether servers have one disk: what proof.c finds out means this for paths. As in aoe/initiator/trial.py. */
#include <string.h>

#include "session.h"

/* Whether two paths lead to one life of one server: by its MAC, or, where it has several network cards, by its
 * instance: 64 bits that a target of ours draws when it starts. One address is one export of it. */
int trial_same_server(const struct path *path, const struct path *other)
{
    if (path == other)
        return 1;
    if (!path->identified || !other->identified || path->ours != other->ours || path->instance != other->instance)
        return 0;
    return path->shelf == other->shelf && path->slot == other->slot && (!memcmp(path->mac, other->mac, 6) ||
                                                                        path->ours);
}

/* Whether it is another path to the server of the owner. */
int trial_leads_to_owner(const aoe_core *c, const struct path *path)
{
    return c->owner && trial_same_server(path, c->owner);
}

/* All paths to a server have the same. */
void trial_share(aoe_core *c, const struct path *path)
{
    for (uint32_t i = 0; i < c->paths_count; i++)
        if (c->paths[i] != path && trial_same_server(c->paths[i], path))
            c->paths[i]->trial = path->trial;
}

/* A server that is new, or has started again: its trial begins, or another path there has begun it. */
void trial_meet(const aoe_core *c, struct path *path)
{
    path->trial = (struct trial){0};
    for (uint32_t i = 0; i < c->paths_count; i++) {
        if (c->paths[i] == path || !trial_same_server(c->paths[i], path))
            continue;
        path->trial = c->paths[i]->trial;
        return;
    }
}

/* What others were compared with is no more: the disk is what this server has. */
void trial_refer_to(aoe_core *c, const struct path *path)
{
    for (uint32_t i = 0; i < c->paths_count; i++) {
        struct trial *t = &c->paths[i]->trial;
        if (trial_same_server(c->paths[i], path))
            continue;
        t->sampled = t->proved = t->copy = 0;
        t->condemned = WHY_NONE;
        t->misses = 0;
    }
}

/* Whether it has to be proved before it takes over: as long as one that is may come back. When all have started again,
 * there is none, and it is as it was at first. */
int trial_is_barred(const aoe_core *c, const struct path *path)
{
    int proved = 0;
    for (uint32_t i = 0; i < c->paths_count; i++)
        proved |= c->paths[i]->trial.proved;
    return c->set.require && !path->trial.proved && proved;
}

/* Whether a path would be used beside another one. One that is barred stands back behind those that are proved, even
 * while they do not answer: it would keep them out when they come back, and they it for ever. */
int trial_is_company(const aoe_core *c, const struct path *path, const struct path *other)
{
    return other->state == PATH_USABLE || (!c->owner && other->trial.proved && trial_is_barred(c, path));
}

/* Whether they say of the same kind of id that their stores are not one. */
static int other_store(const struct path *path, const struct path *other)
{
    return path->store_kind && path->store_kind == other->store_kind && memcmp(path->store, other->store,
                                                                               sizeof path->store) != 0;
}

/* They say that their stores are copies of one image that is never written to: no write will prove them. */
void trial_prove_copy(aoe_core *c, struct path *path)
{
    struct path *both[2] = {c->owner, path};
    if (!c->owner || path->store_kind != STORE_IMAGE || c->owner->store_kind != STORE_IMAGE || other_store(path, c->owner))
        return;
    for (int i = 0; i < 2; i++) {
        both[i]->trial.proved = both[i]->trial.copy = 1;
        trial_share(c, both[i]);
    }
}

int trial_has_other_store(const aoe_core *c, const struct path *path)
{
    for (uint32_t i = 0; i < c->paths_count; i++) {
        const struct path *other = c->paths[i];
        int compared = c->owner ? other == c->owner : trial_is_company(c, path, other);
        if (compared && other->identified && !trial_same_server(other, path) && other_store(path, other))
            return 1;
    }
    return 0;
}

/* Whether a path has to be compared with the owner before it is usable. */
int trial_is_unsure(const aoe_core *c, const struct path *path)
{
    return c->owner && !path->trial.sampled && !path->trial.proved && !trial_leads_to_owner(c, path);
}

/* Whether a proved server is usable. */
static int proved_usable(const aoe_core *c)
{
    for (uint32_t i = 0; i < c->paths_count; i++)
        if (c->paths[i]->state == PATH_USABLE && c->paths[i]->trial.proved)
            return 1;
    return 0;
}

/* Whether a path takes over at once where there is no owner: a proved one goes first. */
int trial_may_inherit(const aoe_core *c, const struct path *path)
{
    return path->trial.proved || !(proved_usable(c) || trial_is_barred(c, path));
}

/* A proved one, and of such one that is not to be left. */
static int goes_before(const struct path *path, const struct path *other)
{
    if (path->trial.proved != other->trial.proved)
        return path->trial.proved;
    return path->draining < other->draining;
}

/* Which path takes over where the proved ones do not answer, either. */
struct path *trial_heir(const aoe_core *c)
{
    struct path *heir = NULL;
    for (uint32_t i = 0; i < c->paths_count; i++) {
        struct path *path = c->paths[i];
        if (path->state != PATH_USABLE || path->check || !path->vouched || trial_is_barred(c, path))
            continue;
        if (!heir || goes_before(path, heir))
            heir = path;
    }
    return heir;
}

/* The owner has started again: whether a proved server, if there is one, is the owner from now on. Else this is what
 * the disk is; it counts as proved where there never was another. */
static int gives_way(aoe_core *c, struct path *path)
{
    int others = 0, usable = 0;
    for (uint32_t i = 0; i < c->paths_count; i++) {
        const struct path *other = c->paths[i];
        if (trial_same_server(other, path) || !other->trial.proved)
            continue;
        others = 1;
        usable |= other->state == PATH_USABLE;
    }
    if (others && (c->set.require || usable))
        return 1;
    trial_refer_to(c, path);
    path->trial.proved = !others;
    trial_share(c, path);
    return 0;
}

/* Others are compared with one that is the owner from now on. */
void trial_compare_all(aoe_core *c)
{
    for (uint32_t i = 0; i < c->paths_count; i++)
        if (c->paths[i]->state == PATH_USABLE && trial_is_unsure(c, c->paths[i]))
            board_note(c, c->paths[i], HAPPENS_DOUBTED, WHY_NONE);
}

/* The owner has started again: whether another one is it from now on. */
int trial_is_replaced(aoe_core *c, struct path *path)
{
    if (path->trial.proved) /* another path there has seen to it */
        return 0;
    if (gives_way(c, path))
        return 1;
    trial_compare_all(c);
    return 0;
}
