/* One disk over several ways: which there are, which of them carries what, and when to change.
 * As aoe/initiator/session.py. */
#include <stdlib.h>
#include <string.h>

#include "session.h"

static struct way *sender_of(const aoe_core *c, uint32_t tag)
{
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (path_knows(c->ways[i], tag))
            return c->ways[i];
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
        struct way *w = sender_of(c, tags[i]);
        if (w)
            path_make_anew(c, w, tags[i], now_ns);
        else
            c->seek_ns = now_ns;
    }
    free(tags);
}

uint32_t session_frame(const aoe_core *c, uint32_t lane)
{
    uint32_t most = c->ways_count ? 0 : 1;
    if (c->owner)
        return way_most(c->owner, lane);
    for (uint32_t i = 0; i < c->ways_count; i++)
        most = way_most(c->ways[i], lane) > most ? way_most(c->ways[i], lane) : most;
    return most;
}

/* A loss is told to every flush that was under way then. */
int session_flushed(aoe_core *c, uint64_t changes, uint64_t losses_told)
{
    if (changes + 1 >= c->changes) /* the flush itself is one */
        c->unflushed = NULL;
    c->losses_told = c->losses;
    return c->losses == losses_told;
}

static void replied(aoe_core *c, const struct effect *e, int64_t now_ns)
{
    struct way *w = e->exchange->way;
    if (e->exchange == w->check)
        verdict_checked(c, w, e, now_ns);
    else if (e->exchange == w->question)
        health_told(c, w, e, now_ns);
    else if (e->exchange->operation)
        traffic_answered(c, w, e, now_ns);
}

/* See to one after the other, to its end; nothing is left to be done now. */
static void run(aoe_core *c, int64_t now_ns)
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

void session_received(aoe_core *c, uint32_t port, const uint8_t *raw, uint32_t length, int64_t now_ns)
{
    if (!wire_is_aoe(raw, length) || !wire_is_reply(raw))
        return; /* others ask, too */
    uint32_t tag = wire_tag(raw);
    struct way *w = discovery_way_of(c, port, raw);
    if (w && path_knows(w, tag)) {
        path_received(c, w, tag, raw, length, now_ns);
    } else if (w && sizes_asked(&w->sizes, tag)) {
        health_probe_reply(c, w, sizes_asked(&w->sizes, tag), raw, length, now_ns);
    } else if (discovery_tells_of_itself(c, raw)) {
        discovery_config_reply(c, port, w, raw, length, (tag & USER_TAG) != 0, now_ns);
    } else if (!w && strangers_tag(&c->strangers, port, raw) == tag) {
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
    for (uint32_t i = 0; i < c->ways_count; i++) { /* first: losing one way sends on others */
        struct way *w = c->ways[i];
        if (w->port != number)
            continue;
        memcpy(w->own, port->mac, 6);
        health_fit(c, w, now_ns);
        if (renamed) { /* to the server that is another host: what was sent before settles by time */
            w->stamp = (struct stamp){0};
            w->claim_after_ns = now_ns;
        }
        if (renamed || !up)
            w->vouched = 0;
    }
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *w = c->ways[i];
        if (w->port != number)
            continue;
        if (!up) {
            board_note(c, w, HAPPENS_UNPLUGGED, WHY_LINK_DOWN);
            continue;
        }
        health_resized(c, w, now_ns);
        if (came_up || renamed)
            looks_look(c, w, now_ns);
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

int session_identified(aoe_core *c, struct way *w, const uint8_t *raw, struct stamp claim, int64_t now_ns)
{
    int it_does = verdict_identified(c, w, raw, claim, now_ns);
    run(c, now_ns);
    return it_does;
}

void session_look(aoe_core *c, struct way *w, int64_t now_ns)
{
    looks_look(c, w, now_ns);
    run(c, now_ns);
}

/* We did not run for so long, which was no server's silence. Only what waits for a sign of life is put off: fates
 * (I2), and for how long a way is vouched for (I6), go by true time. */
void session_stand_still(aoe_core *c, int64_t gap_ns, int64_t now_ns)
{
    c->usable_ns += c->usable_ns ? gap_ns : 0;
    c->lost_ns += gap_ns;
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *w = c->ways[i];
        path_stand_still(w, gap_ns, now_ns);
        w->io_ns += gap_ns;
        w->probed_ns += gap_ns;
        sizes_stand_still(&w->sizes, gap_ns);
        w->usable_ns += w->usable_ns ? gap_ns : 0;
    }
    make_anew(c, now_ns);
    run(c, now_ns);
}

void session_sampled(aoe_core *c, struct way *w, int64_t now_ns)
{
    w->trial.sampled = 1;
    w->trial.condemned = WHY_NONE;
    trial_share(c, w);
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *other = c->ways[i];
        if (way_samples(other) && trial_same_server(other, w))
            board_note(c, other, HAPPENS_EQUAL, WHY_NONE);
    }
    run(c, now_ns);
}

void session_silent(aoe_core *c, struct way *w, int64_t now_ns)
{
    board_note(c, w, HAPPENS_SILENT, WHY_SILENT);
    run(c, now_ns);
}

void session_condemn(aoe_core *c, struct way *w, int reason, uint64_t lba, int64_t now_ns)
{
    w->trial.condemned = reason;
    w->trial.lba = lba;
    trial_share(c, w);
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (trial_same_server(c->ways[i], w))
            board_note(c, c->ways[i], HAPPENS_CONDEMNED, reason);
    run(c, now_ns);
}

/* It has the disk of the owner, which thereby is proved, too. */
void session_prove(aoe_core *c, struct way *w, int64_t now_ns)
{
    struct way *both[2] = {c->owner, w};
    c->news++;
    for (int i = 0; i < 2; i++) {
        both[i]->trial.proved = 1;
        both[i]->trial.condemned = WHY_NONE;
        both[i]->trial.misses = 0;
        trial_share(c, both[i]);
    }
    for (uint32_t i = 0; i < c->ways_count; i++) {
        if (life_shown(c->ways[i]->state) != WAY_REFUSED || !trial_same_server(c->ways[i], w))
            continue;
        c->ways[i]->check_after_ns = now_ns;
        looks_look(c, c->ways[i], now_ns);
    }
    run(c, now_ns);
}

void session_tick(aoe_core *c, int64_t now_ns)
{
    for (uint32_t i = 0; i < c->ways_count; i++)
        path_tick(c, c->ways[i], now_ns);
    run(c, now_ns);
    for (uint32_t i = 0; i < c->ways_count; i++) {
        health_watch(c, c->ways[i], now_ns);
        run(c, now_ns);
        health_tend(c, c->ways[i], now_ns);
        run(c, now_ns);
    }
    if (now_ns >= c->seek_ns)
        discovery_seek(c, now_ns);
    if (!c->chosen)
        lifecycle_settle_in(c, now_ns);
    else if (!c->owner)
        lifecycle_inherit(c, now_ns);
    else if (c->set.failback_ns >= 0)
        lifecycle_go_back(c, now_ns);
    run(c, now_ns);
}

int64_t session_pulse(const aoe_core *c)
{
    if (!c->chosen)
        return c->set.timing.rto_min_ns;
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (c->ways[i]->state != WAY_DOWN && way_load(c->ways[i]))
            return c->set.timing.rto_min_ns;
    return c->set.timing.pulse_ns;
}

int session_switch(aoe_core *c, struct way *w, int64_t now_ns)
{
    int usable = w->state == WAY_USABLE || w->state == WAY_COMPARED;
    if (!usable || !c->chosen || trial_is_barred(c, w))
        return 0;
    if (w != c->owner) {
        board_note(c, w, HAPPENS_CHOSEN, WHY_NONE);
        run(c, now_ns);
    }
    return 1;
}

void session_fenced(aoe_core *c, struct way *w, int64_t now_ns)
{
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *other = c->ways[i];
        if (memcmp(other->mac, w->mac, 6) || other->shelf != w->shelf || other->slot != w->slot)
            continue;
        path_settle_all(c, other);
    }
    run(c, now_ns);
}
