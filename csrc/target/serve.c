/* From a frame to its place in the order: the gate, age and streams. */
#include "serve.h"

#include <string.h>
#include <unistd.h>

#include "handed_up.h"
#include "map.h"
#include "operations.h"
#include "ports.h"
#include "replies.h"
#include "requests.h"
#include "table.h"

static const uint8_t kind_of[] = {[V_UP_ORDERED] = K_UP, [V_UP_READ] = K_UP_READ, [V_UP_CHANGE] = K_UP_CHANGE,
                                  [V_READ] = K_READ,     [V_WRITE] = K_WRITE,     [V_FLUSH] = K_FLUSH};

static int lists_ranges(const struct arrival *a)
{
    return parse_is_trim(a->frame) && a->length >= ATA_HEADER + wire_of(a->frame)->ata.count * (size_t)SECTOR;
}

static void place(struct op *op, const struct request *r, const struct arrival *a, uint64_t block_mask)
{
    if (lists_ranges(a)) {
        parse_trim(a->frame, block_mask, UINT64_MAX, &op->where);
        return;
    }
    op->where.count = 1;
    op->where.hull = span_rounded(r->lba, r->count, block_mask);
}

static int has_room(const struct thread *t, const struct export *x)
{
    uint32_t left = OPS - atomic_load_explicit(&t->pending, memory_order_relaxed);
    return x->order.pending < share(left, t->engine->set.queue_max);
}

/* The bytes that go over the wire: a VERIFY has none. */
static uint64_t moved(const struct request *r) { return r->verdict == V_UP_READ ? 0 : (uint64_t)r->count * SECTOR; }

/* It is admitted: what its client asked for, of which it is told later what became. */
static uint8_t asked(struct thread *t, struct export *x, const struct arrival *a, const struct request *r)
{
    uint32_t direction = r->verdict == V_READ ? AOE_CLIENT_READ_BYTES : AOE_CLIENT_WRITTEN_BYTES;
    struct asked asked = {wire_of(a->frame)->src, wire_tag(a->frame), direction, moved(r)};
    return work_asked(&x->work, &t->engine->crowd, &asked, t->boot_ns);
}

/* What is kept of a frame: of a FLUSH also which instance it is for. */
static uint32_t kept_length(enum kind kind, uint32_t length)
{
    uint32_t most = kind == K_FLUSH ? ATA_HEADER + STAMP_TRAILER : ATA_HEADER;
    return kind != K_READ && kind != K_FLUSH ? length : length < most ? length : most;
}

static void admit(struct thread *t, struct export *x, struct op *op, uint32_t port, const struct arrival *a,
                  uint64_t era, const struct request *r, uint64_t begin_ns)
{
    assert(r->verdict >= V_UP_ORDERED && r->verdict < sizeof kind_of);
    uint64_t mask = x->now->block_sectors - 1;
    op->export = x;
    op->kind = kind_of[r->verdict];
    op_by(t, op, port);
    op->lba = r->lba;
    op->count = r->count;
    place(op, r, a, mask);
    op->stamp_ns = a->stamp_ns;
    op->era = era;
    op->number = x->now->number;
    op->durable = r->durable || x->now->flags & AOE_DURABLE;
    op->begin_ns = begin_ns;
    op->submitted_ns = 0;
    op->kept = 0;
    op->error = 0;
    op->skip = 0;
    op->length = kept_length(op->kind, a->length);
    memcpy(op->data - ATA_HEADER, a->frame, op->length);
    if (r->asks)
        depth_asks(&x->depth, op->client, t->boot_ns);
    order_admit(&x->order, op);
    work_pending(&x->work, x->order.pending);
    if (op->state == S_READY)
        operation_run(t, op);
}

static int is_limited(const struct request *r)
{
    return r->verdict == V_READ || r->verdict == V_WRITE || r->verdict == V_UP_READ || r->verdict == V_UP_CHANGE;
}

/* Pays for it, and says when it may begin; 0 where it is dropped. */
static int pays(struct thread *t, struct export *x, const uint8_t *mac, const struct request *r, uint64_t *begin_ns)
{
    struct rates *rates = x->now->rates;
    *begin_ns = rates_begin_ns(rates, mac, t->boot_ns);
    if (*begin_ns - t->boot_ns > rates_patience_ns(frame_age_ns(t->engine))) {
        COUNT_BOTH(t, x, LIMITED);
        return 0;
    }
    if (!has_room(t, x)) {
        COUNT_BOTH(t, x, QUEUE_FULL);
        return 0;
    }
    rates_pay(rates, mac, moved(r), t->boot_ns);
    return 1;
}

/* A store that is memory is served at once, out of the ring and the map, as long as nothing is in the way. */
static int serve_instantly(struct thread *t, struct export *x, uint32_t port, const struct arrival *a,
                           const struct request *r)
{
    const struct view *v = x->now;
    uint64_t offset = v->base + r->lba * SECTOR;
    size_t length = (size_t)r->count * SECTOR;
    if (!(v->flags & AOE_INSTANT) || x->order.pending || x->snapshot)
        return 0;
    if (r->verdict == V_READ) {
        if (!x->map)
            return 0;
        count(t, AOE_ENGINE_READS);
        reply_mapped(t, port, a->frame, &(struct answer){x, a->stamp_ns, (uint32_t)length, K_READ}, offset);
        return 1;
    }
    if (r->verdict != V_WRITE)
        return 0;
    const uint8_t *payload = a->frame + ATA_HEADER;
    outlets_unmap_part(t, x, offset, length); /* replies to earlier reads are copied out of the map as they are sent */
    int mapped = x->map && map_write(x, offset, payload, length);
    if (!mapped && pwrite(v->fd, payload, length, (off_t)offset) != (ssize_t)length)
        return 0; /* written again, and judged, on the long way */
    count(t, AOE_ENGINE_WRITES);
    struct answer answer = {x, a->stamp_ns, (uint32_t)length, K_WRITE};
    if (mapped)
        reply_map_written(t, port, a->frame, &answer);
    else
        reply_plain(t, port, a->frame, &answer);
    return 1;
}

/* Order rule T9: what an IDENTIFY comes to that names this life of ours. One that is too old may be a repetition of
 * long ago: it makes no stream known, and is told which are. */
static uint32_t registers(struct thread *t, struct export *x, const struct arrival *a, uint64_t era)
{
    uint64_t under_way_ns = NETWORK_LIFETIME_NS + t->engine->set.frame_age_ns;
    if (expired(t, a->stamp_ns, era))
        return (uint32_t)streams_place(&x->streams, a->frame);
    return (uint32_t)streams_register(&x->streams, a->frame, a->stamp_ns, a->stamp_ns - under_way_ns);
}

/* `ours`: it belongs to a stream. */
static void carry_out(struct thread *t, struct export *x, uint32_t port, const struct arrival *a, uint64_t era,
                      const struct request *r, int ours)
{
    int changes = r->verdict == V_WRITE || r->verdict == V_UP_CHANGE;
    int is_expired = (r->ages || changes) && expired(t, a->stamp_ns, era);
    if (changes && is_expired) {
        COUNT_BOTH(t, x, EXPIRED);
        return;
    }
    if (r->verdict == V_FLUSH && is_expired && ours) { /* it must not vouch for its epoch */
        COUNT_BOTH(t, x, STALE);
        return;
    }
    if (ours && !is_expired)
        streams_see(&x->streams, a->frame, a->stamp_ns);
    uint64_t begin_ns = 0;
    if (x->now->rates && is_limited(r) && !pays(t, x, wire_of(a->frame)->src, r, &begin_ns))
        return;
    struct op *op = NULL;
    if (begin_ns > t->boot_ns || !serve_instantly(t, x, port, a, r)) {
        op = has_room(t, x) ? op_new(t) : NULL;
        if (!op) {
            COUNT_BOTH(t, x, QUEUE_FULL);
            return;
        }
    }
    uint8_t client = r->asks ? asked(t, x, a, r) : CLIENTS_MAX;
    if (op) {
        op->client = client;
        op->background = (uint8_t)background_has(&x->background, wire_of(a->frame)->src);
        admit(t, x, op, port, a, era, r, begin_ns);
    }
}

void serve_frame(struct thread *t, uint32_t port, const struct arrival *a)
{
    aoe_engine *e = t->engine;
    uint8_t mac[6];
    uint32_t sectors, reason;
    uint16_t shelf;
    uint8_t slot;
    if (!a->for_us) {
        count(t, AOE_OTHER_HOST);
        return;
    }
    assert(a->length <= e->set.frame_max); /* requests and Python have room for that */
    outlet_room(t, port);
    port_facts(e, port, mac, &sectors);
    if (!parse_address(a->frame, a->length, mac, &shelf, &slot, &reason)) {
        count(t, reason);
        return;
    }
    aoe_up up = {.stamp_ns = a->stamp_ns, .port = port, .export_index = NO_EXPORT, .length = a->length};
    struct export *x = table_find(t, shelf, slot);
    if (!x || x->now->elsewhere >> port & 1) {
        if (shelf == SHELF_ALL || slot == SLOT_ALL)
            hand_up(t, &up, a->frame);
        else
            count(t, AOE_OTHER_ADDRESS);
        return;
    }
    const struct view *v = x->now;
    assert(v && !is_gone(x) && thread_owns(t, x)); /* or the table would not have it */
    struct gate gate = {mac, sectors, v->macs, v->macs + 6 * (size_t)v->masked, v->masked, v->reserved,
                        v->sectors, v->flags, v->block_sectors};
    struct request r = parse_request(a->frame, a->length, &gate);
    uint64_t era = t->era - (uint64_t)t->suspect;
    const uint8_t *instance = r.ages || r.identifies ? streams_instance(a->frame, a->length) : NULL;
    int names_us = instance && !memcmp(instance, v->instance, INSTANCE_BYTES);
    up.export_index = x->index;
    if (r.identifies)
        background_says(&x->background, wire_of(a->frame)->src, names_us && wire_lba(a->frame) & BACKGROUND);
    if (r.identifies && names_us)
        up.registered = registers(t, x, a, era);
    if (r.verdict == V_DROP)
        COUNT_BOTH(t, x, MASKED);
    else if (r.verdict == V_UP)
        hand_up(t, &up, a->frame);
    else if (instance && !(names_us && !streams_stale(&x->streams, a->frame)))
        COUNT_BOTH(t, x, STALE);
    else
        carry_out(t, x, port, a, era, &r, instance != NULL);
}
