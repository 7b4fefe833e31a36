/* What the kernel has of a device besides its requests: files of its queue, and where its node is. */
#include "door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int timeout_fd, sectors_fd;

static int queue_file(const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/sys/block/%s/queue/%s", d.set.device, name);
    return open(path, O_WRONLY | O_CLOEXEC);
}

static void put_number(int fd, const char *name, uint32_t value)
{
    if (fd < 0 || dprintf(fd, "%u", value) < 0)
        say("queue/%s of %s: %s", name, d.set.device, strerror(errno));
}

int device_open(void)
{
    timeout_fd = queue_file("io_timeout");
    sectors_fd = queue_file("max_sectors_kb");
    return timeout_fd < 0 ? -errno : 0;
}

void device_set(void)
{
    put_number(timeout_fd, "io_timeout", d.set.io_timeout_ms);
    put_number(sectors_fd, "max_sectors_kb", d.set.sectors_kib);
}
