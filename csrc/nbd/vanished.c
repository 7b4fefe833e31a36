/* A client that vanishes. nbdkit 1.32 gives the connection up when a reply cannot be sent, or a request ends in the middle,
 * and then aborts in the next thread that has a reply for it: one client that is killed takes all others with it. So
 * aoe/nbd/nbdkit.py has this library preloaded, and nbdkit's send() and read() come by here: what is sent to a client
 * that is gone counts as sent, and that it has said its last is read when no other thread has a reply for it any more.
 * A thread has one from what it read of its client until it sent it something after which nothing follows, or ended; what
 * it reads and sends elsewhere meanwhile, as for the disk, is none of it. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PLACES = 1024, LOOK_NS = 1000000 };

static pthread_key_t ending;
/* How many threads have a reply for a client, by its descriptor. Two may share a place, and wait for each other's. */
static atomic_uint replying[PLACES];
static _Thread_local atomic_uint *mine;
/* What this thread read from last, if that is a client: nbdkit's threads are of one connection each. */
static _Thread_local int client = -1;

static int is_client(int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    return fd == client || (!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) && domain == AF_UNIX);
}

static int vanished(int fd)
{
    int code = errno, is = (code == EPIPE || code == ECONNRESET) && is_client(fd);
    errno = code;
    return is;
}

static void replied(void)
{
    if (mine)
        atomic_fetch_sub(mine, 1);
    mine = NULL;
}

static void ended(void *unused)
{
    (void)unused;
    replied();
}

static void will_reply(int fd)
{
    if (fd != client)
        pthread_setspecific(ending, replying);
    client = fd;
    mine = &replying[(unsigned)fd % PLACES];
    atomic_fetch_add(mine, 1);
}

static void wait_for_replies(int fd)
{
    struct timespec look = {0, LOOK_NS};
    while (atomic_load(&replying[(unsigned)fd % PLACES]))
        nanosleep(&look, NULL);
}

__attribute__((visibility("default"))) ssize_t send(int fd, const void *data, size_t length, int flags)
{
    ssize_t sent = sendto(fd, data, length, flags, NULL, 0);
    if (sent < 0 && vanished(fd))
        sent = (ssize_t)length;
    if (fd == client && sent == (ssize_t)length && !(flags & MSG_MORE))
        replied();
    return sent;
}

__attribute__((visibility("default"))) ssize_t read(int fd, void *data, size_t length)
{
    if (fd == client)
        replied();
    ssize_t got = syscall(SYS_read, fd, data, length);
    if (got > 0 && is_client(fd))
        will_reply(fd);
    if (got > 0 || !(got < 0 ? vanished(fd) : length && is_client(fd)))
        return got;
    wait_for_replies(fd);
    return 0;
}

__attribute__((constructor)) static void prepare(void)
{
    pthread_key_create(&ending, ended);
}

/* The commands that nbdkit starts are not to have it. */
__attribute__((constructor)) static void leave_environment(void)
{
    char *all = getenv("LD_PRELOAD"), *colon = all ? strrchr(all, ':') : NULL, *last = colon ? colon + 1 : all;
    if (!last || !strstr(last, "/aoe_nbd_plugin.so"))
        return;
    if (colon)
        *colon = 0;
    else
        unsetenv("LD_PRELOAD");
}
