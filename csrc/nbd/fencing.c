#include "fencing.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "leader.h"
#include "waiters.h"

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

int fencing_run(char **command, const aoe_path *path)
{
    char mac[18], address[16];
    const uint8_t *m = path->mac;
    size_t count = 0;
    pid_t child;
    int status = -1;
    snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
    snprintf(address, sizeof address, "e%u.%u", path->shelf, path->slot);
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

static void *fence(void *argument)
{
    struct fencing *f = argument;
    struct shared *s = f->shared;
    int ended_well = fencing_run(s->set.fence, &f->path);
    pthread_mutex_lock(&s->lock);
    if (ended_well && !s->stopped) {
        aoe_core_fenced(s->core, f->path.number, aoe_remote_now());
        aoe_remote_send(s->remote);
        waiters_reap(s);
    }
    f->after_ns = aoe_remote_now() + FENCE_AGAIN_NS;
    f->runs = 0;
    leader_unlock(s);
    atomic_fetch_sub(&s->inside, 1);
    return NULL;
}

static int same_server(const aoe_path *one, const aoe_path *other)
{
    return !memcmp(one->mac, other->mac, 6) && one->shelf == other->shelf && one->slot == other->slot;
}

/* A server that was lost with writes of unknown fate, once, and while another one carries on. */
static int may_fence(const struct shared *s, const aoe_path *path)
{
    int carried_on = 0;
    if (path->state != PATH_DOWN || !path->unsettled)
        return 0;
    for (uint32_t i = 0; i < PATHS_MAX; i++)
        if (s->fencing[i].runs && same_server(&s->fencing[i].path, path))
            return 0;
    for (uint32_t i = 0; i < s->known_count; i++)
        if (s->known[i].state == PATH_USABLE) {
            carried_on = 1;
            if (same_server(&s->known[i], path))
                return 0;
        }
    return carried_on;
}

/* Of this path, or else one that is no path's any more; NULL where all are in use. */
static struct fencing *fencing_of(struct shared *s, const aoe_path *path)
{
    struct fencing *spare = NULL;
    for (uint32_t i = 0; i < PATHS_MAX; i++) {
        struct fencing *f = &s->fencing[i];
        if (f->path.number == path->number)
            return f;
        if (!f->runs && !known_as(s, f->path.number))
            spare = f;
    }
    if (spare)
        *spare = (struct fencing){s, *path, 0, 0};
    return spare;
}

void fencing_look(struct shared *s, const aoe_path *path, int64_t now_ns)
{
    struct fencing *f = may_fence(s, path) ? fencing_of(s, path) : NULL;
    pthread_t id;
    if (!f || f->runs || now_ns < f->after_ns)
        return;
    *f = (struct fencing){s, *path, 1, 0};
    atomic_fetch_add(&s->inside, 1);
    if (!pthread_create(&id, NULL, fence, f)) {
        pthread_detach(id);
        return;
    }
    f->runs = 0;
    atomic_fetch_sub(&s->inside, 1);
}
