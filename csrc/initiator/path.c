/* One way to a target: what is asked there, answered, and sent again. As aoe/initiator/path.py. */
#include <assert.h>

#include "path.h"

void path_init(aoe_core *c, struct way *w, uint32_t window, uint32_t first_tag, int64_t quiesce_ns)
{
    window_init(&w->window, window);
    w->tag = first_tag & TAG_MASK;
    w->streams = (uint16_t)first_tag;
    w->generation = 1;
    link_init(&w->waiting);
    for (int i = 0; i < LANES; i++)
        lane_init(&w->lanes[i], &c->set.timing, i == LANE_CHANGES ? quiesce_ns : c->set.timing.network_lifetime_ns);
}

int path_uncertain(const struct way *w)
{
    return w->lanes[0].unsettled_count || w->lanes[1].unsettled_count || w->lanes[2].unsettled_count;
}

int64_t path_quiet_ns(const struct way *w, int64_t now_ns)
{
    int64_t since = w->quiet_from_ns > w->asked_ns ? w->quiet_from_ns : w->asked_ns;
    return path_outstanding(w) ? now_ns - since : 0;
}

void path_heard(struct way *w, int64_t now_ns) { w->heard_ns = w->quiet_from_ns = now_ns; }

void path_stand_still(struct way *w, int64_t gap_ns, int64_t now_ns)
{
    w->asked_ns += gap_ns;
    w->quiet_from_ns += gap_ns;
    for (int i = 0; i < LANES; i++)
        lane_stand_still(&w->lanes[i], gap_ns, now_ns);
}

/* A stream that was not used here before, for that life of the peer. */
struct stamp path_new_stream(struct way *w, uint64_t instance)
{
    w->streams = (uint16_t)(w->streams + STREAM_STEP);
    w->streams = w->streams ? w->streams : 1;
    return (struct stamp){w->streams, 0, instance};
}

/* Whether changes are not answered although they are sent again and again. */
int path_stuck(const struct way *w)
{
    return lane_stuck(&w->lanes[LANE_CHANGES]) || lane_stuck(&w->lanes[LANE_SYNCS]);
}

static void fill(aoe_core *c, struct way *w, int64_t now_ns)
{
    while (w->waiting_count && path_outstanding(w) < window_size(&w->window)) {
        struct exchange *x = OWNER_OF(w->waiting.next, struct exchange, where);
        assert(x->waits && x->open && x->way == w);
        if (x->lane == LANE_CHANGES && w->lanes[LANE_CHANGES].unsettled_count >= UNSETTLED_MAX)
            break;
        link_remove(&x->where);
        w->waiting_count--;
        x->waits = 0;
        exchange_transmit(c, w, x, now_ns);
    }
}

void path_make_anew(aoe_core *c, struct way *w, uint32_t tag, int64_t now_ns)
{
    struct copy *copy = *copy_slot(w, tag);
    struct exchange *x = copy->exchange;
    copy_drop(c, w, copy);
    if (x->open)
        exchange_send_anew(c, w, x, now_ns);
    else
        exchange_close(c, w, x);
}

void path_end(aoe_core *c, struct way *w, struct exchange *last)
{
    while (last->copies_count)
        copy_drop(c, w, oldest_copy(last));
    pool_give(&c->exchanges, last);
}

void path_start(aoe_core *c, struct way *w, struct exchange *x, int64_t now_ns)
{
    link_append(&w->waiting, &x->where);
    w->waiting_count++;
    x->waits = 1;
    fill(c, w, now_ns);
}

/* However full the window is. */
void path_start_now(aoe_core *c, struct way *w, struct exchange *x, int64_t now_ns)
{
    exchange_transmit(c, w, x, now_ns);
}

/* The peer did not heed those that it got. */
void path_send_changes_again(aoe_core *c, struct way *w, int64_t now_ns)
{
    for (int i = LANE_CHANGES; i <= LANE_SYNCS; i++) {
        struct lane *l = &w->lanes[i];
        for (uint32_t n = l->flying_count; n--;)
            exchange_resend(c, w, OWNER_OF(l->flying.next, struct exchange, where), now_ns);
    }
}

void path_abandon(aoe_core *c, struct way *w, struct exchange *x, int64_t now_ns)
{
    if (x->waits) {
        link_remove(&x->where);
        w->waiting_count--;
        x->waits = 0;
    }
    exchange_close(c, w, x);
    fill(c, w, now_ns);
}

void path_settle_all(aoe_core *c, struct way *w)
{
    for (int i = 0; i < LANES; i++)
        while (w->lanes[i].unsettled_count)
            exchange_forget(c, w, OWNER_OF(w->lanes[i].unsettled.next, struct exchange, where));
}

/* Answers */

/* A FLUSH came back: what belongs to an earlier epoch is not carried out any more (T9), and what the network could
 * no longer deliver when it was sent, neither. */
static void drained(aoe_core *c, struct way *w, const struct exchange *drain, int64_t sent_ns)
{
    struct link *head = &w->lanes[LANE_CHANGES].unsettled, *next;
    for (struct link *l = head->next; l != head; l = next) {
        struct exchange *x = OWNER_OF(l, struct exchange, where);
        next = l->next;
        if (x->generation != drain->generation || drain->generation < 0)
            continue;
        uint8_t behind = (uint8_t)(drain->stamp.epoch - x->stamp.epoch);
        int same = drain->stamp.stream && x->stamp.stream == drain->stamp.stream;
        int dropped = same && behind > 0 && behind < 128;
        if (dropped || x->sent_ns + c->set.timing.network_lifetime_ns <= sent_ns)
            exchange_forget(c, w, x);
    }
}

/* Send one again of those that only time speaks against. A server that pauses has the others still before it; one that
 * lost them shows it by answering this one, the youngest (as RFC 8985 has it). */
static void probe(aoe_core *c, struct way *w, struct lane *l, int64_t now_ns)
{
    struct exchange *youngest = OWNER_OF(l->flying.prev, struct exchange, where);
    if (!l->flying_count || !lane_late(l, youngest, now_ns) || !lane_may_probe(l, now_ns))
        return;
    l->probes++;
    l->probed_ns = now_ns;
    if (l->probes > PROBES_FORGIVEN)
        window_halve(&w->window);
    exchange_resend(c, w, youngest, now_ns);
}

/* What was sent before something that is already answered, and is late (RFC 8985 has the idea). */
static void resend_overtaken(aoe_core *c, struct way *w, struct lane *l, int64_t now_ns)
{
    while (l->flying_count) {
        struct exchange *x = OWNER_OF(l->flying.next, struct exchange, where);
        if (!lane_overtook(l, x) || !lane_late(l, x, now_ns))
            return;
        exchange_resend(c, w, x, now_ns);
    }
}

void path_received(aoe_core *c, struct way *w, uint32_t tag, const uint8_t *raw, uint32_t length, int64_t now_ns)
{
    struct copy *copy = *copy_slot(w, tag);
    assert(copy); /* the session looked before it came here */
    struct exchange *x = copy->exchange;
    enum verdict_on_reply verdict = reply_judge(raw, length, x->command, x->reply_min);
    int good = verdict == REPLY_GOOD;
    if (verdict == REPLY_UNFIT) {
        c->counters[AOE_UNFIT_REPLY]++;
        return;
    }
    struct lane *l = &w->lanes[x->lane];
    int64_t sent_ns = copy->sent_ns;
    path_heard(w, now_ns);
    copy_drop(c, w, copy);
    lane_answered(l, x, sent_ns, now_ns);
    if (x->sectors > 1 && (good || x->lane == LANE_CHANGES))
        lane_passed(l, x->sectors, sent_ns);
    if (x == w->drain) {
        w->drain = NULL;
        if (good)
            drained(c, w, x, sent_ns);
    } else if (x->open) {
        window_answered(&w->window);
        path_effect(c, (struct effect){
            .what = EFFECT_ANSWERED, .exchange = x, .raw = raw, .length = length, .good = good});
    } else {
        c->counters[AOE_LATE_REPLIES]++;
    }
    exchange_close(c, w, x);
    resend_overtaken(c, w, l, now_ns);
    fill(c, w, now_ns);
}

/* Time */

static void begin_drain(aoe_core *c, struct way *w, int64_t now_ns)
{
    static const struct body flush = {.ata = {.opcode = FLUSH_CACHE_EXT}, .head_length = sizeof flush.ata};
    w->drained_ns = now_ns;
    if (w->stamp.stream)
        w->stamp.epoch++;
    w->drain = exchange_new(c, w, &flush, COMMAND_ATA, LANE_SYNCS, ATA_HEADER);
    c->counters[AOE_DRAINS]++;
    exchange_transmit(c, w, w->drain, now_ns);
}

static void sweep(aoe_core *c, struct way *w, int64_t now_ns)
{
    for (int i = 0; i < LANES; i++) {
        struct link *head = &w->lanes[i].unsettled, *next;
        for (struct link *l = head->next; l != head; l = next) {
            struct exchange *x = OWNER_OF(l, struct exchange, where);
            next = l->next;
            if (now_ns - x->sent_ns >= w->lanes[i].quiesce_ns)
                exchange_forget(c, w, x);
        }
    }
    if (w->drain && !w->lanes[LANE_CHANGES].unsettled_count) {
        exchange_close(c, w, w->drain);
        w->drain = NULL;
    }
}

static int wants_drain(const aoe_core *c, const struct way *w, int64_t now_ns)
{
    const struct lane *changes = &w->lanes[LANE_CHANGES];
    if (!changes->unsettled_count || !w->drains)
        return 0;
    const struct exchange *oldest = OWNER_OF(changes->unsettled.next, struct exchange, where);
    if (oldest->stamp.stream && oldest->stamp.stream == w->stamp.stream)
        return now_ns - w->drained_ns >= c->set.timing.drain_ns;
    return now_ns - oldest->sent_ns >= c->set.timing.network_lifetime_ns;
}

void path_tick(aoe_core *c, struct way *w, int64_t now_ns)
{
    for (int i = 0; i < LANES; i++) {
        struct lane *l = &w->lanes[i];
        struct link *next, *at = l->flying.next;
        for (uint32_t n = l->flying_count; n--; at = next) { /* what is sent again goes to the end */
            struct exchange *x = OWNER_OF(at, struct exchange, where);
            next = at->next;
            if (lane_overtook(l, x) && lane_late(l, x, now_ns))
                exchange_resend(c, w, x, now_ns);
        }
        probe(c, w, l, now_ns);
    }
    if (now_ns - w->swept_ns >= c->set.timing.sweep_ns) {
        w->swept_ns = now_ns;
        sweep(c, w, now_ns);
    }
    if (!w->drain && wants_drain(c, w, now_ns))
        begin_drain(c, w, now_ns);
    fill(c, w, now_ns);
}
