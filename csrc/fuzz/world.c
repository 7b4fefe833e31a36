/* All that the engine meets: clocks, a ring, sockets, disks. What they do was said by the script. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "calls.h"
#undef clock_gettime
#undef ppoll
#undef getsockopt
#undef sendmmsg
#undef pread
#undef preadv2
#undef pwrite
#undef inotify_init1
#undef inotify_add_watch
#undef pthread_create
#undef pthread_join

#include "fuzz.h"

enum { RING_FD = 5000, STARTED = 1200, CLOSED_FD = -1, CUT = 1 << 6 };

struct frame {
    struct frame *next;
    uint8_t *bytes;
    uint32_t length;
    uint64_t stamp_ns;
    int for_us;
};

struct fake_socket {
    struct frame *head, **tail;
    enum send_mode mode;
    uint32_t calls, most; /* how many calls the mode lasts, and how many messages SEND_SOME lets pass */
    int is_shut;          /* its filter lets nothing in any more */
};

struct started {
    struct io *io;
    uint64_t tick;
    uint32_t life; /* of the image: by which descriptor */
    int performed;
    int32_t result;
};

/* Stands for a thread's `struct sectors`; the real one is behind it where the input asks for that. */
struct fake_disk {
    struct sectors *real;
    int event;
    uint32_t running, done;
    struct started start[STARTED], end[STARTED];
};

static struct {
    uint64_t real_ns, boot_ns, mono_ns;
    uint32_t thread, opened;
    uint32_t steps[THREADS];
    int64_t distance[THREADS];
    int known[THREADS];
    struct fake_socket sockets[THREADS * PORTS];
    struct fake_disk disks[THREADS];
    uint8_t live[THREADS][OPS];
    uint32_t used[THREADS];
    int at_once, early;
    uint8_t faults;
    uint32_t fail_start;
} w;

void world_reset(void)
{
    w.real_ns = 1700000000000000000ull;
    w.boot_ns = w.mono_ns = 1000000000000ull;
    w.at_once = w.early = w.faults = 0;
    w.thread = w.opened = w.fail_start = 0;
    for (uint32_t i = 0; i < THREADS; i++) {
        memset(w.live[i], 0, w.used[i]);
        w.used[i] = w.steps[i] = 0;
        w.known[i] = 0;
        w.disks[i].running = w.disks[i].done = 0;
    }
    for (int i = 0; i < THREADS * PORTS; i++)
        w.sockets[i] = (struct fake_socket){.tail = &w.sockets[i].head};
}

/* Before the engine unmaps its buffers. */
void world_close(void)
{
    for (uint32_t i = 0; i < engine->set.threads; i++)
        ALLOW(engine->threads[i].buffers, (w.used[i] + 1) * engine->buffer_size);
}

/* Clocks */

void world_tick(int64_t real_ns, int64_t boot_ns)
{
    w.real_ns += (uint64_t)real_ns;
    w.boot_ns += (uint64_t)boot_ns;
    w.mono_ns += (uint64_t)boot_ns;
}

uint64_t world_now(void) { return w.real_ns; }

uint64_t world_boot_ns(void) { return w.boot_ns; }

uint32_t world_steps(uint32_t thread) { return w.steps[thread]; }

uint32_t world_thread(void) { return w.thread; }

/* The engine compares the clocks when it asks for this one. */
static void notice_step(void)
{
    int64_t distance = (int64_t)(w.real_ns - w.boot_ns);
    if (w.known[w.thread] && llabs(distance - w.distance[w.thread]) > CLOCK_STEP_NS) {
        w.steps[w.thread]++;
        model_clock_stepped(w.thread, w.real_ns);
    }
    w.known[w.thread] = 1;
    w.distance[w.thread] = distance;
}

int world_clock_gettime(clockid_t clock, struct timespec *now)
{
    if (clock == CLOCK_BOOTTIME)
        notice_step();
    else if (clock == CLOCK_MONOTONIC)
        world_tick(5000, 5000);
    uint64_t ns = clock == CLOCK_REALTIME ? w.real_ns : clock == CLOCK_BOOTTIME ? w.boot_ns : w.mono_ns;
    *now = (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    return 0;
}

/* Threads run when the script says so. */

int world_pthread_create(pthread_t *id, const pthread_attr_t *how, void *(*run)(void *), void *argument)
{
    struct thread *t = argument;
    (void)id, (void)how;
    CHECK(run == thread_run);
    w.thread = t->index;
    atomic_store(&engine->stopping, 1); /* it only opens its disk */
    run(t);
    atomic_store(&engine->stopping, 0);
    return 0;
}

int world_pthread_join(pthread_t id, void **result)
{
    (void)id, (void)result;
    return 0;
}

void world_pass(uint32_t thread)
{
    w.thread = thread;
    thread_pass(&engine->threads[thread]);
}

/* The ring: each frame is memory of its own, of just its size. */

static struct fake_socket *socket_of(int fd)
{
    CHECK(fd >= RING_FD && fd < RING_FD + THREADS * PORTS);
    return &w.sockets[fd - RING_FD];
}

static struct fake_socket *socket_at(uint32_t thread, uint32_t port) { return &w.sockets[thread * PORTS + port]; }

int world_ring_fd(uint32_t thread, uint32_t port) { return RING_FD + (int)(thread * PORTS + port); }

void world_frame(uint32_t tag, const uint8_t *frame, uint32_t length, int for_us)
{
    const struct record *r = model_tagged(tag);
    struct fake_socket *s = socket_at(r->thread, r->port);
    struct frame *f = malloc(sizeof *f);
    uint32_t room = planted(PLANT_OVERREAD) && length > ATA_HEADER ? length - 1 : length;
    *f = (struct frame){NULL, malloc(room), length, r->stamp_ns, for_us};
    if (room)
        memcpy(f->bytes, frame, room);
    *s->tail = f;
    s->tail = &f->next;
}

int world_rings_empty(void)
{
    for (int i = 0; i < THREADS * PORTS; i++)
        if (w.sockets[i].head && !w.sockets[i].is_shut)
            return 0;
    return 1;
}

/* Of all threads it says the same, as a port's sockets come and go at once. */
int world_shut(uint32_t port) { return socket_at(0, port)->is_shut; }

uint64_t world_stamp_of_next(uint32_t thread, uint32_t port)
{
    const struct fake_socket *s = socket_at(thread, port);
    return s->head && !s->is_shut ? s->head->stamp_ns : UINT64_MAX;
}

static void pop(struct fake_socket *s)
{
    struct frame *f = s->head;
    s->head = f->next;
    if (!s->head)
        s->tail = &s->head;
    if (!planted(PLANT_LEAK))
        free(f->bytes);
    free(f);
}

int ring_make(int fd, uint32_t frame_max, uint32_t slots)
{
    CHECK(frame_max && slots && !socket_of(fd)->head);
    return 0;
}

int ring_open(struct ring *ring, int fd, uint32_t frame_max, uint32_t slots, int was_used)
{
    CHECK(frame_max && slots && !was_used && !socket_of(fd)->head);
    ring->fd = fd;
    socket_of(fd)->is_shut = 0;
    return 0;
}

/* What it still held is lost. */
void ring_close(struct ring *ring)
{
    struct fake_socket *s = socket_of(ring->fd);
    CHECK(s->is_shut || !s->head);
    while (s->head) {
        pop(s);
        model_lost();
    }
}

uint32_t ring_lost(const struct ring *ring)
{
    (void)ring;
    return 0;
}

int ring_filter(int fd, const uint16_t *shelves, uint32_t count, uint32_t index, uint32_t threads)
{
    CHECK(socket_of(fd) && shelves && count <= EXPORTS && index < threads);
    return 0;
}

int ring_filter_all(int fd)
{
    socket_of(fd)->is_shut = 1;
    return 0;
}

/* As in ring.c. */
uint32_t ring_owner(uint16_t shelf, uint8_t slot, uint32_t threads)
{
    return shelf == 0xFFFF || slot == 0xFF ? 0 : (shelf * 257u + slot) % threads;
}

int ring_ready(struct ring *ring) { return socket_of(ring->fd)->head != NULL; }

struct arrival ring_peek(const struct ring *ring)
{
    const struct fake_socket *s = socket_of(ring->fd);
    const struct frame *f = s->head;
    CHECK(f && !s->is_shut);
    return (struct arrival){f->bytes, f->length, f->stamp_ns, f->for_us};
}

void ring_next(struct ring *ring) { pop(socket_of(ring->fd)); }

/* Sockets */

void world_socket(uint32_t thread, uint32_t port, enum send_mode mode, uint32_t calls, uint32_t most)
{
    struct fake_socket *s = socket_at(thread, port);
    s->mode = mode;
    s->calls = calls;
    s->most = most;
}

static int is_mapped(const uint8_t *at)
{
    for (int i = 0; i < EXPORTS; i++) {
        const struct export *x = &engine->exports[i];
        if (x->map && at >= x->map && at < x->map + x->map_length)
            return 1;
    }
    return 0;
}

/* As the kernel does: a map that ends early is no signal but EFAULT. */
static int copy_mapped(uint8_t *to, const struct iovec *part)
{
    static int scratch = -1;
    if (scratch < 0)
        scratch = memfd_create("scratch", MFD_CLOEXEC);
    return pwritev(scratch, part, 1, 0) == (ssize_t)part->iov_len &&
           pread(scratch, to, part->iov_len, 0) == (ssize_t)part->iov_len;
}

/* The length of a message that could be sent, or a negative errno. */
static int gather(const struct msghdr *message, uint8_t *bytes)
{
    size_t length = 0;
    if (!message->msg_iovlen)
        return -EINVAL;
    for (size_t i = 0; i < message->msg_iovlen; i++) {
        const struct iovec *part = &message->msg_iov[i];
        CHECK(length + part->iov_len <= FRAME_MAX);
        if (!is_mapped(part->iov_base))
            memcpy(bytes + length, part->iov_base, part->iov_len);
        else if (!copy_mapped(bytes + length, part))
            return -EFAULT;
        length += part->iov_len;
    }
    return (int)length;
}

static int send_some(int fd, const struct mmsghdr *messages, unsigned count)
{
    static uint8_t bytes[FRAME_MAX];
    uint32_t at = (uint32_t)(fd - RING_FD);
    for (unsigned i = 0; i < count; i++) {
        int length = gather(&messages[i].msg_hdr, bytes);
        if (length < 0) {
            errno = -length;
            return i ? (int)i : -1;
        }
        model_reply(at / PORTS, at % PORTS, bytes, (uint32_t)length);
    }
    return (int)count;
}

int world_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    static const int errors[] = {[SEND_AGAIN] = EAGAIN, [SEND_NO_BUFFERS] = ENOBUFS, [SEND_FAULT] = EFAULT,
                                 [SEND_DOWN] = ENETDOWN, [SEND_INTERRUPTED] = EINTR};
    struct fake_socket *s = socket_of(fd);
    CHECK(count && flags == MSG_DONTWAIT);
    if (!s->calls || s->mode == SEND_ALL)
        return send_some(fd, messages, count);
    s->calls--;
    if (s->mode == SEND_SOME)
        return send_some(fd, messages, s->most < count ? s->most : count);
    errno = errors[s->mode];
    return -1;
}

int world_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
    CHECK(socket_of(fd) && level == SOL_SOCKET && name == SO_ERROR && *size == sizeof(int));
    *(int *)value = ENETDOWN;
    return 0;
}

static short ring_events(const struct pollfd *it)
{
    if (it->fd < 0)
        return 0;
    const struct fake_socket *s = socket_of(it->fd);
    int down = s->calls && s->mode == SEND_DOWN, full = s->calls && s->mode == SEND_AGAIN;
    return (short)((s->head ? it->events & POLLIN : 0) | (full ? 0 : it->events & POLLOUT) | (down ? POLLERR : 0));
}

/* The engine may only sleep when whatever it has left to do would wake it. */
static void check_may_sleep(const struct thread *t, const struct pollfd *fds, int woken)
{
    CHECK(woken || !atomic_load(&t->mail));
    CHECK(woken || w.disks[t->index].real || !w.disks[t->index].done);
    for (uint32_t p = 0; p < engine->set.ports; p++)
        CHECK(!t->ports[p].out.count || (p < t->ports_used && fds[p].events & POLLOUT));
}

/* It wakes for what a limit has delayed, and for what can wait and rests. */
static void check_wakes(const struct thread *t, uint64_t timeout_ns)
{
    uint64_t until_ns = t->boot_ns + timeout_ns;
    CHECK(timeout_ns || t->delays.count || t->resting);
    if (timeout_ns && t->delays.count)
        CHECK(until_ns <= t->delays.heap[0]->begin_ns);
    for (const struct rest *rest = t->resting; timeout_ns && rest; rest = rest->next)
        CHECK(until_ns <= rest->until_ns);
}

int world_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    uint32_t ports = (uint32_t)count - 1;
    struct pollfd *event = &fds[ports];
    CHECK(count && ports <= engine->set.ports && !mask);
    check_wakes(&engine->threads[w.thread], (uint64_t)timeout->tv_sec * 1000000000 + (uint64_t)timeout->tv_nsec);
    int some = poll(event, 1, 0);
    check_may_sleep(&engine->threads[w.thread], fds, some);
    for (uint32_t p = 0; p < ports; p++)
        some += (fds[p].revents = ring_events(&fds[p])) != 0;
    if (!some)
        world_tick(1000000, 1000000);
    return some;
}

/* Disks: what is asked at once */

void world_memory(uint8_t faults) { w.faults = faults; }

static void check_extent(int export, uint64_t offset, size_t length)
{
    const struct store *s = &stores[export];
    CHECK(offset >= s->base && offset - s->base <= 2 * FILE_SECTORS * SECTOR);
    CHECK(length <= 2 * FILE_SECTORS * SECTOR);
    if (s->flags & AOE_DIRECT)
        CHECK(offset % s->block == 0 && length % s->block == 0);
}

static struct export *export_of(const struct io *io);

static uint32_t on_device(const struct started *at, uint32_t number, uint32_t device)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < number; i++)
        found += export_of(at[i].io)->index / 2 == device;
    return found;
}

/* What may keep the caller waiting is only begun where the device beneath has room. */
static void check_room(const struct export *x)
{
    const struct fake_disk *d = &w.disks[w.thread];
    if (x->now->flags & AOE_INSTANT)
        return;
    CHECK(on_device(d->start, d->running, x->index / 2) + on_device(d->end, d->done, x->index / 2) < ROOM);
}

ssize_t world_preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    struct record *r = model_record((const uint8_t *)parts->iov_base - ATA_HEADER);
    const struct store *s = &stores[r->export];
    CHECK(count == 1 && fd == engine->exports[r->export].now->fd && (s->flags & AOE_INSTANT || flags & RWF_NOWAIT));
    CHECK(!(s->flags & AOE_DIRECT));
    check_room(&engine->exports[r->export]);
    CHECK((uint64_t)offset == s->base + r->lba * SECTOR && parts->iov_len == r->count * SECTOR);
    model_starts(r, &engine->threads[w.thread], IO_READ);
    uint32_t fault = w.faults & 3;
    if (fault == 1 || fault == 3) {
        errno = fault == 1 ? EAGAIN : EIO;
        return -1;
    }
    ssize_t got = pread(fd, parts->iov_base, fault ? parts->iov_len / 2 : parts->iov_len, offset);
    if (got == (ssize_t)parts->iov_len)
        model_read(r);
    return got;
}

/* The record of a write out of the ring. */
static struct record *instant_write(int fd, const uint8_t *payload, size_t length, uint64_t offset)
{
    struct record *r = model_record(payload - ATA_HEADER);
    const struct store *s = &stores[r->export];
    CHECK(fd == store_fd[r->export] && s->flags & AOE_INSTANT && r->kind == K_WRITE);
    CHECK(offset == s->base + r->lba * SECTOR && length == r->count * SECTOR);
    model_starts(r, &engine->threads[w.thread], IO_WRITE);
    return r;
}

static void stored(struct record *r, uint32_t sectors)
{
    model_written(r, r->lba, sectors);
    if (sectors < r->count)
        return;
    r->done_at = model_clock();
    r->in_memory = 1;
}

int __real_map_write(struct export *x, uint64_t offset, const uint8_t *bytes, size_t length);
int __wrap_map_write(struct export *x, uint64_t offset, const uint8_t *bytes, size_t length)
{
    struct record *r = instant_write(x->now->fd, bytes, length, offset);
    uint32_t written = w.faults >> 2 & 3 ? r->count / 2 : r->count; /* as far as there are pages */
    CHECK(offset + length <= x->map_length);
    CHECK(!written || __real_map_write(x, offset, bytes, written * SECTOR));
    if (written)
        stored(r, written);
    return written == r->count;
}

/* To close a real one takes milliseconds. */
int world_inotify_init1(int flags)
{
    CHECK(flags == (IN_NONBLOCK | IN_CLOEXEC));
    return dup(STDERR_FILENO);
}

int world_inotify_add_watch(int fd, const char *path, uint32_t events)
{
    CHECK(fd > 0 && path && events == IN_MODIFY);
    return 1;
}

uint32_t __wrap_maps_cut(struct thread *t)
{
    uint32_t cut = 0;
    for (int i = 0; w.faults & CUT && i < EXPORTS; i++) {
        struct export *x = &engine->exports[i];
        x->cut = x->map && ring_owner(x->shelf, x->slot, engine->set.threads) == t->index;
        cut += (uint32_t)x->cut;
    }
    w.faults &= (uint8_t)~CUT;
    return cut;
}

ssize_t world_pwrite(int fd, const void *bytes, size_t length, off_t offset)
{
    struct record *r = instant_write(fd, bytes, length, (uint64_t)offset);
    uint32_t fault = w.faults >> 2 & 3;
    if (fault & 1) {
        errno = fault == 1 ? EIO : ENOSPC;
        return -1;
    }
    ssize_t got = pwrite(fd, bytes, fault ? length / 2 / SECTOR * SECTOR : length, offset);
    if (got > 0)
        stored(r, (uint32_t)(got / SECTOR));
    return got;
}

/* What was to be sent out of a map, copied. */
ssize_t world_pread(int fd, void *buffer, size_t length, off_t offset)
{
    uint32_t fault = w.faults >> 4 & 3;
    if (fault == 1) {
        errno = EIO;
        return -1;
    }
    return pread(fd, buffer, fault == 2 ? length / 2 : length, offset);
}

/* Disks: what may take long */

void world_disk(int at_once, int early)
{
    w.at_once = at_once;
    w.early = early;
}

void world_fail_start(uint32_t number) { w.fail_start = number; }

static struct export *export_of(const struct io *io)
{
    if (io->owner)
        return ((struct op *)io->owner)->export;
    return (struct export *)((uint8_t *)(uintptr_t)io - offsetof(struct export, sync));
}

static uint32_t life_of(int fd)
{
    uint32_t life = IMAGE_LIVES;
    while (life-- && image_fd[life] != fd)
        ;
    return life < IMAGE_LIVES ? life : 0;
}

static struct record *record_of(const struct io *io)
{
    return io->owner ? model_record(((struct op *)io->owner)->data - ATA_HEADER) : NULL;
}

static int32_t access_disk(const struct io *io, uint32_t length)
{
    ssize_t got = 0;
    if (io->action == IO_READ)
        got = pread(io->fd, io->buffer, length, (off_t)io->offset);
    else if (io->action == IO_WRITE)
        got = planted(PLANT_LOST_WRITE) ? (ssize_t)length : pwrite(io->fd, io->buffer, length, (off_t)io->offset);
    else if (io->fd == CLOSED_FD)
        return -EBADF;
    return got < 0 ? -errno : (int32_t)got;
}

static void tell_model(const struct io *io, int32_t result)
{
    struct record *r = record_of(io);
    if (result > 0 && io->action == IO_WRITE)
        model_written(r, r->lba, (uint32_t)result / SECTOR);
    else if (result == (int32_t)io->length && io->action == IO_READ)
        model_read(r);
}

static void perform(struct started *it, uint32_t length)
{
    struct io *io = it->io;
    it->result = access_disk(io, length);
    it->performed = 1;
    tell_model(io, it->result);
}

static void disk_done(struct fake_disk *d, uint32_t at, enum disk_fault fault)
{
    static const int32_t results[] = {[D_ERROR] = -EIO, [D_NO_SPACE] = -ENOSPC, [D_ERROR_AFTER] = -EIO,
                                      [D_NOTHING] = 0, [D_INTERRUPTED] = -EINTR, [D_ENDED] = -ENOTCONN};
    struct started it = d->start[at];
    struct io *io = it.io;
    d->running--;
    memmove(d->start + at, d->start + at + 1, (d->running - at) * sizeof it);
    if (io->action == IO_READ && !it.performed)
        ALLOW_BLANK(io->buffer, io->length);
    else if (io->length)
        ALLOW(io->buffer, io->length);
    uint32_t half = io->length / 2 / SECTOR * SECTOR;
    if (io->action == IO_SYNC && (fault == D_SHORT || fault == D_NOTHING))
        fault = D_GOOD;
    if (!it.performed && (fault == D_GOOD || fault == D_SHORT || fault == D_ERROR_AFTER))
        perform(&it, fault == D_SHORT ? half : io->length);
    io->result = fault == D_GOOD || fault == D_SHORT ? it.result : results[fault];
    if (fault == D_SHORT && io->result > (int32_t)half)
        io->result = (int32_t)half;
    d->end[d->done++] = it;
    eventfd_write(d->event, 1);
}

void world_disk_done(uint32_t number, int last_first, enum disk_fault fault)
{
    for (uint32_t i = 0; i < THREADS; i++)
        for (struct fake_disk *d = &w.disks[i]; !d->real && d->running && number; number--)
            disk_done(d, last_first ? d->running - 1 : 0, fault);
}

int world_disk_idle(void)
{
    uint32_t busy = 0;
    for (uint32_t i = 0; i < THREADS; i++)
        busy += w.disks[i].running + w.disks[i].done;
    return !busy;
}

/* Until a real disk has done something. */
void world_disk_wait(void)
{
    eventfd_t ignored;
    for (uint32_t i = 0; i < THREADS; i++)
        if (w.disks[i].real && w.disks[i].running && poll(&(struct pollfd){w.disks[i].event, POLLIN, 0}, 1, 20) == 1)
            eventfd_read(w.disks[i].event, &ignored);
}

static struct fake_disk *disk_of(const struct sectors *s) { return (struct fake_disk *)(uintptr_t)s; }

struct sectors *__real_sectors_open(int plain, int event);
int __real_sectors_use_uring(const struct sectors *s);
void __real_sectors_start(struct sectors *s, struct io *io);
void __real_sectors_go(struct sectors *s);
struct io *__real_sectors_reap(struct sectors *s);
void __real_sectors_close(struct sectors *s);

struct sectors *__wrap_sectors_open(int plain, int event)
{
    CHECK(w.opened < THREADS);
    struct fake_disk *d = &w.disks[w.opened++];
    d->event = event;
    d->real = plain > 1 ? __real_sectors_open(plain == 2 || !CAN_URING, event) : NULL;
    return (struct sectors *)d;
}

int __real_sectors_begin(struct sectors *s);
int __wrap_sectors_begin(struct sectors *s) { return disk_of(s)->real ? __real_sectors_begin(disk_of(s)->real) : 0; }

int __wrap_sectors_use_uring(const struct sectors *s)
{
    return disk_of(s)->real ? __real_sectors_use_uring(disk_of(s)->real) : 0;
}

int __real_sectors_busy(const struct sectors *s);
int __wrap_sectors_busy(const struct sectors *s)
{
    const struct fake_disk *d = disk_of(s);
    return d->real ? __real_sectors_busy(d->real) : d->running || d->done;
}

int __real_sectors_threads_busy(const struct sectors *s);
int __wrap_sectors_threads_busy(const struct sectors *s)
{
    return disk_of(s)->real ? __real_sectors_threads_busy(disk_of(s)->real) : 0;
}

static void check_start(const struct io *io)
{
    const struct export *x = export_of(io);
    struct record *r = record_of(io);
    CHECK(io->fd == x->now->fd);
    if (!io->may_block)
        check_room(x);
    if (r)
        model_starts(r, &engine->threads[w.thread], io->action);
    if (io->owner)
        model_spares(io->owner, &engine->threads[w.thread]);
    if (io->action == IO_SYNC)
        return;
    CHECK(r->export == (int)x->index);
    check_extent(r->export, io->offset, io->length);
    uint64_t first = stores[r->export].base + r->lba * SECTOR;
    if (io->action == IO_WRITE)
        CHECK(r->kind == K_WRITE && io->offset == first && io->length == r->count * SECTOR);
    else
        CHECK(r->kind == K_READ && io->offset <= first && io->offset + io->length >= first + r->count * SECTOR);
}

void __wrap_sectors_start(struct sectors *s, struct io *io)
{
    struct fake_disk *d = disk_of(s);
    check_start(io);
    CHECK(d->running < STARTED);
    struct started *it = &d->start[d->running++];
    *it = (struct started){.io = io, .tick = model_clock(), .life = life_of(io->fd)};
    if (w.fail_start) {
        w.fail_start--;
        io->fd = CLOSED_FD;
    }
    if (d->real) {
        __real_sectors_start(d->real, io);
        return;
    }
    if (w.early)
        perform(it, io->length);
    if (io->length)
        FORBID(io->buffer, io->length);
}

void __wrap_sectors_go(struct sectors *s)
{
    struct fake_disk *d = disk_of(s);
    if (d->real)
        __real_sectors_go(d->real);
    while (w.at_once && !d->real && d->running)
        disk_done(d, 0, D_GOOD);
}

/* The engine learns of it now. */
static void learned(const struct started *it)
{
    const struct io *io = it->io;
    const struct export *x = export_of(io);
    struct record *r = record_of(io);
    if (io->result == -ENOTCONN && x->index == IMAGE)
        return;
    if (io->action == IO_SYNC)
        model_sync((int)x->index, it->life, it->tick, io->result == 0);
    else if (io->action == IO_WRITE && io->result == (int32_t)io->length)
        r->done_at = model_clock(), r->life = it->life;
    else if (io->action == IO_WRITE && r->durable && io->result == -EIO && !(x->now->flags & AOE_DIRECT))
        model_sync((int)x->index, it->life, 0, 0);
}

static struct io *reap_fake(struct fake_disk *d)
{
    struct io *chain = NULL;
    for (uint32_t i = d->done; i-- > 0;) {
        d->end[i].io->link = chain;
        chain = d->end[i].io;
    }
    for (uint32_t i = 0; i < d->done; i++)
        learned(&d->end[i]);
    d->done = 0;
    return chain;
}

static void reaped_real(struct fake_disk *d, struct io *io)
{
    uint32_t at = 0;
    while (at < d->running && d->start[at].io != io)
        at++;
    CHECK(at < d->running);
    struct started it = d->start[at];
    d->start[at] = d->start[--d->running];
    tell_model(io, io->result);
    learned(&it);
}

struct io *__wrap_sectors_reap(struct sectors *s)
{
    struct fake_disk *d = disk_of(s);
    if (!d->real)
        return reap_fake(d);
    struct io *chain = __real_sectors_reap(d->real);
    for (struct io *io = chain; io; io = io->link)
        reaped_real(d, io);
    return chain;
}

void __wrap_sectors_close(struct sectors *s)
{
    struct fake_disk *d = disk_of(s);
    CHECK(!d->running && !d->done);
    if (d->real)
        __real_sectors_close(d->real);
    d->real = NULL;
}

/* Requests: code that frees one twice, or uses its buffer after that, is found out. */

struct op *__real_op_new(struct thread *t);
void __real_op_free(struct thread *t, struct op *op);

static uint32_t index_of(const struct thread *t, const struct op *op)
{
    return (uint32_t)((struct request_io *)((uint8_t *)(uintptr_t)op - offsetof(struct request_io, op)) - t->ops);
}

struct op *__wrap_op_new(struct thread *t)
{
    struct op *op = __real_op_new(t);
    if (!op)
        return NULL;
    uint32_t index = index_of(t, op);
    CHECK(index < OPS && !w.live[t->index][index]);
    w.live[t->index][index] = 1;
    if (index >= w.used[t->index])
        w.used[t->index] = index + 1;
    uint8_t *end = op->data + engine->set.frame_max - ATA_HEADER + 2 * PAGE;
    uint8_t *next = op->data - PAGE + engine->buffer_size;
    FORBID(op->data - PAGE, PAGE - ATA_HEADER);
    ALLOW_BLANK(op->data - ATA_HEADER, (size_t)(end - op->data) + ATA_HEADER);
    FORBID(end, (size_t)(next - end));
    FORBID(next, PAGE - ATA_HEADER);
    return op;
}

void __wrap_op_free(struct thread *t, struct op *op)
{
    uint32_t index = index_of(t, op);
    CHECK(w.live[t->index][index]);
    w.live[t->index][index] = 0;
    FORBID(op->data - ATA_HEADER, engine->set.frame_max + 2 * PAGE);
    __real_op_free(t, op);
    op->prev = op->next = op;
    op->export = NULL;
    op->kind = op->state = 0xEE;
}
