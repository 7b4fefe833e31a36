/* One way to a target: tags, copies, round-trip times, window and retransmission. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "initiator.h"


/* Effects */

void path_effect(aoe_core *c, struct effect e)
{
    if (c->effects_count == c->effects_room) {
        c->effects_room = c->effects_room ? 2 * c->effects_room : 64;
        c->effects = must_allocate(c->effects, c->effects_room * sizeof *c->effects);
    }
    c->effects[c->effects_count++] = e;
}

/* Frames */

aoe_out *send_frame(aoe_core *c, uint32_t port, const uint8_t *mac, const uint8_t *own, uint32_t shelf, uint32_t slot,
                    uint32_t command, uint32_t tag, const struct body *body)
{
    if (c->out_count == c->out_room) {
        c->out_room = c->out_room ? 2 * c->out_room : 64;
        c->out = must_allocate(c->out, c->out_room * sizeof *c->out);
    }
    aoe_out *out = &c->out[c->out_count++];
    uint8_t *f = out->head;
    uint32_t head = AOE_HEADER + body->head_length;
    wire_put_header(f, mac, own, shelf, slot, command, tag);
    memcpy(f + AOE_HEADER, body->head, body->head_length);
    out->port = port;
    out->data = body->data;
    out->data_length = body->data_length;
    if (head + body->data_length < FRAME_MIN) {
        memset(f + head, 0, FRAME_MIN - head);
        if (body->data_length)
            memcpy(f + head, body->data, body->data_length);
        out->data_length = 0;
        head = FRAME_MIN;
    }
    out->head_length = head;
    out->tail_length = 0;
    return out;
}

/* Round trips and the window */

static int64_t usual_ns(const struct lane *l)
{
    return l->smoothed_ns ? l->smoothed_ns + 4 * l->deviation_ns : l->timing->rto_first_ns;
}

static int64_t timeout_ns(const struct lane *l)
{
    int64_t usual = usual_ns(l);
    return usual < l->least_ns ? l->least_ns : usual > l->timing->rto_max_ns ? l->timing->rto_max_ns : usual;
}

static void rtt_sample(struct lane *l, int64_t ns)
{
    if (!l->smoothed_ns) {
        l->smoothed_ns = ns > 1 ? ns : 1;
        l->deviation_ns = ns >> 1;
        return;
    }
    int64_t error = ns - l->smoothed_ns; /* shifts round down, as // does in Python */
    l->smoothed_ns += error >> 3;
    if (l->smoothed_ns < 1)
        l->smoothed_ns = 1;
    l->deviation_ns += (llabs(error) - l->deviation_ns) >> 2;
}

static int64_t doubled(const struct lane *l, int64_t wait, uint32_t times)
{
    if (wait >= l->timing->rto_max_ns) /* may be days, which leave no room for doublings */
        return l->timing->rto_max_ns;
    wait <<= times < 16 ? times : 16;
    return wait < l->timing->rto_max_ns ? wait : l->timing->rto_max_ns;
}

/* Something was answered that was sent later: the sign of a loss. */
static int overtaken(const struct lane *l, const struct exchange *x) { return x->sent_ns < l->newest_ns; }

static int64_t wait_ns(const struct lane *l, const struct exchange *x)
{
    int64_t wait = overtaken(l, x) ? (int64_t)((double)usual_ns(l) * l->patience) : timeout_ns(l);
    return doubled(l, wait, x->tries - 1);
}

static int late(const struct lane *l, const struct exchange *x, int64_t now_ns)
{
    return now_ns - x->since_ns >= wait_ns(l, x);
}

static int may_probe(const struct lane *l, int64_t now_ns)
{
    return !l->probes || now_ns - l->probed_ns >= doubled(l, timeout_ns(l), l->probes);
}

static void lane_answered(struct lane *l, const struct exchange *x, int64_t sent_ns, int64_t now_ns)
{
    if (sent_ns >= l->resumed_ns)
        rtt_sample(l, now_ns - sent_ns);
    if (sent_ns > l->newest_ns)
        l->newest_ns = sent_ns;
    l->probes = 0;
    if (sent_ns < x->sent_ns) { /* it was only late */
        l->least_ns = 2 * l->least_ns < l->timing->rto_calm_ns ? 2 * l->least_ns : l->timing->rto_calm_ns;
        l->patience = 2 * l->patience < PATIENCE_MAX ? 2 * l->patience : PATIENCE_MAX;
        return;
    }
    if (x->tries > 1 && x->open)
        l->least_ns = l->least_ns / 2 > l->timing->rto_min_ns ? l->least_ns / 2 : l->timing->rto_min_ns;
    l->patience += (1 - l->patience) / 256;
}

static uint32_t window_size(const struct window *w)
{
    return (uint32_t)w->size;
}

static void window_answered(struct window *w)
{
    w->size += w->size < w->threshold ? 1 : 1 / w->size;
    if (w->size > w->most)
        w->size = w->most;
}

static void window_halve(struct window *w)
{
    double least = WINDOW_MIN < w->most ? WINDOW_MIN : w->most;
    w->size = w->size / 2 > least ? w->size / 2 : least;
    w->threshold = w->size;
    assert(w->size > 0 && w->size <= w->most);
}

static void window_lost(struct window *w, int64_t now_ns, int64_t round_ns)
{
    if (now_ns >= w->round_ends_ns) {
        w->round_ends_ns = now_ns + round_ns;
        w->lost = 0;
    }
    w->lost++;
    double quarter = w->size / 4;
    if ((double)w->lost > (quarter > 1 ? quarter : 1)) {
        w->lost = -(int64_t)w->most; /* once in a round */
        window_halve(w);
    }
}

void path_limit(struct way *w, uint32_t window)
{
    w->window.most = window;
    if (w->window.size > window)
        w->window.size = window;
}

/* Copies and their tags */

static struct copy **tag_slot(struct way *w, uint32_t tag)
{
    struct copy **slot = &w->tags[tag % TAG_BUCKETS];
    while (*slot && (*slot)->tag != tag)
        slot = &(*slot)->next;
    return slot;
}

int path_knows(const struct way *w, uint32_t tag)
{
    return *tag_slot((struct way *)w, tag) != NULL;
}

static void drop_copy(aoe_core *c, struct way *w, struct copy *copy)
{
    assert(*tag_slot(w, copy->tag) == copy && copy->exchange->copies_count);
    *tag_slot(w, copy->tag) = copy->next;
    link_remove(&copy->of_exchange);
    copy->exchange->copies_count--;
    pool_give(&c->copies, copy);
}

static struct copy *oldest_copy(struct exchange *x)
{
    assert(x->copies_count);
    return OWNER_OF(x->copies.next, struct copy, of_exchange);
}

/* Exchanges */

void path_init(aoe_core *c, struct way *w, uint32_t window, uint32_t first_tag, int64_t quiesce_ns)
{
    (void)c;
    w->window.most = w->window.threshold = window;
    w->window.size = window < WINDOW_FIRST ? window : WINDOW_FIRST;
    w->tag = first_tag & TAG_MASK;
    w->streams = (uint16_t)first_tag;
    w->generation = 1;
    link_init(&w->waiting);
    for (int i = 0; i < LANES; i++) {
        w->lanes[i].quiesce_ns = i == LANE_CHANGES ? quiesce_ns : c->set.timing.network_lifetime_ns;
        w->lanes[i].timing = &c->set.timing;
        w->lanes[i].least_ns = c->set.timing.rto_min_ns;
        w->lanes[i].patience = 1.0;
        link_init(&w->lanes[i].flying);
        link_init(&w->lanes[i].unsettled);
    }
}

struct exchange *exchange_new(aoe_core *c, struct way *w, const struct body *body, uint32_t command, uint32_t lane,
                              uint32_t reply_min)
{
    struct exchange *x = pool_take(&c->exchanges);
    x->way = w;
    x->body = body;
    x->command = (uint8_t)command;
    x->lane = (uint8_t)lane;
    x->reply_min = reply_min;
    x->open = 1;
    link_init(&x->where);
    link_init(&x->of_operation);
    link_init(&x->copies);
    return x;
}

uint32_t path_outstanding(const struct way *w)
{
    return w->lanes[0].flying_count + w->lanes[1].flying_count + w->lanes[2].flying_count;
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

static void lane_stand_still(struct lane *l, int64_t gap_ns, int64_t now_ns)
{
    l->resumed_ns = now_ns;
    l->probed_ns += gap_ns;
    for (struct link *at = l->flying.next; at != &l->flying; at = at->next)
        OWNER_OF(at, struct exchange, where)->since_ns += gap_ns;
}

void path_stand_still(struct way *w, int64_t gap_ns, int64_t now_ns)
{
    w->asked_ns += gap_ns;
    w->quiet_from_ns += gap_ns;
    for (int i = 0; i < LANES; i++)
        lane_stand_still(&w->lanes[i], gap_ns, now_ns);
}

static void fly(struct way *w, struct exchange *x, int up)
{
    struct lane *l = &w->lanes[x->lane];
    if (up) {
        link_append(&l->flying, &x->where);
        l->flying_count++;
    } else {
        assert(l->flying_count);
        link_remove(&x->where);
        l->flying_count--;
    }
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
    for (int i = LANE_CHANGES; i <= LANE_SYNCS; i++) {
        const struct lane *l = &w->lanes[i];
        if (!l->flying_count)
            continue;
        if (l->probes + 1 > STUCK_TRIES || OWNER_OF(l->flying.next, struct exchange, where)->tries > STUCK_TRIES)
            return 1;
    }
    return 0;
}

/* What says which stream it belongs to, where the peer knows ours. */
static int is_stamped(const struct exchange *x)
{
    uint8_t opcode = x->body->ata.opcode;
    int changes = opcode == WRITE_SECTORS_EXT || opcode == WRITE_DMA_FUA_EXT;
    int flushes = opcode == FLUSH_CACHE || opcode == FLUSH_CACHE_EXT;
    return x->command == COMMAND_ATA && (changes || flushes);
}

void stamp_registers(struct wire_registers *registers, const struct stamp *stamp)
{
    registers->feature = stamp->epoch;
    wire_put_big16(registers->stream, stamp->stream);
}

void stamp_trailer(uint8_t *at, const struct stamp *stamp)
{
    memcpy(at, STREAM_SIGNATURE, SIGNATURE_BYTES);
    wire_put_little(at + SIGNATURE_BYTES, INSTANCE_BYTES, stamp->instance);
}

static void stamp(const struct way *w, struct exchange *x, aoe_out *out)
{
    _Static_assert(sizeof out->tail == STAMP_TRAILER, "room for it");
    struct stamp stamp = is_stamped(x) ? w->stamp : (struct stamp){0};
    int same = x->tries == 1 || x->stamp.stream == stamp.stream;
    x->stamp = same ? stamp : (struct stamp){0};
    if (!stamp.stream)
        return;
    stamp_registers(&wire_at(out->head)->ata, &stamp);
    out->tail_length = out->data_length ? STAMP_TRAILER : 0;
    stamp_trailer(out->data_length ? out->tail : out->head + ATA_HEADER, &stamp);
}

/* One that no other transmission has. */
uint32_t path_new_tag(struct way *w)
{
    w->tag = (w->tag + 1) & TAG_MASK;
    return USER_TAG | w->tag;
}

static void transmit(aoe_core *c, struct way *w, struct exchange *x, int64_t now_ns)
{
    if (!x->tries && !w->lanes[x->lane].flying_count)
        w->lanes[x->lane].probes = 0;
    if (!x->tries && !path_outstanding(w))
        w->asked_ns = now_ns;
    struct copy *copy = pool_take(&c->copies), **slot;
    copy->tag = path_new_tag(w);
    copy->sent_ns = now_ns;
    copy->exchange = x;
    slot = &w->tags[copy->tag % TAG_BUCKETS];
    copy->next = *slot;
    *slot = copy;
    link_append(&x->copies, &copy->of_exchange);
    x->tries++;
    x->sent_ns = x->since_ns = now_ns;
    x->generation = x->tries == 1 || x->generation == w->generation ? w->generation : -1;
    if (++x->copies_count > COPIES_MAX)
        drop_copy(c, w, oldest_copy(x));
    fly(w, x, 1);
    aoe_out *out = send_frame(c, w->port, w->mac, w->own, w->shelf, w->slot, x->command, copy->tag, x->body);
    if (x->lane != LANE_READS)
        stamp(w, x, out);
}

/* A large request has passed. */
static void pass(struct lane *l, uint32_t sectors, int64_t sent_ns)
{
    if (sectors < l->large && sent_ns - l->large_ns <= l->timing->size_wait_ns)
        return;
    l->large = sectors;
    l->large_ns = sent_ns;
}

/* Whether a request is lost again and again, and nothing as large passed since it was first sent. */
static int suspects(const struct lane *l, struct exchange *x)
{
    int again = x->tries >= SIZE_LOSSES || l->probes >= SIZE_LOSSES - 1;
    if (x->sectors <= 1 || !again)
        return 0;
    return l->large < x->sectors || l->large_ns < oldest_copy(x)->sent_ns;
}

static void resend(aoe_core *c, struct way *w, struct exchange *x, int64_t now_ns)
{
    c->counters[AOE_RETRANSMITS]++;
    window_lost(&w->window, now_ns, usual_ns(&w->lanes[x->lane]));
    fly(w, x, 0);
    transmit(c, w, x, now_ns);
    if (x->sectors > w->suspect && suspects(&w->lanes[x->lane], x)) {
        w->suspect = x->sectors;
        w->suspect_lane = x->lane;
        w->suspect_lba = wire_little(x->body->ata.lba, LBA_BYTES);
    }
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
        transmit(c, w, x, now_ns);
    }
}

/* No answer is wanted any more, or a copy less is of unknown fate. */
static void close_exchange(aoe_core *c, struct way *w, struct exchange *x)
{
    struct lane *l = &w->lanes[x->lane];
    int was_unsettled = !x->open && !link_alone(&x->where);
    if (x->open && !link_alone(&x->where))
        fly(w, x, 0);
    x->open = 0;
    if (x->copies_count) {
        if (!was_unsettled) {
            link_append(&l->unsettled, &x->where);
            l->unsettled_count++;
        }
        return;
    }
    if (was_unsettled) {
        assert(l->unsettled_count);
        link_remove(&x->where);
        l->unsettled_count--;
    }
    path_effect(c, (struct effect){.what = EFFECT_SETTLED, .exchange = x});
}

/* Whatever became of its copies, they can do nothing any more. */
static void forget(aoe_core *c, struct way *w, struct exchange *x)
{
    c->counters[AOE_UNANSWERED]++;
    while (x->copies_count)
        drop_copy(c, w, oldest_copy(x));
    close_exchange(c, w, x);
}

void path_make_anew(aoe_core *c, struct way *w, uint32_t tag, int64_t now_ns)
{
    struct copy *copy = *tag_slot(w, tag);
    struct exchange *x = copy->exchange;
    drop_copy(c, w, copy);
    if (!x->open) {
        close_exchange(c, w, x);
        return;
    }
    x->tries--;
    fly(w, x, 0);
    transmit(c, w, x, now_ns);
}

void path_end(aoe_core *c, struct way *w, struct exchange *last)
{
    while (last->copies_count)
        drop_copy(c, w, oldest_copy(last));
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
    transmit(c, w, x, now_ns);
}

/* The peer did not heed those that it got. */
void path_send_changes_again(aoe_core *c, struct way *w, int64_t now_ns)
{
    for (int i = LANE_CHANGES; i <= LANE_SYNCS; i++) {
        struct lane *l = &w->lanes[i];
        for (uint32_t n = l->flying_count; n--;)
            resend(c, w, OWNER_OF(l->flying.next, struct exchange, where), now_ns);
    }
}

void path_abandon(aoe_core *c, struct way *w, struct exchange *x, int64_t now_ns)
{
    if (x->waits) {
        link_remove(&x->where);
        w->waiting_count--;
        x->waits = 0;
    }
    close_exchange(c, w, x);
    fill(c, w, now_ns);
}

void path_settle_all(aoe_core *c, struct way *w)
{
    for (int i = 0; i < LANES; i++)
        while (w->lanes[i].unsettled_count)
            forget(c, w, OWNER_OF(w->lanes[i].unsettled.next, struct exchange, where));
}

/* Answers */

enum verdict_on_reply reply_judge(const uint8_t *raw, uint32_t length, uint32_t command, uint32_t least)
{
    if (wire_of(raw)->command != command)
        return REPLY_UNFIT;
    if (wire_is_error(raw))
        return REPLY_FAILED;
    if (command == COMMAND_ATA) {
        if (length < ATA_HEADER)
            return REPLY_UNFIT;
        if (wire_failed(raw))
            return REPLY_FAILED;
    }
    return length >= least ? REPLY_GOOD : REPLY_UNFIT;
}

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
            forget(c, w, x);
    }
}

/* Send one again of those that only time speaks against. A server that pauses has the others still before it; one that
 * lost them shows it by answering this one, the youngest (as RFC 8985 has it). */
static void probe(aoe_core *c, struct way *w, struct lane *l, int64_t now_ns)
{
    struct exchange *youngest = OWNER_OF(l->flying.prev, struct exchange, where);
    if (!l->flying_count || !late(l, youngest, now_ns) || !may_probe(l, now_ns))
        return;
    l->probes++;
    l->probed_ns = now_ns;
    if (l->probes > PROBES_FORGIVEN)
        window_halve(&w->window);
    resend(c, w, youngest, now_ns);
}

/* What was sent before something that is already answered, and is late (RFC 8985 has the idea). */
static void resend_overtaken(aoe_core *c, struct way *w, struct lane *l, int64_t now_ns)
{
    while (l->flying_count) {
        struct exchange *x = OWNER_OF(l->flying.next, struct exchange, where);
        if (!overtaken(l, x) || !late(l, x, now_ns))
            return;
        resend(c, w, x, now_ns);
    }
}

void path_received(aoe_core *c, struct way *w, uint32_t tag, const uint8_t *raw, uint32_t length, int64_t now_ns)
{
    struct copy *copy = *tag_slot(w, tag);
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
    drop_copy(c, w, copy);
    lane_answered(l, x, sent_ns, now_ns);
    if (x->sectors > 1 && (good || x->lane == LANE_CHANGES))
        pass(l, x->sectors, sent_ns);
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
    close_exchange(c, w, x);
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
    transmit(c, w, w->drain, now_ns);
}

static void sweep(aoe_core *c, struct way *w, int64_t now_ns)
{
    for (int i = 0; i < LANES; i++) {
        struct link *head = &w->lanes[i].unsettled, *next;
        for (struct link *l = head->next; l != head; l = next) {
            struct exchange *x = OWNER_OF(l, struct exchange, where);
            next = l->next;
            if (now_ns - x->sent_ns >= w->lanes[i].quiesce_ns)
                forget(c, w, x);
        }
    }
    if (w->drain && !w->lanes[LANE_CHANGES].unsettled_count) {
        close_exchange(c, w, w->drain);
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
            if (overtaken(l, x) && late(l, x, now_ns))
                resend(c, w, x, now_ns);
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
