/* What speaks AoE with one server: what is asked there, answered, and sent again. As aoe/initiator/channel.py. */
#include <assert.h>

#include "channel.h"

void channel_init(aoe_core *c, struct path *path, uint32_t window, uint32_t first_tag, int64_t quiesce_ns)
{
    window_init(&path->window, window);
    path->tag = first_tag & TAG_MASK;
    path->streams = (uint16_t)first_tag;
    path->generation = 1;
    link_init(&path->waiting);
    for (int i = 0; i < LANES; i++)
        lane_init(&path->lanes[i], &c->set.timing, i == LANE_CHANGES ? quiesce_ns : c->set.timing.network_lifetime_ns);
}

int channel_uncertain(const struct path *path)
{
    return path->lanes[0].unsettled_count || path->lanes[1].unsettled_count || path->lanes[2].unsettled_count;
}

int64_t channel_quiet_ns(const struct path *path, int64_t now_ns)
{
    int64_t since = path->quiet_from_ns > path->asked_ns ? path->quiet_from_ns : path->asked_ns;
    return channel_outstanding(path) ? now_ns - since : 0;
}

void channel_heard(struct path *path, int64_t now_ns) { path->heard_ns = path->quiet_from_ns = now_ns; }

void channel_stand_still(struct path *path, int64_t gap_ns, int64_t now_ns)
{
    path->asked_ns += gap_ns;
    path->quiet_from_ns += gap_ns;
    for (int i = 0; i < LANES; i++)
        lane_stand_still(&path->lanes[i], gap_ns, now_ns);
}

/* A stream that was not used here before, for that life of the peer. */
struct stamp channel_new_stream(const aoe_core *c, struct path *path, uint64_t instance)
{
    do {
        path->streams = (uint16_t)(path->streams + STREAM_STEP);
        path->streams = path->streams ? path->streams : 1;
    } while (debts_has(&c->debts, path, path->streams));
    return (struct stamp){path->streams, 0, instance};
}

/* Whether changes are not answered although they are sent again and again. */
int channel_stuck(const struct path *path)
{
    return lane_stuck(&path->lanes[LANE_CHANGES]) || lane_stuck(&path->lanes[LANE_SYNCS]);
}

/* Whether the peer has answered something else since changes that are stuck were last sent. */
int channel_ignores(const struct path *path)
{
    return lane_ignored(&path->lanes[LANE_CHANGES], path->heard_ns) ||
        lane_ignored(&path->lanes[LANE_SYNCS], path->heard_ns);
}

static void fill(aoe_core *c, struct path *path, int64_t now_ns)
{
    while (path->waiting_count && channel_outstanding(path) < window_size(&path->window)) {
        struct exchange *x = OWNER_OF(path->waiting.next, struct exchange, where);
        assert(x->waits && x->open && x->path == path);
        if (x->lane == LANE_CHANGES && path->lanes[LANE_CHANGES].unsettled_count >= UNSETTLED_MAX)
            break;
        link_remove(&x->where);
        path->waiting_count--;
        x->waits = 0;
        exchange_transmit(c, path, x, now_ns);
    }
}

void channel_make_anew(aoe_core *c, struct path *path, uint32_t tag, int64_t now_ns)
{
    struct copy *copy = *copy_slot(path, tag);
    struct exchange *x = copy->exchange;
    copy_drop(c, path, copy);
    if (x->open) {
        x->tries--;
        exchange_send_anew(c, path, x, now_ns);
    } else {
        exchange_close(c, path, x);
    }
}

void channel_end(aoe_core *c, struct path *path, struct exchange *last)
{
    exchange_forget_copies(c, path, last);
    pool_give(&c->exchanges, last);
}

void channel_start(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns)
{
    link_append(&path->waiting, &x->where);
    path->waiting_count++;
    x->waits = 1;
    fill(c, path, now_ns);
}

/* However full the window is. */
void channel_start_now(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns)
{
    exchange_transmit(c, path, x, now_ns);
}

/* The peer did not heed those that it got. */
void channel_send_changes_again(aoe_core *c, struct path *path, int64_t now_ns)
{
    for (int i = LANE_CHANGES; i <= LANE_SYNCS; i++) {
        struct lane *l = &path->lanes[i];
        for (uint32_t n = l->flying_count; n--;)
            exchange_resend(c, path, OWNER_OF(l->flying.next, struct exchange, where), now_ns);
    }
}

void channel_begin_anew(aoe_core *c, struct path *path, int64_t now_ns)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *l = &path->lanes[i];
        struct link *next, *at = l->unsettled.next;
        l->probes = 0;
        for (uint32_t n = l->unsettled_count; n--; at = next) {
            struct exchange *x = OWNER_OF(at, struct exchange, where);
            next = at->next;
            if (exchange_is_over(path, x))
                exchange_forget(c, path, x);
        }
        for (uint32_t n = l->flying_count; n--;) {
            struct exchange *x = OWNER_OF(l->flying.next, struct exchange, where);
            if (exchange_is_over(path, x)) {
                exchange_forget_copies(c, path, x);
                x->tries = 0;
                exchange_send_anew(c, path, x, now_ns);
            } else {
                exchange_resend(c, path, x, now_ns);
            }
        }
    }
}

void channel_abandon(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns)
{
    if (x->waits) {
        link_remove(&x->where);
        path->waiting_count--;
        x->waits = 0;
    }
    exchange_close(c, path, x);
    fill(c, path, now_ns);
}

void channel_settle_all(aoe_core *c, struct path *path)
{
    for (int i = 0; i < LANES; i++)
        while (path->lanes[i].unsettled_count)
            exchange_forget(c, path, OWNER_OF(path->lanes[i].unsettled.next, struct exchange, where));
}

/* Answers */

/* A FLUSH came back: what belongs to an earlier epoch is not carried out any more (T9), and what the network could
 * no longer deliver when it was sent, neither. */
static void drained(aoe_core *c, struct path *path, const struct exchange *drain, int64_t sent_ns)
{
    struct link *head = &path->lanes[LANE_CHANGES].unsettled, *next;
    for (struct link *l = head->next; l != head; l = next) {
        struct exchange *x = OWNER_OF(l, struct exchange, where);
        next = l->next;
        if (x->generation != drain->generation || drain->generation < 0)
            continue;
        uint8_t behind = (uint8_t)(drain->stamp.epoch - x->stamp.epoch);
        int same = drain->stamp.stream && x->stamp.stream == drain->stamp.stream;
        int dropped = same && behind > 0 && behind < 128;
        if (dropped || x->sent_ns + c->set.timing.network_lifetime_ns <= sent_ns)
            exchange_forget(c, path, x);
    }
}

/* Send one again of those that only time speaks against. A server that pauses has the others still before it; one that
 * lost them shows it by answering this one, the youngest (as RFC 8985 has it). */
static void probe(aoe_core *c, struct path *path, struct lane *l, int64_t now_ns)
{
    struct exchange *youngest = OWNER_OF(l->flying.prev, struct exchange, where);
    if (!l->flying_count || !lane_late(l, youngest, now_ns) || !lane_may_probe(l, now_ns))
        return;
    l->probes++;
    l->probed_ns = now_ns;
    if (l->probes > PROBES_FORGIVEN)
        window_halve(&path->window);
    exchange_resend(c, path, youngest, now_ns);
    youngest->guessed = 1;
}

/* What was sent before something that is already answered, and is late (RFC 8985 has the idea). */
static void resend_overtaken(aoe_core *c, struct path *path, struct lane *l, int64_t now_ns)
{
    while (l->flying_count) {
        struct exchange *x = OWNER_OF(l->flying.next, struct exchange, where);
        if (!lane_overtook(l, x) || !lane_late(l, x, now_ns))
            return;
        exchange_resend(c, path, x, now_ns);
    }
}

void channel_received(aoe_core *c, struct path *path, uint32_t tag, const uint8_t *raw, uint32_t length, int64_t now_ns)
{
    struct copy *copy = *copy_slot(path, tag);
    assert(copy); /* the session looked before it came here */
    struct exchange *x = copy->exchange;
    enum verdict_on_reply verdict = reply_judge(raw, length, x->command, x->reply_min);
    int good = verdict == REPLY_GOOD;
    if (verdict == REPLY_UNFIT) {
        c->counters[AOE_UNFIT_REPLY]++;
        return;
    }
    struct lane *l = &path->lanes[x->lane];
    int64_t sent_ns = copy->sent_ns;
    channel_heard(path, now_ns);
    copy_drop(c, path, copy);
    lane_answered(l, x, sent_ns, now_ns);
    if (x->sectors > 1 && (good || x->lane == LANE_CHANGES))
        lane_passed(l, x->sectors, sent_ns);
    if (x == path->drain) {
        path->drain = NULL;
        if (good)
            drained(c, path, x, sent_ns);
    } else if (x->open) {
        window_answered(&path->window);
        *channel_effect(c) = (struct effect){
            .what = EFFECT_ANSWERED, .exchange = x, .raw = raw, .length = length, .good = good};
    } else {
        c->counters[AOE_LATE_REPLIES]++;
    }
    exchange_close(c, path, x);
    resend_overtaken(c, path, l, now_ns);
    fill(c, path, now_ns);
}

/* Time */

static void begin_drain(aoe_core *c, struct path *path, int64_t now_ns)
{
    static const struct body flush = {.ata = {.opcode = FLUSH_CACHE_EXT}, .head_length = sizeof flush.ata};
    path->drained_ns = now_ns;
    if (path->stamp.stream)
        path->stamp.epoch++;
    path->drain = exchange_new(c, path, &flush, COMMAND_ATA, LANE_SYNCS, ATA_HEADER);
    c->counters[AOE_DRAINS]++;
    exchange_transmit(c, path, path->drain, now_ns);
}

static void sweep(aoe_core *c, struct path *path, int64_t now_ns)
{
    for (int i = 0; i < LANES; i++) {
        struct link *head = &path->lanes[i].unsettled, *next;
        for (struct link *l = head->next; l != head; l = next) {
            struct exchange *x = OWNER_OF(l, struct exchange, where);
            next = l->next;
            if (now_ns - x->sent_ns >= path->lanes[i].quiesce_ns)
                exchange_forget(c, path, x);
        }
    }
    if (path->drain && !path->lanes[LANE_CHANGES].unsettled_count) {
        exchange_close(c, path, path->drain);
        path->drain = NULL;
    }
}

static int wants_drain(const aoe_core *c, const struct path *path, int64_t now_ns)
{
    const struct lane *changes = &path->lanes[LANE_CHANGES];
    if (!changes->unsettled_count || !path->drains)
        return 0;
    const struct exchange *oldest = OWNER_OF(changes->unsettled.next, struct exchange, where);
    if (oldest->stamp.stream && oldest->stamp.stream == path->stamp.stream)
        return now_ns - path->drained_ns >= c->set.timing.drain_ns;
    return now_ns - oldest->sent_ns >= c->set.timing.network_lifetime_ns;
}

void channel_tick(aoe_core *c, struct path *path, int64_t now_ns)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *l = &path->lanes[i];
        struct link *next, *at = l->flying.next;
        for (uint32_t n = l->flying_count; n--; at = next) { /* what is sent again goes to the end */
            struct exchange *x = OWNER_OF(at, struct exchange, where);
            next = at->next;
            if (lane_overtook(l, x) && lane_late(l, x, now_ns))
                exchange_resend(c, path, x, now_ns);
        }
        probe(c, path, l, now_ns);
    }
    if (now_ns - path->swept_ns >= c->set.timing.sweep_ns) {
        path->swept_ns = now_ns;
        sweep(c, path, now_ns);
    }
    if (!path->drain && wants_drain(c, path, now_ns))
        begin_drain(c, path, now_ns);
    if (path->lanes[LANE_CHANGES].unsettled_count && path->lanes[LANE_CHANGES].quiesce_ns > path->bound_ns)
        debts_go_on(c, path, now_ns);
    fill(c, path, now_ns);
}
