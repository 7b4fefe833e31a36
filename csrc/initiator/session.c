/* One disk over several paths: which there are, which of them carries what, and when to change.
 * As aoe/initiator/session.py. */
#include <stdlib.h>
#include <string.h>

#include "session.h"

static struct path *sender_of(const aoe_core *c, uint32_t tag)
{
    for (uint32_t i = 0; i < c->paths_count; i++)
        if (channel_knows(c->paths[i], tag))
            return c->paths[i];
    return NULL;
}

/* What was not sent by now has a time of sending that is not true, and with it all that is told from that: it goes out
 * as another copy. Queries are due again anyway. */
static void make_anew(aoe_core *c, int64_t now_ns)
{
    uint32_t count = c->out_count;
    uint32_t *tags = count ? must_allocate(NULL, count * sizeof *tags) : NULL;
    for (uint32_t i = 0; i < count; i++)
        tags[i] = wire_tag(c->out[i].head);
    c->out_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct path *path = sender_of(c, tags[i]);
        if (path)
            channel_make_anew(c, path, tags[i], now_ns);
        else
            c->seek_ns = now_ns;
    }
    free(tags);
}

uint32_t session_frame(const aoe_core *c, uint32_t lane)
{
    uint32_t most = c->paths_count ? 0 : 1;
    if (c->owner)
        return path_most(c->owner, lane);
    for (uint32_t i = 0; i < c->paths_count; i++)
        most = path_most(c->paths[i], lane) > most ? path_most(c->paths[i], lane) : most;
    return most;
}

/* A loss is told to every flush that was under way then. */
int session_flushed(aoe_core *c, uint64_t changes, uint64_t losses_told)
{
    if (changes + 1 >= c->changes) { /* the flush itself is one */
        c->unflushed = NULL;
        debts_flushed(&c->debts);
    }
    c->losses_told = c->losses;
    return c->losses == losses_told;
}

static void replied(aoe_core *c, const struct effect *e, int64_t now_ns)
{
    struct path *path = e->exchange->path;
    if (e->exchange == path->check)
        verdict_checked(c, path, e, now_ns);
    else if (e->exchange == path->question)
        health_told(c, path, e, now_ns);
    else if (e->exchange == c->parting)
        handover_parted(c, e, now_ns);
    else if (e->exchange->operation)
        traffic_answered(c, path, e, now_ns);
}

/* See to one after the other, to its end. */
static void see_to_all(aoe_core *c, int64_t now_ns)
{
    while (c->effects_first < c->effects_count) {
        struct effect e = c->effects[c->effects_first++];
        if (e.what == EFFECT_ANSWERED)
            replied(c, &e, now_ns);
        else if (e.what == EFFECT_SETTLED)
            traffic_settled(c, e.exchange);
        else
            lifecycle_happened(c, &e, now_ns);
    }
    c->effects_first = c->effects_count = 0;
}

/* Nothing is left to be done now. */
static void run(aoe_core *c, int64_t now_ns)
{
    see_to_all(c, now_ns);
    if (!c->heir)
        return;
    handover_go_on(c, now_ns);
    see_to_all(c, now_ns);
}

void session_received(aoe_core *c, uint32_t port, const uint8_t *raw, uint32_t length, int64_t now_ns)
{
    if (!wire_is_aoe(raw, length) || !wire_is_reply(raw))
        return; /* others ask, too */
    uint32_t tag = wire_tag(raw);
    struct path *path = discovery_path_of(c, port, raw);
    if (path && channel_knows(path, tag)) {
        channel_received(c, path, tag, raw, length, now_ns);
    } else if (path && sizes_asked(&path->sizes, tag)) {
        health_probe_reply(c, path, sizes_asked(&path->sizes, tag), raw, length, now_ns);
    } else if (debts_received(c, port, raw, length)) {
        ; /* what an earlier life had under way there is over */
    } else if (discovery_tells_of_itself(c, raw)) {
        discovery_config_reply(c, port, path, raw, length, (tag & USER_TAG) != 0, now_ns);
    } else if (!path && strangers_tag(&c->strangers, port, raw) == tag) {
        discovery_stranger_reply(c, port, raw, length);
    } else {
        c->counters[AOE_UNKNOWN_TAG]++;
    }
    run(c, now_ns);
}

/* A port over which no sector fits is down. */
void session_set_port(aoe_core *c, uint32_t number, const aoe_core_port *port, int64_t now_ns)
{
    int up = port->up && port->sectors, came_up = up && !c->ports[number].up;
    int renamed = memcmp(port->mac, c->ports[number].mac, 6) != 0;
    c->ports[number] = *port;
    c->ports[number].up = (uint32_t)up;
    for (uint32_t i = 0; i < c->paths_count; i++) { /* first: losing one path sends on others */
        struct path *path = c->paths[i];
        if (path->port != number)
            continue;
        memcpy(path->own, port->mac, 6);
        health_fit(c, path, now_ns);
        if (renamed) { /* to the server that is another host: what was sent before settles by time */
            path->stamp = (struct stamp){0};
            path->register_after_ns = now_ns;
        }
        if (renamed || !up)
            path->vouched = 0;
    }
    for (uint32_t i = 0; i < c->paths_count; i++) {
        struct path *path = c->paths[i];
        if (path->port != number)
            continue;
        if (!up) {
            board_note(c, path, HAPPENS_UNPLUGGED, WHY_LINK_DOWN);
            continue;
        }
        health_resized(c, path, now_ns);
        if (came_up || renamed)
            looks_look(c, path, now_ns);
    }
    if (came_up) {
        c->seek_wait_ns = c->set.timing.query_first_ns;
        discovery_seek(c, now_ns);
    }
    run(c, now_ns);
}

void session_start(aoe_core *c, struct operation *o, int64_t now_ns)
{
    link_append(&c->open, &o->open_link);
    traffic_dispatch(c, o, now_ns);
    run(c, now_ns);
}

void session_abandon(aoe_core *c, struct operation *o, int64_t now_ns)
{
    traffic_abandon(c, o, now_ns);
    run(c, now_ns);
}

int session_identified(aoe_core *c, struct path *path, const uint8_t *raw, struct stamp registering, int64_t now_ns)
{
    int it_does = verdict_identified(c, path, raw, registering, now_ns);
    run(c, now_ns);
    return it_does;
}

void session_look(aoe_core *c, struct path *path, int64_t now_ns)
{
    looks_look(c, path, now_ns);
    run(c, now_ns);
}

/* We did not run for so long, which was no server's silence. Only what waits for a sign of life is put off: fates
 * (I2), and for how long a path is vouched for (I6), go by true time. */
void session_stand_still(aoe_core *c, int64_t gap_ns, int64_t now_ns)
{
    c->usable_ns += c->usable_ns ? gap_ns : 0;
    c->lost_ns += gap_ns;
    c->leaves_ns += gap_ns;
    for (uint32_t i = 0; i < c->paths_count; i++) {
        struct path *path = c->paths[i];
        channel_stand_still(path, gap_ns, now_ns);
        path->io_ns += gap_ns;
        path->probed_ns += gap_ns;
        sizes_stand_still(&path->sizes, gap_ns);
        path->usable_ns += path->usable_ns ? gap_ns : 0;
    }
    make_anew(c, now_ns);
    run(c, now_ns);
}

void session_sampled(aoe_core *c, struct path *path, int64_t now_ns)
{
    path->trial.sampled = 1;
    path->trial.condemned = WHY_NONE;
    trial_share(c, path);
    trial_prove_copy(c, path);
    for (uint32_t i = 0; i < c->paths_count; i++) {
        struct path *other = c->paths[i];
        if (path_samples(other) && trial_same_server(other, path))
            board_note(c, other, HAPPENS_EQUAL, WHY_NONE);
    }
    run(c, now_ns);
}

void session_silent(aoe_core *c, struct path *path, int64_t now_ns)
{
    board_note(c, path, HAPPENS_SILENT, WHY_SILENT);
    run(c, now_ns);
}

void session_condemn(aoe_core *c, struct path *path, int reason, uint64_t lba, int64_t now_ns)
{
    path->trial.condemned = reason;
    path->trial.lba = lba;
    trial_share(c, path);
    for (uint32_t i = 0; i < c->paths_count; i++)
        if (trial_same_server(c->paths[i], path))
            board_note(c, c->paths[i], HAPPENS_CONDEMNED, reason);
    run(c, now_ns);
}

/* It has the disk of the owner, which thereby is proved, too. */
void session_prove(aoe_core *c, struct path *path, int64_t now_ns)
{
    struct path *both[2] = {c->owner, path};
    c->news++;
    for (int i = 0; i < 2; i++) {
        both[i]->trial.proved = 1;
        both[i]->trial.condemned = WHY_NONE;
        both[i]->trial.misses = 0;
        trial_share(c, both[i]);
    }
    for (uint32_t i = 0; i < c->paths_count; i++) {
        if (life_shown(c->paths[i]->state) != PATH_REFUSED || !trial_same_server(c->paths[i], path))
            continue;
        c->paths[i]->check_after_ns = now_ns;
        looks_look(c, c->paths[i], now_ns);
    }
    run(c, now_ns);
}

void session_tick(aoe_core *c, int64_t now_ns)
{
    for (uint32_t i = 0; i < c->paths_count; i++)
        channel_tick(c, c->paths[i], now_ns);
    run(c, now_ns);
    for (uint32_t i = 0; i < c->paths_count; i++) {
        health_watch(c, c->paths[i], now_ns);
        run(c, now_ns);
        health_tend(c, c->paths[i], now_ns);
        run(c, now_ns);
    }
    if (now_ns >= c->seek_ns)
        discovery_seek(c, now_ns);
    if (c->debts.left_count) /* nothing is admitted before that is over */
        debts_tick(c, now_ns);
    else if (!c->chosen)
        lifecycle_settle_in(c, now_ns);
    else if (!c->owner)
        lifecycle_inherit(c, now_ns);
    else if (c->set.failback_ns >= 0)
        lifecycle_go_back(c, now_ns);
    run(c, now_ns);
    handover_tend(c, now_ns);
    run(c, now_ns);
}

int64_t session_pulse(const aoe_core *c)
{
    if (!c->chosen)
        return c->set.timing.rto_min_ns;
    for (uint32_t i = 0; i < c->paths_count; i++)
        if (c->paths[i]->state != PATH_DOWN && path_load(c->paths[i]))
            return c->set.timing.rto_min_ns;
    return c->set.timing.pulse_ns;
}

/* Whether its server drains while the owner's does not. */
static int is_left(const aoe_core *c, const struct path *path)
{
    return path->draining && c->owner && !c->owner->draining;
}

int session_switch(aoe_core *c, struct path *path, int64_t now_ns)
{
    int usable = path->state == PATH_USABLE || path->state == PATH_COMPARED;
    if (!usable || !c->chosen || trial_is_barred(c, path) || is_left(c, path))
        return 0;
    if (path != c->owner) {
        board_note(c, path, HAPPENS_CHOSEN, WHY_NONE);
        run(c, now_ns);
    }
    return 1;
}

void session_fenced(aoe_core *c, struct path *path, int64_t now_ns)
{
    for (uint32_t i = 0; i < c->paths_count; i++) {
        struct path *other = c->paths[i];
        if (memcmp(other->mac, path->mac, 6) || other->shelf != path->shelf || other->slot != path->slot)
            continue;
        channel_settle_all(c, other);
    }
    debts_over(&c->debts, path->mac, (uint32_t)path->shelf << 8 | path->slot);
    run(c, now_ns);
}
