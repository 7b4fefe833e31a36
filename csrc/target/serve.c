/* From a frame to its reply: the gate, the order, the disk. */
#include "serve.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "handed_up.h"
#include "map.h"
#include "ports.h"
#include "replies.h"
#include "requests.h"
#include "table.h"

_Static_assert((int)WORKERS_MAX < (int)OPS, "what is at the disk leaves requests for what is not");

static struct request_io *request_of(struct op *op)
{
    return (struct request_io *)((uint8_t *)op - offsetof(struct request_io, op));
}

static void run_ready(struct thread *t, struct op *op);
static void sync_next(struct thread *t, struct export *x);

static int expired(const struct thread *t, uint64_t stamp_ns, uint64_t era)
{
    return era != t->era || stamp_ns > t->now_ns || t->now_ns - stamp_ns > frame_age_ns(t->engine);
}

void settle(struct thread *t, struct export *x)
{
    int64_t number = x->order.head ? x->order.head->number : x->now->number;
    if (is_gone(x)) /* that is told when nothing is left of it */
        return;
    if (number == atomic_load_explicit(&x->settled, memory_order_relaxed))
        return;
    assert(number > atomic_load_explicit(&x->settled, memory_order_relaxed)); /* what is settled stays so (rule T5) */
    atomic_store_explicit(&x->settled, number, memory_order_release);
    t->up_news = 1;
}

/* Out of the order; the ones that waited for it may go. Its buffer is the caller's to free. */
static void leave(struct thread *t, struct op *op)
{
    struct export *x = op->export;
    struct op *ready = order_done(&x->order, op);
    if (x->now->number != atomic_load_explicit(&x->settled, memory_order_relaxed))
        settle(t, x);
    while (ready) {
        struct op *next = ready->link;
        run_ready(t, ready);
        ready = next;
    }
}

static void finish(struct thread *t, struct op *op)
{
    assert(op->kind < K_UP_READ && op->state != S_WAITING);
    count(t, op->kind == K_READ ? AOE_READS : op->kind == K_WRITE ? AOE_WRITES : AOE_FLUSHES);
    outlet_room(t, op->port);
    int replied = reply_op(t, op);
    leave(t, op);
    if (!replied)
        op_free(t, op);
}

/* To Python with its place kept: it is Python's to do, or the disk failed and Python is to find out how. */
static void pass_up(struct thread *t, struct op *op)
{
    assert(op->state == S_READY || op->state == S_RUNNING);
    outlets_unmap(t); /* what Python does to the disk must not show in replies to earlier reads */
    op->state = S_UP;
    op->ticket = ++t->tickets * OPS + (uint64_t)(request_of(op) - t->ops);
    aoe_up up = {
        .stamp_ns = op->error ? t->now_ns : op->stamp_ns,
        .ticket = op->ticket,
        .port = op->port,
        .export_index = op->export->index,
        .error = op->error,
        .length = op->length,
    };
    if (!hand_up(t, &up, op->data - ATA_HEADER)) {
        leave(t, op);
        op_free(t, op);
    }
}

static void failed(struct thread *t, struct op *op, int32_t result)
{
    count(t, AOE_DISK_ERRORS);
    op->error = result < 0 ? -result : EIO;
    pass_up(t, op);
}

/* After that nothing is known of what is stored, whatever later syncs say: only a restart ends it (rule T6). */
static void sync_failed(struct thread *t, struct op *op, int32_t result)
{
    op->export->now->flags |= AOE_PASS;
    count(t, AOE_DISK_ERRORS);
    op->error = result < 0 ? result : -EIO;
    pass_up(t, op);
}

/* What one export may have of what all share: never so much that nothing is left for the others. */
static uint32_t share(uint32_t left, uint32_t most)
{
    enum { PARTS = 8 };
    return left / PARTS < most ? left / PARTS : most;
}

static int has_place(const struct thread *t, const struct export *x)
{
    uint32_t left = t->at_disk < WORKERS_MAX ? WORKERS_MAX - t->at_disk : 0;
    return !x->at_disk || x->at_disk < share(left, t->engine->set.places);
}

/* Whether to begin it might keep this thread, and so all others' exports, waiting. */
static int may_wait(const struct thread *t, const struct export *x)
{
    return x->now->flags & AOE_REMOTE || !(x->now->flags & AOE_INSTANT || device_answers(x->device, t->boot_ns));
}

static void begin(struct thread *t, struct export *x, struct io *io)
{
    sectors_start(t->sectors, io);
    t->at_disk++;
    device_begin(x->device, io->weight, t->boot_ns);
}

static void ended(struct thread *t, struct export *x, const struct io *io)
{
    assert(t->at_disk);
    t->at_disk--;
    device_end(x->device, io->weight, t->boot_ns);
}

static int distrusted(const struct export *x) { return (x->now->flags & AOE_PASS) != 0; }

static void place_free(struct thread *t, struct export *x)
{
    assert(x->at_disk);
    x->at_disk--;
    while (x->ready && has_place(t, x)) { /* one that needs no place leaves it to the next */
        struct op *op = x->ready;
        x->ready = op->link;
        if (!x->ready)
            x->ready_tail = &x->ready;
        run_ready(t, op);
    }
}

static void start_io(struct thread *t, struct op *op, enum action action, uint64_t first, uint64_t last)
{
    struct request_io *r = request_of(op);
    const struct view *v = op->export->now;
    assert(op->state == S_READY && op->export->at_disk < t->engine->set.places);
    op->state = S_RUNNING;
    op->export->at_disk++;
    r->io = (struct io){.owner = op,
                        .buffer = op->data,
                        .fd = v->fd,
                        .may_block = may_wait(t, op->export),
                        .weight = op->kind == K_FLUSH && !(v->flags & AOE_DIRECT) ? op->export->device->room : 1,
                        .action = action,
                        .offset = v->base + first * SECTOR,
                        .length = (uint32_t)(last - first) * SECTOR};
    begin(t, op->export, &r->io);
}

/* Without waiting: memory, or what the page cache holds. */
static int read_now(const struct thread *t, struct op *op)
{
    const struct view *v = op->export->now;
    struct iovec part = {op->data, (size_t)op->count * SECTOR};
    if (v->flags & AOE_DIRECT || may_wait(t, op->export))
        return 0;
    int flags = v->flags & AOE_INSTANT ? 0 : RWF_NOWAIT;
    return preadv2(v->fd, &part, 1, (off_t)(v->base + op->lba * SECTOR), flags) == (ssize_t)part.iov_len;
}

static void run_write(struct thread *t, struct op *op)
{
    const struct view *v = op->export->now;
    outlets_unmap(t); /* where threads do the work, it begins before the replies have left */
    op->durable |= (v->flags & AOE_DURABLE) != 0; /* the cache was switched off while it waited */
    start_io(t, op, IO_WRITE, op->lba, op->lba + op->count);
}

static void drop_expired(struct thread *t, struct op *op)
{
    count(t, AOE_EXPIRED);
    leave(t, op);
    op_free(t, op);
}

static void run_ready(struct thread *t, struct op *op)
{
    struct export *x = op->export;
    assert(op->state == S_READY && !op->waits && x->now);
    if (op->kind == K_UP_CHANGE && expired(t, op->stamp_ns, op->era)) {
        drop_expired(t, op);
        return;
    }
    if (op->kind >= K_UP_READ || (op->kind != K_READ && distrusted(x))) {
        pass_up(t, op);
        return;
    }
    if (op->kind == K_READ && read_now(t, op)) {
        finish(t, op);
        return;
    }
    if (!has_place(t, x)) {
        op->link = NULL;
        *x->ready_tail = op;
        x->ready_tail = &op->link;
        return;
    }
    if (op->kind == K_FLUSH) {
        start_io(t, op, IO_SYNC, 0, 0);
    } else if (op->kind == K_READ) {
        op->skip = (uint32_t)(op->lba - op->where.hull.first) * SECTOR;
        start_io(t, op, IO_READ, op->where.hull.first, op->where.hull.last);
    } else if (expired(t, op->stamp_ns, op->era)) {
        drop_expired(t, op);
    } else {
        run_write(t, op);
    }
}

static void sync_done(struct thread *t, struct export *x)
{
    struct op *op = x->syncing;
    int32_t result = x->sync.result;
    ended(t, x, &x->sync);
    x->syncing = NULL;
    x->sync.owner = NULL;
    while (op) {
        struct op *next = op->link;
        assert(op->export == x && op->kind == K_WRITE && op->durable && op->state == S_RUNNING);
        if (result < 0 || distrusted(x))
            sync_failed(t, op, result);
        else
            finish(t, op);
        op = next;
    }
    sync_next(t, x);
}

static void sync_next(struct thread *t, struct export *x)
{
    if (x->syncing || !x->unsynced)
        return;
    assert(!x->sync.owner);
    x->syncing = x->unsynced;
    x->unsynced = NULL;
    uint32_t written = 0;
    for (const struct op *op = x->syncing; op; op = op->link)
        written++;
    x->sync = (struct io){.owner = NULL,
                          .fd = x->now->fd,
                          .may_block = 1,
                          .weight = x->now->flags & AOE_DIRECT ? 1 : written,
                          .action = IO_SYNC};
    begin(t, x, &x->sync);
}

static void io_done(struct thread *t, struct op *op, const struct io *io)
{
    struct export *x = op->export;
    assert(op->state == S_RUNNING && &request_of(op)->io == io);
    ended(t, x, io);
    int good = io->action == IO_SYNC ? io->result == 0 : io->result == (int32_t)io->length;
    int durable = op->kind == K_WRITE && op->durable;
    if (good && durable) { /* many writes share a sync */
        op->link = x->unsynced;
        x->unsynced = op;
        sync_next(t, x);
    } else if (good && !(op->kind == K_FLUSH && distrusted(x))) {
        finish(t, op);
    } else if (op->kind == K_FLUSH || (durable && io->result == -EIO && !(x->now->flags & AOE_DIRECT))) {
        sync_failed(t, op, io->result);
    } else {
        failed(t, op, io->result);
    }
    place_free(t, x);
}

int serve_completions(struct thread *t)
{
    int any = 0;
    for (struct io *io = sectors_reap(t->sectors), *next; io; io = next, any = 1) {
        next = io->link;
        if (io->owner)
            io_done(t, io->owner, io);
        else
            sync_done(t, (struct export *)((uint8_t *)io - offsetof(struct export, sync)));
    }
    return any;
}

static const uint8_t kind_of[] = {[V_UP_ORDERED] = K_UP, [V_UP_READ] = K_UP_READ, [V_UP_CHANGE] = K_UP_CHANGE,
                                  [V_READ] = K_READ,     [V_WRITE] = K_WRITE,     [V_FLUSH] = K_FLUSH};

static void place(struct op *op, const struct request *r, const uint8_t *frame, uint64_t block_mask)
{
    if (r->verdict == V_UP_CHANGE && parse_is_trim(frame)) {
        parse_trim(frame, block_mask, UINT64_MAX, &op->where);
        return;
    }
    op->where.count = 1;
    op->where.hull = span_rounded(r->lba, r->count, block_mask);
}

static void admit(struct thread *t, struct export *x, uint32_t port, const struct arrival *a, uint64_t era,
                  const struct request *r)
{
    assert(r->verdict >= V_UP_ORDERED && r->verdict < sizeof kind_of);
    uint32_t most = share(OPS - atomic_load_explicit(&t->pending, memory_order_relaxed), t->engine->set.queue_max);
    struct op *op = x->order.pending < most ? op_new(t) : NULL;
    if (!op) {
        count(t, AOE_QUEUE_FULL);
        return;
    }
    uint64_t mask = x->now->block_sectors - 1;
    op->export = x;
    op->kind = kind_of[r->verdict];
    op->port = port;
    op->lba = r->lba;
    op->count = r->count;
    place(op, r, a->frame, mask);
    op->stamp_ns = a->stamp_ns;
    op->era = era;
    op->number = x->now->number;
    op->durable = r->durable || x->now->flags & AOE_DURABLE;
    op->error = 0;
    op->skip = 0;
    op->length = op->kind == K_READ || op->kind == K_FLUSH ? ATA_HEADER : a->length;
    memcpy(op->data - ATA_HEADER, a->frame, op->length);
    order_admit(&x->order, op);
    if (op->state == S_READY)
        run_ready(t, op);
}

/* A store that is memory is served at once, out of the ring and the map, as long as nothing is in the way. */
static int serve_instantly(struct thread *t, struct export *x, uint32_t port, const struct arrival *a,
                           const struct request *r)
{
    const struct view *v = x->now;
    uint64_t offset = v->base + r->lba * SECTOR;
    if (!(v->flags & AOE_INSTANT) || x->order.pending)
        return 0;
    if (r->verdict == V_READ) {
        if (!x->map)
            return 0;
        count(t, AOE_READS);
        reply_mapped(t, port, a->frame, x, offset, r->count);
        return 1;
    }
    if (r->verdict != V_WRITE)
        return 0;
    const uint8_t *payload = a->frame + ATA_HEADER;
    size_t length = (size_t)r->count * SECTOR;
    outlets_unmap_part(t, x, offset, length); /* replies to earlier reads are copied out of the map as they are sent */
    int mapped = x->map && map_write(x, offset, payload, length);
    if (!mapped && pwrite(v->fd, payload, length, (off_t)offset) != (ssize_t)length)
        return 0; /* written again, and judged, on the long way */
    count(t, AOE_WRITES);
    if (mapped)
        reply_map_written(t, port, a->frame, x);
    else
        reply_plain(t, port, a->frame);
    return 1;
}

/* Order rule T9: what an IDENTIFY comes to that names this life of ours. One that is too old may be a repetition of
 * long ago. */
static uint32_t registers(struct thread *t, struct export *x, const struct arrival *a, uint64_t era)
{
    uint64_t under_way_ns = NETWORK_LIFETIME_NS + t->engine->set.frame_age_ns;
    if (expired(t, a->stamp_ns, era))
        return STREAM_NONE;
    return (uint32_t)streams_register(&x->streams, a->frame, a->stamp_ns, a->stamp_ns - under_way_ns);
}

/* `ours`: it belongs to a stream. */
static void carry_out(struct thread *t, struct export *x, uint32_t port, const struct arrival *a, uint64_t era,
                      const struct request *r, int ours)
{
    int changes = r->verdict == V_WRITE || r->verdict == V_UP_CHANGE;
    int is_expired = (r->ages || changes) && expired(t, a->stamp_ns, era);
    if (changes && is_expired) {
        count(t, AOE_EXPIRED);
        return;
    }
    if (r->verdict == V_FLUSH && is_expired && ours) { /* it must not vouch for its epoch */
        count(t, AOE_STALE);
        return;
    }
    atomic_store_explicit(&x->used_ns, t->boot_ns, memory_order_relaxed);
    if (ours && !is_expired)
        streams_see(&x->streams, a->frame, a->stamp_ns);
    if (!serve_instantly(t, x, port, a, r))
        admit(t, x, port, a, era, r);
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
    if (!x) {
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
    if (r.identifies && names_us)
        up.registered = registers(t, x, a, era);
    if (r.verdict == V_DROP)
        count(t, r.reason);
    else if (r.verdict == V_UP)
        hand_up(t, &up, a->frame);
    else if (instance && !(names_us && !streams_stale(&x->streams, a->frame)))
        count(t, AOE_STALE);
    else
        carry_out(t, x, port, a, era, &r, instance != NULL);
}

void serve_released(struct thread *t, struct export *x)
{
    for (struct op *op = x->order.head; op;) {
        struct op *next = op->next;
        if (op->state == S_UP && atomic_load(&op->released) == op->ticket) {
            leave(t, op);
            op_free(t, op);
            next = x->order.head; /* leaving may have handed up and dropped others */
        }
        op = next;
    }
}
