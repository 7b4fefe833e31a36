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
    /* Without io_uring: */
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct io *todo, **todo_tail, *done;
    uint32_t queued, finished, idle, workers;
    int stopping;
};

static int32_t perform(const struct io *io)
{
    struct iovec part = {io->buffer, io->length};
    ssize_t got = -1;
    switch (io->action) {
    case IO_READ:
        got = preadv(io->fd, &part, 1, (off_t)io->offset);
        break;
    case IO_WRITE:
        got = pwritev(io->fd, &part, 1, (off_t)io->offset);
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
    io_uring_sqe_set_data(sqe, io);
    if (io->may_block)
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
}

/* io_uring itself has threads for what cannot be done without blocking. */
static uint32_t takes_thread(const struct sectors *s, const struct io *io)
{
    return !s->uring || io->may_block || io->action == IO_SYNC;
}

int sectors_busy(const struct sectors *s) { return s->under_way != 0; }
int sectors_threads_busy(const struct sectors *s) { return s->in_threads != 0; }

void sectors_start(struct sectors *s, struct io *io)
{
    assert(io->action == IO_SYNC || (io->buffer && io->length));
    s->under_way++;
    s->in_threads += takes_thread(s, io);
    assert(s->in_threads <= s->under_way);
    if (s->uring) {
        struct io_uring_sqe *sqe;
        while (!(sqe = io_uring_get_sqe(&s->ring)))
            io_uring_submit(&s->ring);
        prepare(sqe, io);
        return;
    }
    io->link = NULL;
    pthread_mutex_lock(&s->lock);
    *s->todo_tail = io;
    s->todo_tail = &io->link;
    s->queued++;
    enough_workers(s);
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
}

void sectors_go(struct sectors *s)
{
    if (s->uring && io_uring_sq_ready(&s->ring))
        io_uring_submit(&s->ring);
}

/* How many to take: no more than the disk still works on. */
static uint32_t part(const struct sectors *s, uint32_t ready)
{
    assert(ready <= s->under_way); /* only what was begun can be done */
    uint32_t left = s->under_way - ready;
    return left > PART ? left : PART;
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
        *tail = io;
        tail = &io->link;
    }
    *tail = NULL;
    return done;
}

static struct io *reap_workers(struct sectors *s)
{
    pthread_mutex_lock(&s->lock);
    struct io *done = s->done, **tail = &s->done;
    for (uint32_t n = part(s, s->finished); n && *tail; n--, s->finished--)
        tail = &(*tail)->link;
    s->done = *tail;
    *tail = NULL;
    pthread_mutex_unlock(&s->lock);
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
