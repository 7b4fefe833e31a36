/* What is said of paths: in nbdkit's log, and to the program that started us. */
#define NBDKIT_API_VERSION 2
#include "notices.h"

#include <fcntl.h>
#include <nbdkit-plugin.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ORPHAN_NS 1000000000

static struct {
    const char *name;
    char *const *port_names;
    uint32_t ports;
    struct shared *disk; /* NULL: not yet */
    int announce; /* the program that started us listens there, or -1 */
    int changed;  /* a path has, and that was not yet said */
    int tells_all; /* also of a path that is usable */
    int holds;
} told = {.announce = -1};

void notices_to(int announce)
{
    told.announce = announce;
    fcntl(announce, F_SETFD, FD_CLOEXEC);
}

void notices_all(void) { told.tells_all = 1; }

void notices_hold(void) { told.holds = 1; }

void notices_of(const char *name, char *const *port_names, uint32_t ports, struct shared *disk)
{
    told.name = name;
    told.port_names = port_names;
    told.ports = ports;
    told.disk = disk;
}

void notices_found(int64_t size)
{
    if (told.announce >= 0)
        dprintf(told.announce, "size %lld\n", (long long)size);
}

static const char *state_of(const aoe_path *path)
{
    if (path->state != PATH_USABLE)
        return state_texts[path->state];
    return path->copy ? "usable, a copy" : path->proved ? "usable" : "usable, unproved";
}

/* An interface may be renamed; a link for datagrams is what was typed. */
static const char *name_of(uint32_t port)
{
    const char *name = told.disk ? shared_interface(told.disk, port) : "";
    return *name ? name : told.port_names[port];
}

static void say_which(const aoe_path *path, char *text, size_t room)
{
    const uint8_t *m = path->mac;
    snprintf(text, room, "e%u.%u at %02x:%02x:%02x:%02x:%02x:%02x on %s", path->shelf, path->slot, m[0], m[1], m[2],
             m[3], m[4], m[5], name_of(path->port));
}

/* Why it is not usable, behind a colon; {lba} is where it was seen. */
static void append_reason(const aoe_path *path, char *text, size_t room)
{
    const char *reason = reason_texts[path->reason], *lba = strstr(reason, "{lba}");
    if (lba)
        snprintf(text, room, ": %.*s%llu%s", (int)(lba - reason), reason, (unsigned long long)path->lba, lba + 5);
    else if (*reason)
        snprintf(text, room, ": %s", reason);
}

static void describe(const aoe_path *path, char *text, size_t room)
{
    char which[128];
    say_which(path, which, sizeof which);
    int used = snprintf(text, room, "%s: %s", which, state_of(path));
    append_reason(path, text + used, room - (size_t)used);
}

void notices_size(const aoe_path *path)
{
    char which[128];
    told.changed = 1;
    say_which(path, which, sizeof which);
    uint32_t carried = path->sectors * SECTOR, most = path->sectors_max * SECTOR;
    if (path->narrow == NARROW_NOT)
        nbdkit_error("%s: requests carry %u bytes again", which, carried);
    else
        nbdkit_error("%s: requests carry %u bytes, not %u: %s", which, carried, most, narrow_texts[path->narrow]);
}

void notices_state(const aoe_path *path)
{
    char text[256];
    told.changed = 1;
    describe(path, text, sizeof text);
    int is_news = path->state != PATH_CHECKING && (path->state != PATH_USABLE || told.tells_all);
    if (told.announce >= 0 || !is_news)
        nbdkit_debug("%s", text);
    else
        nbdkit_error("%s", text);
}

void notices_unheeded(const aoe_path *path)
{
    char text[256];
    describe(path, text, sizeof text);
    nbdkit_error("%s, but answers no writes: they are sent again as those of another client; either its disk hangs, or "
                 "another host ended the stream of our writes", text);
}

/* The remedy is for a server that does not come back; our supervisor is our parent. */
void notices_left(const aoe_debt *left, int is_known)
{
    char where[128];
    const uint8_t *m = left->mac;
    const char *until = !told.holds    ? "it answers, or its time is over"
                        : left->stream ? "it answers or is fenced, as hold is set"
                                       : "it is fenced, as hold is set";
    if (is_known)
        snprintf(where, sizeof where, "e%u.%u at %02x:%02x:%02x:%02x:%02x:%02x", left->shelf, left->slot, m[0], m[1], m[2],
                 m[3], m[4], m[5]);
    else
        snprintf(where, sizeof where, "a server of %s", told.name);
    nbdkit_error("%s may still carry out what the last door sent; nothing is served until %s. If it is gone for good, switch "
                 "it off, then: kill -USR1 %d", where, until, (int)getppid());
}

/* To the program that started us: all paths in one message, whenever one has changed or they are asked for. What does not
 * fit the socket is said the next time. */
void notices_report(void)
{
    aoe_path paths[PATHS_MAX];
    char text[PATHS_MAX * 192] = "paths\n", asked[16];
    size_t used = strlen(text);
    if (told.announce < 0 || (recv(told.announce, asked, sizeof asked, MSG_DONTWAIT) <= 0 && !told.changed))
        return;
    uint32_t count = shared_paths(told.disk, paths, PATHS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const aoe_path *path = &paths[i];
        const uint8_t *m = path->mac;
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%u %u %02x%02x%02x%02x%02x%02x %u %u %u %u %u %lld %u %u %u %u %u %llu %u %u %s\n",
                                 path->number, path->port, m[0], m[1], m[2], m[3], m[4], m[5], path->shelf, path->slot,
                                 path->state, path->reason, path->owner, (long long)path->rtt_ns, path->sectors,
                                 path->sectors_max, path->narrow, path->unsettled, path->proved,
                                 (unsigned long long)path->lba, path->draining, path->copy,
                                 shared_interface(told.disk, path->port));
    }
    told.changed = send(told.announce, text, used, MSG_DONTWAIT | MSG_NOSIGNAL) < 0;
}

/* nbdkit waits for its clients to hang up: the program that started it is told to end it now, and may be gone. */
void notices_hang_up(void)
{
    static int64_t since_ns;
    if (told.announce >= 0) {
        close(told.announce);
        told.announce = -1;
        since_ns = aoe_remote_now();
    }
    if (since_ns && aoe_remote_now() - since_ns > ORPHAN_NS)
        _exit(0);
}

void notices_why_not(void)
{
    aoe_path paths[PATHS_MAX];
    char text[256], where[256] = "";
    uint32_t count = shared_paths(told.disk, paths, PATHS_MAX);
    for (uint32_t i = 0; i < told.ports; i++) {
        size_t used = strlen(where);
        snprintf(where + used, sizeof where - used, "%s%s", i ? " or " : "", name_of(i));
    }
    if (!count)
        nbdkit_error("%s does not answer on %s; is it served there, and is this host allowed to use it?", told.name,
                     where);
    for (uint32_t i = 0; i < count; i++) {
        describe(&paths[i], text, sizeof text);
        nbdkit_error("%s cannot be used: %s", told.name, text);
    }
}
