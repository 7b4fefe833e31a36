/* A client that vanishes. nbdkit 1.32 gives the connection up when a reply cannot be sent, and then aborts in the next
 * thread that has a reply for it: one client that is killed takes all others with it. So aoe/nbd/nbdkit.py
 * has this library preloaded, and nbdkit's send() and read() come by here: what is sent to a client that is gone counts
 * as sent, and what is read from it is the end of what it said, a little later, so that a thread that waits to send is
 * done by then. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LATER_NS = 100000000 };

static int is_client(int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;
    return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) && domain == AF_UNIX;
}

static int vanished(int fd)
{
    int code = errno, is = (code == EPIPE || code == ECONNRESET) && is_client(fd);
    errno = code;
    return is;
}

__attribute__((visibility("default"))) ssize_t send(int fd, const void *data, size_t length, int flags)
{
    ssize_t sent = sendto(fd, data, length, flags, NULL, 0);
    return sent < 0 && vanished(fd) ? (ssize_t)length : sent;
}

__attribute__((visibility("default"))) ssize_t read(int fd, void *data, size_t length)
{
    struct timespec later = {0, LATER_NS};
    ssize_t got = syscall(SYS_read, fd, data, length);
    int ended = got < 0 ? vanished(fd) : !got && length && is_client(fd);
    if (ended)
        nanosleep(&later, NULL);
    return ended ? 0 : got;
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
