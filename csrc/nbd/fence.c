/* The user's command that makes sure that a lost server does nothing any more. */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "shared.h"

extern char **environ;

/* nbdkit ignores SIGPIPE; a command expects what every program expects. */
static int spawn(pid_t *child, char **words)
{
    posix_spawnattr_t how;
    sigset_t none, ordinary;
    sigemptyset(&none);
    sigemptyset(&ordinary);
    sigaddset(&ordinary, SIGPIPE);
    posix_spawnattr_init(&how);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setsigdefault(&how, &ordinary);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    int bad = posix_spawnp(child, words[0], NULL, &how, words, environ);
    posix_spawnattr_destroy(&how);
    return bad;
}

int fence_run(char **command, const aoe_way *way)
{
    char mac[18], address[16];
    const uint8_t *m = way->mac;
    size_t count = 0;
    pid_t child;
    int status = -1;
    snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    snprintf(address, sizeof address, "e%u.%u", way->shelf, way->slot);
    while (command[count])
        count++;
    char *words[count + 3];
    for (size_t i = 0; i < count; i++)
        words[i] = command[i];
    words[count] = mac;
    words[count + 1] = address;
    words[count + 2] = NULL;
    if (spawn(&child, words))
        return 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && !WEXITSTATUS(status);
}
