/* The initiator's I/O: what its ports take goes to the core, and what the core says goes out. */
#include "remote.h"

#include <assert.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256, EVENTS = 16, NEWS = -1, TIMER = -2 };

int64_t aoe_remote_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* The timer */

static struct timespec timespec_of(int64_t ns) { return (struct timespec){ns / 1000000000, ns % 1000000000}; }

/* It fires at due_ns and every period from then on, until another period is wanted. */
static void wind(aoe_remote *r, int64_t period_ns, int64_t now_ns)
{
    assert(period_ns > 0);
    r->period_ns = period_ns;
    __atomic_store_n(&r->due_ns, now_ns + period_ns, __ATOMIC_RELAXED); /* a thread may be in aoe_remote_wait */
    struct itimerspec when = {.it_value = timespec_of(r->due_ns), .it_interval = timespec_of(period_ns)};
    timerfd_settime(r->timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static int64_t wanted_ns(const aoe_remote *r)
{
    int64_t period_ns = aoe_core_pulse(r->core);
    return period_ns > 0 ? period_ns : 1;
}

static int due(aoe_remote *r, int64_t now_ns)
{
    uint64_t times;
    if (now_ns < r->due_ns || read(r->timer, &times, sizeof times) != sizeof times)
        return 0;
    __atomic_store_n(&r->due_ns, r->due_ns + (int64_t)times * r->period_ns, __ATOMIC_RELAXED);
    return 1;
}

/* Its life */

static int watch(aoe_remote *r, int fd, int number)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)(int64_t)number};
    return epoll_ctl(r->poll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

/* Lost events leave no error: those that came suffice. */
static int watch_links(aoe_remote *r)
{
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    int yes = 1;
    r->query = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    r->news = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (r->query < 0 || r->news < 0)
        return -errno;
    setsockopt(r->news, SOL_NETLINK, NETLINK_NO_ENOBUFS, &yes, sizeof yes);
    return bind(r->news, (struct sockaddr *)&to, sizeof to) ? -errno : watch(r, r->news, NEWS);
}

static int open_ports(aoe_remote *r, const aoe_core_settings *set, const aoe_remote_port *ports)
{
    int bad = 0;
    for (uint32_t i = 0; i < set->ports && !bad; i++) {
        struct socket_port *p = &r->ports[i];
        bad = ports[i].interface ? port_open_ethernet(p, ports[i].interface, r->query, set)
                                 : port_open_datagrams(p, &ports[i]);
        r->ports_count++;
        if (!bad)
            bad = watch(r, p->fd, (int)i);
    }
    return bad;
}

static void close_all(aoe_remote *r)
{
    int fds[] = {r->poll, r->news, r->timer, r->query};
    for (uint32_t i = 0; i < r->ports_count; i++)
        port_close(&r->ports[i]);
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(r->ports);
    free(r);
}

/* The news are watched first, so that no change of a port is missed. */
static int open_all(aoe_remote *r, const aoe_core_settings *set, const aoe_remote_port *ports)
{
    r->ports = calloc(set->ports + 1, sizeof *r->ports);
    r->poll = epoll_create1(EPOLL_CLOEXEC);
    r->timer = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (!r->ports || r->poll < 0 || r->timer < 0)
        return r->ports ? -errno : -ENOMEM;
    int bad = watch(r, r->timer, TIMER);
    if (!bad)
        bad = watch_links(r);
    return bad ? bad : open_ports(r, set, ports);
}

int aoe_remote_open(aoe_remote **remote, aoe_core *core, const aoe_core_settings *settings,
                    const aoe_remote_port *ports)
{
    aoe_remote *r = calloc(1, sizeof *r);
    *remote = NULL;
    if (!r)
        return -ENOMEM;
    r->core = core;
    r->poll = r->news = r->timer = r->query = -1;
    int bad = open_all(r, settings, ports);
    if (bad) {
        close_all(r);
        return bad;
    }
    int64_t now_ns = aoe_remote_now();
    for (uint32_t i = 0; i < r->ports_count; i++)
        aoe_core_set_port(core, i, &r->ports[i].facts, now_ns);
    wind(r, wanted_ns(r), now_ns);
    aoe_remote_send(r);
    *remote = r;
    return 0;
}

void aoe_remote_close(aoe_remote *r)
{
    if (r->run)
        r->run_free(r->run);
    aoe_core_close(r->core);
    close_all(r);
}

/* What happened */

/* An interface that goes down leaves an error on its socket, which would be reported for ever. */
static void take_error(int fd)
{
    int error;
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
}

static void look(aoe_remote *r, int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(r->poll, events, EVENTS, timeout_ms);
    for (int i = 0; i < count; i++) {
        int number = (int)events[i].data.u64;
        assert(number < (int)r->ports_count);
        if (number == NEWS)
            r->links_changed = 1;
        else if (number >= 0 && events[i].events & (EPOLLERR | EPOLLHUP))
            take_error(r->ports[number].fd);
    }
}

static void hear_news(aoe_remote *r, int64_t now_ns)
{
    uint8_t ignored[8192];
    r->links_changed = 0;
    while (recv(r->news, ignored, sizeof ignored, MSG_DONTWAIT | MSG_TRUNC) > 0 || errno == ENOBUFS || errno == EINTR)
        ;
    for (uint32_t i = 0; i < r->ports_count; i++)
        if (port_look_again(&r->ports[i], r->query))
            aoe_core_set_port(r->core, i, &r->ports[i].facts, now_ns);
}

static uint32_t take_frames(aoe_remote *r, int64_t now_ns)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < r->ports_count; i++)
        taken += port_take(&r->ports[i], BATCH, r->core, i, now_ns);
    return taken;
}

/* A process that was stopped finds the answers in its rings, and only then looks at what is overdue. What comes in all
 * the time does not put the tick off for ever. */
static void tick(aoe_remote *r, uint32_t taken, int64_t now_ns)
{
    for (int i = 0; i < 8 && taken >= BATCH; i++)
        taken = take_frames(r, now_ns);
    aoe_core_tick(r->core, now_ns);
    if (r->period_ns != wanted_ns(r))
        wind(r, wanted_ns(r), now_ns);
}

void aoe_remote_pump(aoe_remote *r)
{
    int64_t now_ns = aoe_remote_now();
    uint32_t taken = take_frames(r, now_ns);
    int overdue = due(r, now_ns);
    if (!taken || overdue)
        look(r, 0);
    if (r->links_changed)
        hear_news(r, now_ns);
    if (overdue)
        tick(r, taken, now_ns);
    aoe_remote_send(r);
}

/* All of it has left by now, and was made since the last time. */
static void keep_sent(aoe_remote *r)
{
    int64_t now_ns = aoe_remote_now();
    aoe_core_late(r->core, r->sent_ns, now_ns);
    r->sent_ns = now_ns;
    r->keep(r->core, 0);
}

/* A shorter period begins at once. A longer one waits for the next tick, or every request that comes alone would
 * set the timer twice. */
void aoe_remote_send(aoe_remote *r)
{
    aoe_out *out;
    uint32_t count = aoe_core_out(r->core, &out);
    if (count) { /* what was made before a gap is made anew */
        aoe_core_own_time(r->core, aoe_remote_now());
        count = aoe_core_out(r->core, &out);
    }
    if (r->keep)
        r->keep(r->core, count > 0);
    for (uint32_t i = 0; i < r->ports_count && count; i++)
        port_send(&r->ports[i], i, out, count);
    if (r->keep && count)
        keep_sent(r);
    aoe_core_sent(r->core);
    if (wanted_ns(r) < r->period_ns)
        wind(r, wanted_ns(r), aoe_remote_now());
}

void aoe_remote_keep(aoe_remote *r, void (*keep)(const aoe_core *core, int sending))
{
    r->keep = keep;
    r->sent_ns = aoe_remote_now();
    keep(r->core, 1);
    keep(r->core, 0);
}

static int anything_waits(aoe_remote *r)
{
    for (uint32_t i = 0; i < r->ports_count; i++)
        if (port_ready(&r->ports[i]))
            return 1;
    return 0;
}

void aoe_remote_wait(aoe_remote *r, int timeout_ms, uint32_t spin_us)
{
    int64_t now_ns = aoe_remote_now(), until_ns = now_ns + (int64_t)spin_us * 1000;
    for (; now_ns < until_ns; now_ns = aoe_remote_now()) {
        for (int i = 0; i < 16; i++) {
            if (anything_waits(r))
                return;
            __builtin_ia32_pause();
        }
        if (now_ns >= __atomic_load_n(&r->due_ns, __ATOMIC_RELAXED))
            return;
    }
    if (!anything_waits(r))
        look(r, timeout_ms);
}

int aoe_remote_fd(aoe_remote *r) { return r->poll; }

/* What is known */

void aoe_remote_lost(const aoe_remote *r, uint64_t *unsent, uint64_t *unfit)
{
    *unsent = *unfit = 0;
    for (uint32_t i = 0; i < r->ports_count; i++) {
        struct socket_port *p = &r->ports[i];
        p->unfit += ring_lost(&p->ring); /* the kernel forgets what it told */
        *unsent += p->unsent;
        *unfit += p->unfit;
    }
}

const char *aoe_remote_name(const aoe_remote *r, uint32_t port)
{
    assert(port < r->ports_count);
    return r->ports[port].name;
}

void aoe_remote_mac(const aoe_remote *r, uint32_t port, uint8_t *mac)
{
    assert(port < r->ports_count);
    memcpy(mac, r->ports[port].facts.mac, 6);
}
