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

static int run(char **command, const aoe_way *way)
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

static void *fence(void *argument)
{
    struct fencing *f = argument;
    struct shared *s = f->shared;
    int ended_well = run(s->set.fence, &f->way);
    pthread_mutex_lock(&s->lock);
    if (ended_well && !s->stopped) {
        aoe_core_fenced(s->core, f->way.number, aoe_remote_now());
        aoe_remote_send(s->remote);
        waiters_reap(s);
    }
    f->after_ns = aoe_remote_now() + FENCE_AGAIN_NS;
    f->runs = 0;
    leader_unlock(s);
    atomic_fetch_sub(&s->inside, 1);
    return NULL;
}

static int same_server(const aoe_way *one, const aoe_way *other)
{
    return !memcmp(one->mac, other->mac, 6) && one->shelf == other->shelf && one->slot == other->slot;
}

/* A server that was lost with writes of unknown fate, once, and while another one carries on. */
static int may_fence(const struct shared *s, const aoe_way *way)
{
    int carried_on = 0;
    if (way->state != WAY_DOWN || !way->unsettled)
        return 0;
    for (uint32_t i = 0; i < WAYS_MAX; i++)
        if (s->fencing[i].runs && same_server(&s->fencing[i].way, way))
            return 0;
    for (uint32_t i = 0; i < s->known_count; i++)
        if (s->known[i].state == WAY_USABLE) {
            carried_on = 1;
            if (same_server(&s->known[i], way))
                return 0;
        }
    return carried_on;
}

/* Of this way, or else one that is no way's any more; NULL where all are in use. */
static struct fencing *fencing_of(struct shared *s, const aoe_way *way)
{
    struct fencing *spare = NULL;
    for (uint32_t i = 0; i < WAYS_MAX; i++) {
        struct fencing *f = &s->fencing[i];
        if (f->way.number == way->number)
            return f;
        if (!f->runs && !known_as(s, f->way.number))
            spare = f;
    }
    if (spare)
        *spare = (struct fencing){s, *way, 0, 0};
    return spare;
}

void fencing_look(struct shared *s, const aoe_way *way, int64_t now_ns)
{
    struct fencing *f = may_fence(s, way) ? fencing_of(s, way) : NULL;
    pthread_t id;
    if (!f || f->runs || now_ns < f->after_ns)
        return;
    *f = (struct fencing){s, *way, 1, 0};
    atomic_fetch_add(&s->inside, 1);
    if (!pthread_create(&id, NULL, fence, f)) {
        pthread_detach(id);
        return;
    }
    f->runs = 0;
    atomic_fetch_sub(&s->inside, 1);
}
