/* Instead of the kernel, for a supervisor whose test is the kernel: what it is asked goes to the test, and waits for what that
 * says. `AOE_KERNEL=ASKED,DONE,LOG,CLOCK`: sockets, for questions, for what the canary brings back, and for the kernel's log;
 * and memory that has a clock. */
#include "door/door.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LOOK_MS = 10 };

static int asked_fd = -1, done_fd = -1, log_fd = -1, is_out;
static enum errand sent;

static struct {
    _Atomic int64_t now_ns; /* 0: it is as late as it is */
    _Atomic uint64_t rounds; /* of the loop */
    _Atomic uint64_t starts; /* of doors */
} *seen;

static void tell(const char *text, int fd)
{
    char room[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        m.msg_control = room;
        m.msg_controllen = sizeof room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    if (sendmsg(asked_fd, &m, MSG_NOSIGNAL) < 0)
        exit(99);
}

static int ask(const char *text, int fd)
{
    int answer;
    tell(text, fd);
    if (recv(asked_fd, &answer, sizeof answer, 0) != sizeof answer)
        exit(99);
    return answer;
}

int device_open(void) { return 0; }
void device_set(void) { tell("set", -1); }

/* Linked with --wrap. Nothing is made, so there is no mode. */
int __real_open(const char *path, int flags), __wrap_open(const char *path, int flags);
int __real_poll(struct pollfd *on, nfds_t count, int ms), __wrap_poll(struct pollfd *on, nfds_t count, int ms);
int64_t __real_boottime_ns(void), __wrap_boottime_ns(void);
int __real_child_start(struct child *c), __wrap_child_start(struct child *c);

int __wrap_open(const char *path, int flags)
{
    return strcmp(path, "/dev/kmsg") ? __real_open(path, flags) : dup(log_fd);
}

int64_t __wrap_boottime_ns(void) { return seen && seen->now_ns ? seen->now_ns : __real_boottime_ns(); }

/* Nothing tells us when that clock is moved. */
int __wrap_poll(struct pollfd *on, nfds_t count, int ms)
{
    if (seen)
        seen->rounds += count > 1;
    return __real_poll(on, count, seen && seen->now_ns && ms > LOOK_MS ? LOOK_MS : ms);
}

int __wrap_child_start(struct child *c)
{
    seen->starts++;
    return __real_child_start(c);
}

/* Below what a door gets, as a socket of netlink is. */
int netlink_open(struct netlink *n)
{
    const char *fds = getenv("AOE_KERNEL");
    int clock_fd;
    if (!fds || sscanf(fds, "%d,%d,%d,%d", &asked_fd, &done_fd, &log_fd, &clock_fd) != 4)
        return -ENOENT;
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED, clock_fd, 0);
    if (seen == MAP_FAILED)
        return -errno;
    close(clock_fd);
    n->fd = dup(asked_fd);
    return 0;
}

static int through(const struct netlink *n, const char *text, int fd)
{
    asked_fd = n->fd;
    return ask(text, fd);
}

int netlink_connect(struct netlink *n, uint32_t device, const struct export *export, uint32_t block, int fd)
{
    char text[128];
    snprintf(text, sizeof text, "connect %u %llu %u by %d", device, (unsigned long long)export->size, block, (int)getpid());
    return through(n, text, fd);
}

int netlink_reconnect(struct netlink *n, uint32_t device, int fd)
{
    (void)device;
    return through(n, "reconnect", fd);
}

int netlink_resize(struct netlink *n, uint32_t device, uint64_t size)
{
    char text[64];
    (void)device;
    snprintf(text, sizeof text, "resize %llu", (unsigned long long)size);
    return through(n, text, -1);
}

int netlink_disconnect(struct netlink *n, uint32_t device)
{
    (void)device;
    return through(n, "disconnect", -1);
}

int canary_open(int devices, const char *name)
{
    (void)name;
    return fcntl(devices, F_GETFD) < 0 ? -errno : done_fd;
}

void canary_send(enum errand errand)
{
    static const char *const names[] = {"open", "read", "end"};
    if (is_out)
        return;
    is_out = 1;
    sent = errand;
    tell(names[errand], -1);
}

int canary_is_out(void) { return is_out; }

int canary_back(enum errand *errand)
{
    int answer = EIO;
    if (recv(done_fd, &answer, sizeof answer, 0) != sizeof answer)
        exit(99);
    is_out = 0;
    *errand = sent;
    return answer;
}
