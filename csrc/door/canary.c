/* I/O of our own on the device, by a thread that waits instead of us. A read after a door's death makes the kernel notice that
 * the connection is dead, and comes back when a new one is in use. What was under way is repeated when its timer fires. */
#include "door.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BLOCK = 4096, STACK = 64 << 10 };

static struct {
    int devices, device, go, done;
    const char *name;
    int out; /* ours */
    enum errand errand;
    int error;
} canary = {.device = -1};

/* The first time that it is opened, the kernel looks for partitions. */
static int open_device(void)
{
    int fd = openat(canary.devices, canary.name, O_RDONLY | O_DIRECT | O_CLOEXEC);
    canary.device = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);
    if (fd >= 0)
        close(fd);
    return canary.device < 0 ? errno : 0;
}

static int read_block(void)
{
    static uint8_t block[BLOCK] __attribute__((aligned(BLOCK)));
    return pread(canary.device, block, BLOCK, 0) < 0 ? errno : 0;
}

/* EBUSY where a file system, or a device upon it, has it. */
static int end_use(void)
{
    int fd = openat(canary.devices, canary.name, O_RDONLY | O_EXCL | O_CLOEXEC);
    int bad = fd < 0 ? errno : fsync(fd) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return bad;
}

static void *fly(void *nothing)
{
    eventfd_t times;
    while (!eventfd_read(canary.go, &times)) {
        canary.error = canary.errand == ERRAND_OPEN   ? open_device()
                       : canary.errand == ERRAND_READ ? read_block()
                                                      : end_use();
        eventfd_write(canary.done, 1);
    }
    return nothing;
}

int canary_open(int devices, const char *name)
{
    pthread_t thread;
    pthread_attr_t how;
    canary.devices = devices;
    canary.name = name;
    canary.go = eventfd(0, EFD_CLOEXEC);
    canary.done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (canary.go < 0 || canary.done < 0)
        return -errno;
    pthread_attr_init(&how);
    pthread_attr_setstacksize(&how, STACK);
    int bad = pthread_create(&thread, &how, fly, NULL);
    return bad ? -bad : canary.done;
}

void canary_send(enum errand errand)
{
    if (canary.out)
        return;
    canary.out = 1;
    canary.errand = errand;
    eventfd_write(canary.go, 1);
}

int canary_is_out(void) { return canary.out; }

int canary_back(enum errand *errand)
{
    eventfd_t times;
    eventfd_read(canary.done, &times);
    canary.out = 0;
    *errand = canary.errand;
    return canary.error;
}
