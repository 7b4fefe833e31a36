/* What started us: a script that waits until the device is there, or a service manager that is told (sd_notify(3)). */
#include "door.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify(const char *text)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (!d.set.notify || strlen(d.set.notify) >= sizeof to.sun_path)
        return;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    size_t length = strlen(d.set.notify);
    memcpy(to.sun_path, d.set.notify, length);
    to.sun_path[0] = *to.sun_path == '@' ? 0 : *to.sun_path;
    sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(fd);
}

/* The parent returns when we say so, or end. */
void go_behind(void)
{
    int ends[2];
    char said = 1;
    if (pipe2(ends, O_CLOEXEC))
        must_end("pipe", errno);
    pid_t pid = fork();
    if (pid < 0)
        must_end("fork", errno);
    if (pid) {
        close(ends[1]);
        _exit(read(ends[0], &said, 1) == 1 ? said : 1);
    }
    setsid();
    close(ends[0]);
    d.parent = above(ends[1], "pipe");
}

void let_go_of_parent(void)
{
    if (d.parent < 0)
        return;
    for (int fd = 0; fd <= STDERR_FILENO && !d.set.foreground; fd++)
        dup2(d.nothing, fd);
    say_here();
    if (write(d.parent, "", 1) < 0) /* when nothing more is opened */
        say("what started us is gone");
    close(d.parent);
    d.parent = -1;
}
