/* A door: nbdkit with our plugin, at a socket that it gets from us (sd_listen_fds(3)). So it stays our child, and its
 * messages come to us. */
#include "door.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LISTENER = 3, ESTATE = 4 };

static int listen_at(struct child *c)
{
    socklen_t length = sizeof c->name;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sa_family_t family = AF_UNIX; /* and no name: the kernel finds one */
    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&family, sizeof family) || listen(fd, 4) ||
        getsockname(fd, (struct sockaddr *)c->name, &length)) {
        int bad = -errno;
        close(fd);
        return bad;
    }
    c->name_length = length;
    return fd;
}

static _Noreturn void become_door(struct child *c, int listener)
{
    char pid[32];
    char **free_place = c->environment;
    snprintf(pid, sizeof pid, "LISTEN_PID=%d", (int)getpid());
    while (*free_place)
        free_place++;
    *free_place = pid;
    dup2(d.nothing, STDIN_FILENO);
    dup2(d.nothing, STDOUT_FILENO);
    dup2(c->log_fd, STDERR_FILENO);
    dup2(listener, LISTENER);
    fcntl(LISTENER, F_SETFD, 0); /* where it was that already, it would be closed */
    dup2(c->estate_fd, ESTATE);
    if (!(c->root >= 0 && (fchdir(c->root) || chroot("."))))
        execve(c->words[0] + 1, c->words, c->environment);
    dprintf(STDERR_FILENO, "%s: %s\n", c->words[0] + 1, strerror(errno));
    _exit(127);
}

int child_start(struct child *c)
{
    int listener = listen_at(c);
    if (listener < 0)
        return listener;
    pid_t pid = fork();
    int bad = pid < 0 ? -errno : 0;
    if (!pid)
        become_door(c, listener);
    close(listener);
    c->pid = bad ? 0 : pid;
    return bad;
}

void child_end(struct child *c)
{
    if (!c->pid)
        return;
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    say_last_of(d.log);
}

int child_connect(struct child *c)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)c->name, c->name_length)) {
        int bad = -errno;
        if (fd >= 0)
            close(fd);
        return bad;
    }
    return fd;
}
