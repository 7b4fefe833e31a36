#include "sectors.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ENTRIES = 1024, PART = 2 };

struct sectors {
    int uring, event;
    uint32_t under_way, in_threads;
    struct io_uring ring;
    struct iovec parts[ENTRIES]; /* of what is not submitted yet */
    uint32_t parts_used;
    struct plug *plugs; /* where something may have to go */
    /* Without io_uring: */
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct io *todo, **todo_tail, *done;
    uint32_t queued, finished, idle, workers;
    int stopping;
};

/* Room for PLUG_PARTS; how many they are. */
static uint32_t parts_of(const struct io *io, struct iovec *parts)
{
    uint32_t count = 0;
    for (; io; io = io->joined) {
        assert(count < PLUG_PARTS);
        parts[count++] = (struct iovec){io->buffer, io->length};
    }
    return count;
}

static int32_t perform(const struct io *io)
{
    struct iovec parts[PLUG_PARTS];
    int count = (int)parts_of(io, parts);
    ssize_t got = -1;
    switch (io->action) {
    case IO_READ:
        got = preadv(io->fd, parts, count, (off_t)io->offset);
        break;
    case IO_WRITE:
        got = pwritev(io->fd, parts, count, (off_t)io->offset);
        break;
    case IO_SYNC:
        got = fdatasync(io->fd);
        break;
    }
    return got < 0 ? -errno : (int32_t)got;
}

static void *work(void *argument)
{
    struct sectors *s = argument;
    pthread_mutex_lock(&s->lock);
    while (!s->stopping) {
        struct io *io = s->todo;
        if (!io) {
            s->idle++;
            pthread_cond_wait(&s->more, &s->lock);
            s->idle--;
            continue;
        }
        assert(s->queued);
        s->todo = io->link;
        if (!s->todo)
            s->todo_tail = &s->todo;
        s->queued--;
        pthread_mutex_unlock(&s->lock);
        io->result = perform(io);
        pthread_mutex_lock(&s->lock);
        assert(s->under_way > s->finished);
        io->link = s->done;
        s->done = io;
        s->finished++;
        eventfd_write(s->event, 1);
    }
    s->workers--;
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* With the lock held: one more worker if all are busy, so that a request that hangs holds up only itself. */
static void enough_workers(struct sectors *s)
{
    pthread_t thread;
    if (s->queued <= s->idle || s->workers >= WORKERS_MAX || pthread_create(&thread, NULL, work, s))
        return;
    pthread_detach(thread);
    s->workers++;
}

/* Debian 12's liburing declares functions for these two that it does not export. */
static int tell_ring(const struct io_uring *ring, unsigned what, const void *how, unsigned count)
{
    return syscall(__NR_io_uring_register, ring->ring_fd, what, how, count) < 0 ? -errno : 0;
}

/* To nothing but what `prepare` asks for, and to no more registrations once it is enabled. */
static int restrict_ring(const struct io_uring *ring)
{
    struct io_uring_restriction allowed[] = {
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITE},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV},
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_ASYNC},
    };
    return tell_ring(ring, IORING_REGISTER_RESTRICTIONS, allowed, sizeof allowed / sizeof *allowed);
}

static int open_uring(struct sectors *s)
{
    struct io_uring_params best = {.flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                                            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED,
                                   .cq_entries = 8 * ENTRIES};
    struct io_uring_params old = {.flags = IORING_SETUP_CQSIZE | IORING_SETUP_R_DISABLED, .cq_entries = 8 * ENTRIES};
    if (io_uring_queue_init_params(ENTRIES, &s->ring, &best) && io_uring_queue_init_params(ENTRIES, &s->ring, &old))
        return 0;
    if (io_uring_register_eventfd(&s->ring, s->event) || restrict_ring(&s->ring)) {
        io_uring_queue_exit(&s->ring);
        return 0;
    }
    unsigned workers[2] = {WORKERS_MAX, WORKERS_MAX};
    io_uring_register_iowq_max_workers(&s->ring, workers);
    return 1;
}

struct sectors *sectors_open(int plain, int event)
{
    struct sectors *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->event = event;
    s->todo_tail = &s->todo;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->more, NULL);
    s->uring = !plain && open_uring(s);
    return s;
}

int sectors_begin(struct sectors *s) { return s->uring ? tell_ring(&s->ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0) : 0; }

int sectors_use_uring(const struct sectors *s) { return s->uring; }

static void prepare(struct io_uring_sqe *sqe, struct io *io)
{
    switch (io->action) {
    case IO_READ:
        io_uring_prep_read(sqe, io->fd, io->buffer, io->length, io->offset);
        break;
    case IO_WRITE:
        io_uring_prep_write(sqe, io->fd, io->buffer, io->length, io->offset);
        break;
    case IO_SYNC:
        io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
        break;
    }
}

static void prepare_joined(struct sectors *s, struct io_uring_sqe *sqe, struct io *io)
{
    struct iovec *parts = s->parts + s->parts_used;
    uint32_t count = parts_of(io, parts);
    s->parts_used += count;
    if (io->action == IO_READ)
        io_uring_prep_readv(sqe, io->fd, parts, count, io->offset);
    else
        io_uring_prep_writev(sqe, io->fd, parts, count, io->offset);
}

/* The kernel copies the parts. */
static void submit(struct sectors *s)
{
    io_uring_submit(&s->ring);
    s->parts_used = 0;
}

static void to_uring(struct sectors *s, struct io *io)
{
    if (s->parts_used > ENTRIES - PLUG_PARTS)
        submit(s);
    struct io_uring_sqe *sqe;
    while (!(sqe = io_uring_get_sqe(&s->ring)))
        submit(s);
    if (io->joined)
        prepare_joined(s, sqe, io);
    else
        prepare(sqe, io);
    io_uring_sqe_set_data(sqe, io);
    if (io->may_block)
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
}

static void to_workers(struct sectors *s, struct io *io)
{
    io->link = NULL;
    pthread_mutex_lock(&s->lock);
    *s->todo_tail = io;
    s->todo_tail = &io->link;
    s->queued++;
    enough_workers(s);
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
}

static void hand_over(struct sectors *s, struct io *io)
{
    if (s->uring)
        to_uring(s, io);
    else
        to_workers(s, io);
}

/* io_uring itself has threads for what cannot be done without blocking. */
static uint32_t takes_thread(const struct sectors *s, const struct io *io)
{
    return !s->uring || io->may_block || io->action == IO_SYNC;
}

int sectors_busy(const struct sectors *s) { return s->under_way != 0; }
int sectors_threads_busy(const struct sectors *s) { return s->in_threads != 0; }

static void list(struct sectors *s, struct plug *plug)
{
    if (plug->listed)
        return;
    plug->listed = 1;
    plug->next = s->plugs;
    s->plugs = plug;
}

void sectors_start(struct sectors *s, struct io *io)
{
    assert(io->action == IO_SYNC || (io->buffer && io->length));
    s->under_way++;
    s->in_threads += takes_thread(s, io);
    assert(s->in_threads <= s->under_way);
    if (!io->plug) {
        hand_over(s, io);
        return;
    }
    plug_add(io->plug, io);
    list(s, io->plug);
}

void sectors_go(struct sectors *s)
{
    for (struct plug *plug; (plug = s->plugs);) {
        s->plugs = plug->next;
        plug->listed = 0;
        for (struct io *io; (io = plug_take(plug));)
            hand_over(s, io);
    }
    if (s->uring && io_uring_sq_ready(&s->ring))
        submit(s);
}

/* How many to take: no more than the disk still works on. */
static uint32_t part(const struct sectors *s, uint32_t ready)
{
    assert(ready <= s->under_way); /* only what was begun can be done */
    uint32_t left = s->under_way - ready;
    return left > PART ? left : PART;
}

/* Puts it there, and what went with it. */
static struct io **over(struct sectors *s, struct io *io, struct io **tail)
{
    if (io->plug) {
        plug_over(io->plug, io, io->result);
        list(s, io->plug);
    }
    for (; io; io = io->joined) {
        *tail = io;
        tail = &io->link;
    }
    return tail;
}

static struct io *reap_uring(struct sectors *s)
{
    struct io *done = NULL, **tail = &done;
    struct io_uring_cqe *cqe;
    if (io_uring_peek_cqe(&s->ring, &cqe))
        return NULL;
    for (uint32_t n = part(s, io_uring_cq_ready(&s->ring)); n && io_uring_peek_cqe(&s->ring, &cqe) == 0; n--) {
        struct io *io = io_uring_cqe_get_data(cqe);
        io->result = cqe->res;
        io_uring_cqe_seen(&s->ring, cqe);
        tail = over(s, io, tail);
    }
    *tail = NULL;
    return done;
}

static struct io *take_finished(struct sectors *s)
{
    pthread_mutex_lock(&s->lock);
    struct io *taken = s->done, **tail = &s->done;
    for (uint32_t n = part(s, s->finished); n && *tail; n--, s->finished--)
        tail = &(*tail)->link;
    s->done = *tail;
    *tail = NULL;
    pthread_mutex_unlock(&s->lock);
    return taken;
}

static struct io *reap_workers(struct sectors *s)
{
    struct io *done = NULL, **tail = &done;
    for (struct io *io = take_finished(s), *next; io; io = next) {
        next = io->link;
        tail = over(s, io, tail);
    }
    *tail = NULL;
    return done;
}

struct io *sectors_reap(struct sectors *s)
{
    if (!s->under_way)
        return NULL;
    struct io *done = s->uring ? reap_uring(s) : reap_workers(s);
    for (struct io *io = done; io; io = io->link) {
        assert(s->under_way && s->in_threads >= takes_thread(s, io));
        s->under_way--;
        s->in_threads -= takes_thread(s, io);
    }
    return done;
}

void sectors_close(struct sectors *s)
{
    if (s->under_way)
        return;
    if (s->uring)
        io_uring_queue_exit(&s->ring);
    pthread_mutex_lock(&s->lock);
    s->stopping = 1;
    pthread_cond_broadcast(&s->more);
    while (s->workers) {
        pthread_mutex_unlock(&s->lock);
        usleep(100);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->more);
    free(s);
}
