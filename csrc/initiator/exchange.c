/* A request to one server, and its transmissions: each is a copy with a tag and a fate of its own (order rules I1, I2).
 * As aoe/initiator/exchange.py, and what of channel.py is of one request. */
#include <assert.h>
#include <string.h>

#include "channel.h"

void copy_drop(aoe_core *c, struct path *path, struct copy *copy)
{
    assert(*copy_slot(path, copy->tag) == copy && copy->exchange->copies_count);
    *copy_slot(path, copy->tag) = copy->next;
    link_remove(&copy->of_exchange);
    copy->exchange->copies_count--;
    pool_give(&c->copies, copy);
}

struct exchange *exchange_new(aoe_core *c, struct path *path, const struct body *body, uint32_t command, uint32_t lane,
                              uint32_t reply_min)
{
    struct exchange *x = pool_take(&c->exchanges);
    x->path = path;
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

static void fly(struct path *path, struct exchange *x, int up)
{
    struct lane *l = &path->lanes[x->lane];
    if (up) {
        link_append(&l->flying, &x->where);
        l->flying_count++;
    } else {
        assert(l->flying_count);
        link_remove(&x->where);
        l->flying_count--;
    }
}

/* What says which stream it belongs to, where the peer knows ours. */
static int is_stamped(const struct path *path, const struct exchange *x)
{
    uint8_t opcode = x->body->ata.opcode;
    int trims = opcode == DATA_SET_MANAGEMENT && path->trims;
    int changes = opcode == WRITE_SECTORS_EXT || opcode == WRITE_DMA_FUA_EXT || trims;
    int flushes = opcode == FLUSH_CACHE || opcode == FLUSH_CACHE_EXT;
    return x->command == COMMAND_ATA && (changes || flushes);
}

/* A flush that says no epoch changes nothing. */
static void owe(aoe_core *c, const struct path *path, const struct exchange *x, const struct stamp *with, uint32_t tag,
                int64_t now_ns)
{
    if (!with->stream && x->lane != LANE_CHANGES)
        return;
    aoe_debt debt = {.instance = with->instance, .quiesce_ns = path->bound_ns, .port = path->port,
                     .shelf = path->shelf, .stream = with->stream, .slot = path->slot, .epoch = with->epoch};
    memcpy(debt.own, path->own, MAC_BYTES);
    memcpy(debt.mac, path->mac, MAC_BYTES);
    debts_note(&c->debts, &c->set.timing, &debt, tag & TAG_MASK, now_ns);
}

static void stamp(aoe_core *c, const struct path *path, struct exchange *x, aoe_out *out, uint32_t tag, int64_t now_ns)
{
    _Static_assert(sizeof out->tail == STAMP_TRAILER, "room for it");
    struct stamp stamp = is_stamped(path, x) ? path->stamp : (struct stamp){0};
    int same = x->tries == 1 || x->stamp.stream == stamp.stream;
    x->stamp = same ? stamp : (struct stamp){0};
    owe(c, path, x, &stamp, tag, now_ns);
    if (!stamp.stream)
        return;
    stamp_registers(&wire_at(out->head)->ata, &stamp);
    out->tail_length = out->data_length ? STAMP_TRAILER : 0;
    stamp_trailer(out->data_length ? out->tail : out->head + ATA_HEADER, &stamp);
}

void exchange_transmit(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns)
{
    if (!x->tries && !path->lanes[x->lane].flying_count)
        path->lanes[x->lane].probes = 0;
    if (!x->tries && !channel_outstanding(path))
        path->asked_ns = now_ns;
    struct copy *copy = pool_take(&c->copies), **slot;
    copy->tag = channel_new_tag(path);
    copy->sent_ns = now_ns;
    copy->exchange = x;
    slot = &path->tags[copy->tag % TAG_BUCKETS];
    copy->next = *slot;
    *slot = copy;
    link_append(&x->copies, &copy->of_exchange);
    x->tries++;
    x->guessed = 0;
    x->sent_ns = x->since_ns = now_ns;
    x->generation = x->tries == 1 || x->generation == path->generation ? path->generation : -1;
    if (++x->copies_count > COPIES_MAX)
        copy_drop(c, path, oldest_copy(x));
    fly(path, x, 1);
    aoe_out *out = send_frame(c, path->port, path->mac, path->own, path->shelf, path->slot, x->command, copy->tag,
                              x->body);
    if (x->lane != LANE_READS)
        stamp(c, path, x, out, copy->tag, now_ns);
}

void exchange_resend(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns)
{
    c->counters[AOE_RETRANSMITS]++;
    window_lost(&path->window, now_ns, lane_usual_ns(&path->lanes[x->lane]));
    fly(path, x, 0);
    exchange_transmit(c, path, x, now_ns);
    if (x->sectors > path->suspect && lane_suspects(&path->lanes[x->lane], x)) {
        path->suspect = x->sectors;
        path->suspect_lane = x->lane;
        path->suspect_lba = wire_little(x->body->ata.lba, LBA_BYTES);
    }
}

/* No answer is wanted any more, or a copy less is of unknown fate. */
void exchange_close(aoe_core *c, struct path *path, struct exchange *x)
{
    struct lane *l = &path->lanes[x->lane];
    int was_unsettled = !x->open && !link_alone(&x->where);
    if (x->open && !link_alone(&x->where))
        fly(path, x, 0);
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
    *channel_effect(c) = (struct effect){.what = EFFECT_SETTLED, .exchange = x};
}

void exchange_forget_copies(aoe_core *c, struct path *path, struct exchange *x)
{
    while (x->copies_count)
        copy_drop(c, path, oldest_copy(x));
}

int exchange_is_over(const struct path *path, const struct exchange *x)
{
    int named = path->alone && x->stamp.stream && x->stamp.instance != path->instance;
    return x->lane == LANE_READS || (named && is_stamped(path, x));
}

/* Whatever became of its copies, they can do nothing any more. */
void exchange_forget(aoe_core *c, struct path *path, struct exchange *x)
{
    c->counters[AOE_UNANSWERED]++;
    exchange_forget_copies(c, path, x);
    exchange_close(c, path, x);
}

/* In place of copies that never were. */
void exchange_send_anew(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns)
{
    fly(path, x, 0);
    exchange_transmit(c, path, x, now_ns);
}
