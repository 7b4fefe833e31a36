/* Which path carries an operation, and what becomes of it. As aoe/initiator/traffic.py. */
#include <stdlib.h>
#include <string.h>

#include "session.h"

/* No answer to it is wanted any more. */
static void close_operation(aoe_core *c, struct operation *o, int64_t now_ns)
{
    struct link *next;
    if (link_alone(&o->exchanges))
        *board_event(c) = (struct event){.what = EFFECT_SETTLED, .operation = o};
    for (struct link *l = o->exchanges.next; l != &o->exchanges; l = next) {
        struct exchange *x = OWNER_OF(l, struct exchange, of_operation);
        next = l->next;
        if (x->open)
            traffic_abandon_exchange(c, x, now_ns);
    }
}

void traffic_conclude(aoe_core *c, struct operation *o, struct path *path, const uint8_t *raw, uint32_t length,
                      int good,
                     int64_t now_ns)
{
    o->open = 0;
    link_remove(&o->open_link);
    *board_event(c) = (struct event){EFFECT_ANSWERED, o, path, raw, length, 0, good};
    close_operation(c, o, now_ns);
}

/* Whether this is how a server says that it does not take so much in one request: ours and ggaoed abort the command,
 * vblade calls it a bad argument. */
static int refuses(const struct effect *e)
{
    const struct wire *said = wire_of(e->raw);
    if (e->good)
        return 0;
    if (wire_is_error(e->raw))
        return said->error == ERROR_BAD_ARGUMENT;
    return (said->ata.status & FAILURES) == ERROR && said->ata.error & ABRT;
}

static void refused(aoe_core *c, struct operation *o, struct path *path, const struct effect *e, int64_t now_ns)
{
    uint32_t length = e->length < ATA_HEADER ? e->length : ATA_HEADER;
    if (!o->refusal)
        o->refusal = pool_take(&c->refusals);
    *o->refusal = (struct refusal){.by = path, .length = length};
    memcpy(o->refusal->head, e->raw, length);
    link_append(&path->refused, &o->held_link);
    looks_ask_size(c, path, now_ns);
}

void traffic_answered(aoe_core *c, struct path *path, const struct effect *e, int64_t now_ns)
{
    struct operation *o = e->exchange->operation;
    if (o->command == COMMAND_ATA)
        path->io_ns = now_ns;
    if (o->lane != LANE_READS && path->identified && path->volatile_cache) {
        c->unflushed = path;
        debts_cache(&c->debts, path);
        c->changes++;
    }
    if (!o->open)
        return;
    if (o->sectors > 1 && refuses(e))
        refused(c, o, path, e, now_ns);
    else
        traffic_conclude(c, o, path, e->raw, e->length, e->good, now_ns);
}

void traffic_settled(aoe_core *c, struct exchange *x)
{
    struct operation *o = x->operation;
    if (o) {
        link_remove(&x->of_operation);
        if (!o->open && link_alone(&o->exchanges))
            *board_event(c) = (struct event){.what = EFFECT_SETTLED, .operation = o};
    }
    pool_give(&c->exchanges, x);
}

void traffic_abandon_exchange(aoe_core *c, struct exchange *x, int64_t now_ns)
{
    channel_abandon(c, x->path, x, now_ns);
}

static void send_by(aoe_core *c, struct operation *o, struct path *path, int64_t now_ns)
{
    struct exchange *x = exchange_new(c, path, &o->body, o->command, o->lane, o->reply_min);
    x->operation = o;
    x->sectors = o->sectors;
    link_append(&o->exchanges, &x->of_operation);
    channel_start(c, path, x, now_ns);
}

/* Whether it was heard lately, and nothing happened since that would make it another server (I6). */
int traffic_vouched(const aoe_core *c, const struct path *path, int64_t now_ns)
{
    return path->vouched && now_ns - path->heard_ns < c->set.timing.silence_ns;
}

/* Whether a path is the better one for a read: one that is to be left is the last choice. */
static int has_less(const struct path *path, const struct path *other)
{
    if (path->draining != other->draining)
        return path->draining < other->draining;
    return path_load(path) < path_load(other);
}

/* The proved path with the fewest requests; of equals, the one after the last that was chosen. */
static struct path *least_loaded(aoe_core *c, int64_t now_ns)
{
    struct path *best = NULL;
    uint32_t at = 0;
    for (uint32_t i = 0; i < c->paths_count; i++)
        if (c->paths[i] == c->last)
            at = i + 1;
    for (uint32_t i = 0; i < c->paths_count; i++) {
        struct path *path = c->paths[(at + i) % c->paths_count];
        if (path->state != PATH_USABLE || !(path->trial.proved || trial_leads_to_owner(c, path)))
            continue;
        if (!traffic_vouched(c, path, now_ns))
            looks_look(c, path, now_ns);
        else if (!best || has_less(path, best))
            best = path;
    }
    return c->last = best ? best : c->owner;
}

void traffic_hold(aoe_core *c, struct operation *o)
{
    if (link_alone(&o->held_link))
        link_append(&c->held, &o->held_link);
}

/* No answer is wanted any more. What was sent stays of unknown fate. */
void traffic_abandon(aoe_core *c, struct operation *o, int64_t now_ns)
{
    o->open = 0;
    link_remove(&o->open_link);
    link_remove(&o->held_link);
    close_operation(c, o, now_ns);
}

/* It has to become several. What was sent of it stays of unknown fate. */
void traffic_give_back(aoe_core *c, struct operation *o, const struct path *path, int64_t now_ns)
{
    *board_event(c) = (struct event){.what = EFFECT_TOO_LARGE, .operation = o, .sectors = path_most(path, o->lane)};
    traffic_abandon(c, o, now_ns);
}

/* What is meant for that path alone, and is too large for it now. */
void traffic_give_back_large(aoe_core *c, const struct path *path, int64_t now_ns)
{
    struct link *next;
    for (struct link *l = c->open.next; l != &c->open; l = next) {
        struct operation *o = OWNER_OF(l, struct operation, open_link);
        next = l->next;
        if (o->only == path && o->sectors > path_most(path, o->lane))
            traffic_give_back(c, o, path, now_ns);
    }
}

void traffic_dispatch(aoe_core *c, struct operation *o, int64_t now_ns)
{
    struct path *path = c->owner;
    if (o->only) {
        send_by(c, o, o->only, now_ns);
        return;
    }
    if (path && o->free && c->set.spread)
        path = least_loaded(c, now_ns);
    if (!path || (c->heir && o->lane != LANE_READS)) {
        traffic_hold(c, o);
    } else if (!traffic_vouched(c, path, now_ns)) {
        traffic_hold(c, o);
        looks_look(c, path, now_ns);
    } else if (o->sectors > path_most(path, o->lane)) {
        traffic_give_back(c, o, path, now_ns);
    } else {
        send_by(c, o, path, now_ns);
    }
}

void traffic_release(aoe_core *c, int64_t now_ns)
{
    struct link held;
    if (link_alone(&c->held))
        return;
    held = c->held;
    held.next->prev = held.prev->next = &held;
    link_init(&c->held);
    while (!link_alone(&held)) {
        struct operation *o = OWNER_OF(held.next, struct operation, held_link);
        link_remove(&o->held_link);
        traffic_dispatch(c, o, now_ns);
    }
}

typedef int kind_of_exchange(const struct exchange *x);

static int is_any(const struct exchange *x) { return x->open; }
static int is_too_large(const struct exchange *x) { return x->sectors > path_most(x->path, x->lane); }
static int is_change(const struct exchange *x) { return x->lane != LANE_READS; }
static int is_unsent_change(const struct exchange *x) { return is_change(x) && !x->tries; }

/* What of an operation is open on a path, could go elsewhere, and is such; NULL: nothing. */
static struct exchange *open_there(const struct operation *o, const struct path *path, kind_of_exchange *is_such)
{
    for (struct link *l = o->exchanges.next; l != &o->exchanges && !o->only; l = l->next) {
        struct exchange *x = OWNER_OF(l, struct exchange, of_operation);
        if (x->path == path && x->open && is_such(x))
            return x;
    }
    return NULL;
}

/* All that is so, in the order of the operations. */
static struct exchange **under_way(aoe_core *c, const struct path *path, kind_of_exchange *is_such, size_t *count)
{
    struct exchange **there = NULL;
    size_t room = 0;
    for (struct link *l = c->open.next; l != &c->open; l = l->next) {
        struct exchange *x = open_there(OWNER_OF(l, struct operation, open_link), path, is_such);
        if (!x)
            continue;
        if (*count == room)
            there = must_allocate(there, (room = room ? 2 * room : 64) * sizeof(struct exchange *));
        there[(*count)++] = x;
    }
    return there;
}

/* They wait for a path again: how many. What was sent stays of unknown fate. */
static size_t take_back(aoe_core *c, const struct path *path, kind_of_exchange *is_such, int64_t now_ns)
{
    size_t count = 0;
    struct exchange **exchanges = under_way(c, path, is_such, &count);
    uint8_t *waited = count ? must_allocate(NULL, count) : NULL;
    for (size_t i = 0; i < count; i++) {
        traffic_hold(c, exchanges[i]->operation);
        waited[i] = !exchanges[i]->tries;
    }
    for (int first = 1; first >= 0; first--) /* what waits before what was sent, or it would be sent at once */
        for (size_t i = 0; i < count; i++)
            if (waited[i] == first)
                traffic_abandon_exchange(c, exchanges[i], now_ns);
    free(waited);
    free(exchanges);
    return count;
}

void traffic_take_back_all(aoe_core *c, const struct path *path, int64_t now_ns)
{
    take_back(c, path, is_any, now_ns);
}

void traffic_recall_changes(aoe_core *c, int64_t now_ns)
{
    take_back(c, c->owner, is_unsent_change, now_ns);
}

int traffic_has_changes(const aoe_core *c, const struct path *path)
{
    for (const struct link *l = c->open.next; l != &c->open; l = l->next)
        if (open_there(OWNER_OF(l, struct operation, open_link), path, is_change))
            return 1;
    return 0;
}

/* What was sent there, or waits for it, and is too large now, is sent again in parts. */
void traffic_recall(aoe_core *c, struct path *path, int64_t now_ns)
{
    if (take_back(c, path, is_too_large, now_ns))
        traffic_release(c, now_ns);
}
