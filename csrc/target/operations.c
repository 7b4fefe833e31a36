/* What is admitted: it waits for its turn, is done by the disk, and is answered or handed up. */
#include "operations.h"

#include <errno.h>
#include <unistd.h>

#include "handed_up.h"
#include "replies.h"
#include "requests.h"
#include "table.h"

_Static_assert((int)WORKERS_MAX < (int)OPS, "what is at the disk leaves requests for what is not");
_Static_assert((int)OPS <= (int)DELAYED_MAX, "all may be delayed");

static struct request_io *request_of(struct op *op)
{
    return (struct request_io *)((uint8_t *)op - offsetof(struct request_io, op));
}

static void sync_next(struct thread *t, struct export *x);

void operations_settle(struct thread *t, struct export *x)
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
    work_pending(&x->work, x->order.pending);
    if (x->now->number != atomic_load_explicit(&x->settled, memory_order_relaxed))
        operations_settle(t, x);
    while (ready) {
        struct op *next = ready->link;
        operation_run(t, ready);
        ready = next;
    }
}

static void finish(struct thread *t, struct op *op)
{
    assert(op->kind < K_UP_READ && op->state != S_WAITING);
    count(t, op->kind == K_READ ? AOE_ENGINE_READS : op->kind == K_WRITE ? AOE_ENGINE_WRITES : AOE_ENGINE_FLUSHES);
    if (op->submitted_ns)
        work_time(&op->export->work, AOE_EXPORT_DISK, t->boot_ns - op->submitted_ns);
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

/* What serves the image is gone, which has not failed: Python asks the next one (rule T6 does not apply). Of any other
 * store that says nothing. */
static int server_ended(const struct export *x, int32_t result)
{
    return x->now->flags & AOE_IMAGE && (result == -ENOTCONN || result == -ECONNABORTED);
}

static void failed(struct thread *t, struct op *op, int32_t result)
{
    count(t, AOE_ENGINE_DISK_ERRORS);
    op->error = result < 0 ? -result : EIO;
    pass_up(t, op);
}

/* After that nothing is known of what is stored, whatever later syncs say: only a restart ends it, or the operator
 * (rule T6). */
static void sync_failed(struct thread *t, struct op *op, int32_t result)
{
    op->export->now->flags |= AOE_PASS;
    count(t, AOE_ENGINE_DISK_ERRORS);
    op->error = result < 0 ? result : -EIO;
    pass_up(t, op);
}

static int has_late(const struct thread *t, const struct op *line)
{
    uint64_t late_ns = t->now_ns - frame_age_ns(t->engine) / 2;
    while (line && !(line->kind == K_WRITE && line->stamp_ns < late_ns))
        line = line->turn;
    return line != NULL;
}

/* Whether one of these is not to wait any more for others' sake, as it would become too old (rule T3). */
static int hurries(const struct thread *t, const struct turns *turns)
{
    return has_late(t, turns->now.first) || has_late(t, turns->next.first);
}

static int has_place(const struct thread *t, const struct export *x)
{
    uint32_t left = t->at_disk < WORKERS_MAX ? WORKERS_MAX - t->at_disk : 0;
    if (x->at_disk && x->at_disk >= share(left, t->engine->set.places))
        return 0;
    return x->at_disk < x->depth.now || hurries(t, &x->ready) || hurries(t, &x->spare);
}

/* Whether to begin it might keep this thread, and so all others' exports, waiting. */
static int may_wait(const struct thread *t, const struct export *x)
{
    return x->now->flags & AOE_REMOTE || !(x->now->flags & AOE_INSTANT || device_answers(x->device, t->boot_ns));
}

/* Where a process of ours serves the store; NULL: it is no such store. */
static struct plug *plug_of(struct export *x, enum action action)
{
    return x->now->flags & AOE_IMAGE && action != IO_SYNC ? &x->plugs[action] : NULL;
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

static int goes_up(const struct op *op)
{
    uint32_t flags = op->kind == K_FLUSH ? AOE_PASS | AOE_FLUSHES_UP : AOE_PASS;
    return op->kind >= K_UP_READ || (op->kind != K_READ && op->export->now->flags & flags);
}

static void start_io(struct thread *t, struct op *op, enum action action, uint64_t first, uint64_t last)
{
    struct request_io *r = request_of(op);
    const struct view *v = op->export->now;
    assert(op->state == S_READY && op->export->at_disk < t->engine->set.places);
    op->state = S_RUNNING;
    op->submitted_ns = t->boot_ns;
    op->export->at_disk++;
    op->export->writing += action == IO_WRITE;
    op->export->spared += op->background;
    r->io = (struct io){.owner = op,
                        .buffer = op->data,
                        .fd = v->fd,
                        .may_block = may_wait(t, op->export),
                        .weight = op->kind == K_FLUSH && !(v->flags & AOE_DIRECT) ? op->export->device->room : 1,
                        .action = action,
                        .plug = plug_of(op->export, action),
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
    COUNT_BOTH(t, op->export, EXPIRED);
    leave(t, op);
    op_free(t, op);
}

static void to_disk(struct thread *t, struct op *op)
{
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

/* Meanwhile a sync may have failed, and what ran may have read it ahead. */
static void has_turn(struct thread *t, struct op *op)
{
    if (goes_up(op))
        pass_up(t, op);
    else if (op->kind == K_READ && read_now(t, op))
        finish(t, op);
    else
        to_disk(t, op);
}

/* Whose turn it is, of what can wait only as far as aoe/target/background.py says; NULL: no one's. */
static struct turns *turns_next(const struct thread *t, struct export *x)
{
    struct turns *others = turns_empty(&x->ready) ? NULL : &x->ready;
    if (turns_empty(&x->spare))
        return others;
    if (hurries(t, &x->spare))
        return &x->spare;
    if (x->rest.until_ns && !x->snapshot) /* which waits for changes */
        return others;
    uint32_t most = others ? 0 : leeway(&t->engine->leeway);
    int has_passed = !others || x->passed >= BACKGROUND_PASSED;
    return x->spared < most || (!x->spared && has_passed) ? &x->spare : others;
}

static void give_places(struct thread *t, struct export *x)
{
    for (struct turns *next; (next = turns_next(t, x)) && has_place(t, x);) { /* one that needs none leaves it to the next */
        struct op *op = turns_take(next);
        x->passed = !op->background && !turns_empty(&x->spare) ? x->passed + 1 : 0;
        has_turn(t, op);
    }
}

void operation_run(struct thread *t, struct op *op)
{
    struct export *x = op->export;
    assert(op->state == S_READY && !op->waits && x->now);
    if (op->begin_ns > t->boot_ns) {
        delays_add(&t->delays, op);
        return;
    }
    if (x->snapshot && cut_concerns(op) && cut_keeps(x->snapshot, op))
        return;
    if (op->kind == K_UP_CHANGE && expired(t, op->stamp_ns, op->era)) {
        drop_expired(t, op);
        return;
    }
    if (goes_up(op)) {
        pass_up(t, op);
        return;
    }
    if (op->kind == K_READ && read_now(t, op)) {
        finish(t, op);
        return;
    }
    if (!op->background) {
        leeway_end(&t->engine->leeway);
        if (turns_empty(&x->ready) && turns_empty(&x->spare) && has_place(t, x)) {
            turns_pass(&x->ready, op);
            to_disk(t, op);
            return;
        }
    }
    turns_add(op->background ? &x->spare : &x->ready, op);
    give_places(t, x);
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
        if (server_ended(x, result))
            failed(t, op, result);
        else if (result < 0 || distrusted(x))
            sync_failed(t, op, result);
        else
            finish(t, op);
        op = next;
    }
    sync_next(t, x);
}

/* To sync all that was written by the present descriptor; their number. What another one wrote went to a process that has
 * ended, and the next one's sync says nothing of it (rule T6): Python writes it again. */
static uint32_t take_unsynced(struct thread *t, struct export *x)
{
    uint32_t written = 0;
    struct op *op = x->unsynced;
    x->unsynced = NULL;
    for (struct op *next; op; op = next) {
        next = op->link;
        if (request_of(op)->io.fd != x->now->fd) {
            failed(t, op, -ENOTCONN);
            continue;
        }
        op->link = x->syncing;
        x->syncing = op;
        written++;
    }
    return written;
}

static void sync_next(struct thread *t, struct export *x)
{
    if (x->syncing || x->sync_after)
        return;
    assert(!x->sync.owner);
    uint32_t written = take_unsynced(t, x);
    if (!written)
        return;
    x->sync = (struct io){.owner = NULL,
                          .fd = x->now->fd,
                          .may_block = 1,
                          .weight = x->now->flags & AOE_DIRECT ? 1 : written,
                          .action = IO_SYNC};
    begin(t, x, &x->sync);
}

static void write_over(struct export *x)
{
    assert(x->writing >= x->sync_after && x->writing);
    x->writing--;
    x->sync_after -= x->sync_after > 0;
}

/* A sync of an image keeps its writes waiting: there is one for all that are at the disk by now. */
static void wait_for_sync(struct export *x, struct op *op)
{
    if (!x->unsynced && x->now->flags & AOE_IMAGE)
        x->sync_after = x->writing;
    op->link = x->unsynced;
    x->unsynced = op;
}

static void io_done(struct thread *t, struct op *op, const struct io *io)
{
    struct export *x = op->export;
    assert(op->state == S_RUNNING && &request_of(op)->io == io);
    ended(t, x, io);
    if (io->action != IO_SYNC)
        depth_ended(&x->depth, t->boot_ns, x->at_disk);
    int good = io->action == IO_SYNC ? io->result == 0 : io->result == (int32_t)io->length;
    int durable = op->kind == K_WRITE && op->durable;
    if (op->kind == K_WRITE)
        write_over(x);
    if (op->background) {
        int others_asked = leeway_grow(&t->engine->leeway, t->engine->set.places);
        x->spared--;
        rest_ended(&x->rest, &t->resting, op->submitted_ns, t->boot_ns, others_asked);
    }
    if (good && durable) { /* many writes share a sync */
        wait_for_sync(x, op);
    } else if (good && !(op->kind == K_FLUSH && distrusted(x))) {
        finish(t, op);
    } else if (server_ended(x, io->result)) {
        failed(t, op, io->result);
    } else if (op->kind == K_FLUSH || (durable && io->result == -EIO && !(x->now->flags & AOE_DIRECT))) {
        sync_failed(t, op, io->result);
    } else {
        failed(t, op, io->result);
    }
    if (x->unsynced)
        sync_next(t, x);
    assert(x->at_disk);
    x->at_disk--;
    give_places(t, x);
}

int operations_completed(struct thread *t)
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

int operations_begin(struct thread *t)
{
    int any = 0;
    for (struct op *op; (op = delays_due(&t->delays, t->boot_ns)); any = 1)
        operation_run(t, op);
    for (struct rest *rest; (rest = rests_due(&t->resting, t->boot_ns)); any = 1)
        give_places(t, (struct export *)((uint8_t *)rest - offsetof(struct export, rest)));
    return any;
}

void operations_released(struct thread *t, struct export *x)
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
