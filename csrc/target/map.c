/* Stores that are memory (tmpfs): read and written through a map, as long as the file behind it is whole.
 *
 * A page that is gone, because the file was cut off or its file system is full, is EFAULT to the kernel as it
 * copies and SIGBUS to us. A page that is still there in part is neither: it reads as zeroes and forgets what is
 * written, so inotify(7) tells when a file may have been cut. */
#include "map.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "table.h"

static _Thread_local sigjmp_buf *volatile escape __attribute__((tls_model("initial-exec")));
static struct sigaction others;

static void bus_error(int number, siginfo_t *info, void *context)
{
    if (escape)
        siglongjmp(*escape, 1);
    if (others.sa_flags & SA_SIGINFO) {
        others.sa_sigaction(number, info, context);
    } else if (others.sa_handler != SIG_DFL && others.sa_handler != SIG_IGN) {
        others.sa_handler(number);
    } else {
        sigaction(number, &others, NULL);
        raise(number);
    }
}

/* Before every signal handler of others stays: what is not ours is theirs. */
static void take_bus_errors(void)
{
    struct sigaction ours = {.sa_sigaction = bus_error, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigemptyset(&ours.sa_mask);
    sigaction(SIGBUS, &ours, &others);
}

int maps_open(struct thread *t)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, take_bus_errors);
    t->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    return t->watch;
}

static int is_watched(const struct thread *t, struct export *x)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", x->now->fd);
    x->watch = inotify_add_watch(t->watch, path, IN_MODIFY);
    return x->watch >= 0;
}

/* A hole is not mapped: to read it there is to fill it. */
static int is_whole(const struct view *v, size_t length)
{
    struct stat now;
    return !fstat(v->fd, &now) && (size_t)now.st_blocks * SECTOR >= length && (size_t)now.st_size >= length;
}

void map_drop(struct export *x)
{
    if (x->map)
        munmap(x->map, x->map_length);
    x->map = NULL;
    x->map_length = 0;
}

/* Two exports of one file share a watch. */
static int shares_watch(const struct thread *t, const struct export *x)
{
    for (uint32_t i = 0; i < t->engine->set.exports; i++) {
        const struct export *other = &t->engine->exports[i];
        if (other != x && thread_owns(t, other) && other->watch == x->watch)
            return 1;
    }
    return 0;
}

void map_forget(struct thread *t, struct export *x)
{
    map_drop(x);
    if (x->watch > 0 && !shares_watch(t, x))
        inotify_rm_watch(t->watch, x->watch);
    x->watch = 0;
}

void map_store(struct thread *t, struct export *x)
{
    const struct view *v = x->now;
    size_t length = v->flags & AOE_INSTANT ? v->base + v->sectors * SECTOR : 0;
    int access = PROT_READ | (v->flags & AOE_READ_ONLY ? 0 : PROT_WRITE);
    if (length == x->map_length && access == x->map_access)
        return;
    map_drop(x);
    x->map_access = access;
    if (!length || !is_watched(t, x) || !is_whole(v, length))
        return;
    x->map = mmap(NULL, length, access, MAP_SHARED, v->fd, 0);
    if (x->map == MAP_FAILED)
        x->map = NULL;
    x->map_length = x->map ? length : 0;
}

int map_write(struct export *x, uint64_t offset, const uint8_t *bytes, size_t length)
{
    sigjmp_buf here;
    assert(x->map && offset + length <= x->map_length && x->map_access & PROT_WRITE);
    assert(!escape); /* one copy at a time */
    int failed = sigsetjmp(here, 0);
    if (!failed) {
        escape = &here;
        memcpy(x->map + offset, bytes, length);
    }
    atomic_signal_fence(memory_order_seq_cst);
    escape = NULL;
    return !failed;
}

/* Mark what an event is about, if its file has really become shorter than its map. */
static uint32_t mark_cut(struct thread *t, const struct inotify_event *event)
{
    uint32_t cut = 0;
    for (uint32_t i = 0; i < t->engine->set.exports; i++) {
        struct export *x = &t->engine->exports[i];
        struct stat now;
        if (!thread_owns(t, x) || !x->map || x->cut)
            continue;
        if (x->watch != event->wd && !(event->mask & IN_Q_OVERFLOW))
            continue;
        x->cut = fstat(x->now->fd, &now) || (size_t)now.st_size < x->map_length;
        cut += (uint32_t)x->cut;
    }
    return cut;
}

uint32_t maps_cut(struct thread *t)
{
    _Alignas(struct inotify_event) uint8_t events[4096];
    ssize_t length;
    uint32_t cut = 0;
    while ((length = read(t->watch, events, sizeof events)) > 0)
        for (const uint8_t *at = events; at < events + length;) {
            const struct inotify_event *event = (const void *)at;
            cut += mark_cut(t, event);
            at += sizeof *event + event->len;
        }
    return cut;
}

void maps_drop_cut(struct thread *t)
{
    for (uint32_t i = 0; i < t->engine->set.exports; i++) {
        struct export *x = &t->engine->exports[i];
        if (thread_owns(t, x) && x->cut) {
            map_drop(x);
            x->cut = 0;
        }
    }
}
