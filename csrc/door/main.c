/* Attaches a device of nbd.ko to a door, and keeps it attached: when the door dies, the kernel waits with what was under way,
 * and another door gets it. What was written meanwhile is safe by what the plugin does (csrc/nbd/heir.c).
 *
 * We live as long as the kernel where its root is on that device: nothing is opened or executed outside our root once the
 * device is there, memory is locked as it is used, and no signal ends us while the device is in use. */
#include "door.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND_NS 1000000000ll

enum { LOOK_MS = 1000, AGAIN_MS = 250, AGAIN_MAX_MS = 30000, SHORT_LIFE_MS = 2000, HANDSHAKE_S = 15 };

/* The door */

static void drop_socket(void)
{
    if (d.socket >= 0)
        close(d.socket);
    d.socket = -1;
}

static void approach(void)
{
    int fd = child_connect(&d.child);
    d.again_ns = boottime_ns() + AGAIN_MS * 1000000ll;
    if (fd < 0)
        return;
    d.socket = above(fd, "socket");
    d.is_new = 1;
}

/* Until the next one starts. Those that end at once and were not used, as where another disk is there, come later each time. */
static int64_t delay_ms(int64_t lived_ms)
{
    int64_t longer_ms = d.delay_ms < AGAIN_MAX_MS / 2 ? 2 * d.delay_ms : AGAIN_MAX_MS;
    if (lived_ms >= SHORT_LIFE_MS)
        return d.delay_ms = 0;
    return d.delay_ms = d.is_used || !d.delay_ms ? AGAIN_MS : longer_ms;
}

static void start_door(void)
{
    d.estate->is_over = 0;
    d.is_used = 0;
    int bad = child_start(&d.child);
    d.born_ns = boottime_ns();
    if (!bad) {
        approach();
        return;
    }
    say("no door can be started: %s", strerror(-bad));
    d.again_ns = d.born_ns + delay_ms(0) * 1000000ll;
}

/* Unless it is out: then it is asked again when it is back. */
static void ask(enum errand errand)
{
    if (!canary_is_out())
        d.asked_at = d.losses;
    canary_send(errand);
}

/* What is asked from now on waits in the kernel until another door is there. */
static void lose(void)
{
    d.losses += d.socket >= 0 && !d.is_new;
    drop_socket();
    if (!d.is_attached)
        return;
    d.lost_ns = d.lost_ns ? d.lost_ns : boottime_ns();
    ask(ERRAND_READ);
}

static void bury(int status)
{
    int64_t now = boottime_ns(), lived_ms = (now - d.born_ns) / 1000000;
    d.child.pid = 0;
    d.estate->died_ns = now;
    say_last_of(d.log);
    if (!d.is_attached) {
        say("there is no disk");
        exit(1);
    }
    d.again_ns = now + delay_ms(lived_ms) * 1000000ll;
    const char *when = d.delay_ms > AGAIN_MS ? " within 30 s" : "";
    if (WIFSIGNALED(status))
        say("%s: the door was killed by signal %d; another one is started%s", d.set.device, WTERMSIG(status), when);
    else
        say("%s: the door ended with status %d; another one is started%s", d.set.device, WEXITSTATUS(status), when);
    lose();
}

static void bury_all(void)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
        if (pid == d.child.pid)
            bury(status);
}

/* The device */

static _Noreturn void leave(int bad)
{
    child_end(&d.child);
    say("/dev/%s is detached%s%s", d.set.device, bad ? ": " : "", bad ? strerror(bad) : "");
    exit(bad != 0);
}

static _Noreturn void detach(int bad)
{
    netlink_disconnect(&d.kernel, d.set.number);
    leave(bad);
}

static void attach(const struct export *export)
{
    int bad = netlink_connect(&d.kernel, d.set.number, export, d.set.block, d.socket);
    if (bad)
        must_end(bad == -EBUSY ? "the device is attached already" : d.set.device, bad);
    d.is_attached = d.is_used = 1;
    device_set();
    d.size = export->size;
    d.canary = canary_open(d.devices, d.set.device);
    if (d.canary < 0)
        detach(-d.canary);
    ask(ERRAND_OPEN);
}

/* The old connection may not be known to be dead yet: then this one is not used, and is offered again. */
static void offer(void)
{
    int bad = netlink_reconnect(&d.kernel, d.set.number, d.socket);
    if (bad == -EINVAL) /* another program has detached it */
        leave(ENOTCONN);
    if (bad)
        say("%s: the kernel takes no other door: %s", d.set.device, strerror(-bad));
    d.is_used |= !bad;
    d.again_ns = boottime_ns() + AGAIN_MS * 1000000ll;
}

/* That it has ended is told elsewhere. */
static void refuse(int bad)
{
    drop_socket();
    if (bad != -ECONNRESET)
        say("%s: the door does not answer as an NBD server: %s; it is asked again", d.set.device, strerror(-bad));
}

static void pass_over(uint64_t size)
{
    drop_socket();
    say("%s: the disk has only %llu bytes now, and had %llu; it is not used", d.set.device, (unsigned long long)size,
        (unsigned long long)d.size);
}

static void greet(void)
{
    struct export export;
    d.is_new = 0;
    int bad = handshake(d.socket, &export, boottime_ns() + HANDSHAKE_S * SECOND_NS);
    if (bad) {
        refuse(bad);
        return;
    }
    d.served = export.size;
    if (!d.is_attached) {
        attach(&export);
    } else if (export.size < d.size) {
        pass_over(export.size);
    } else {
        offer();
    }
}

static void be_there(int bad)
{
    if (bad)
        detach(bad);
    say_all_anew();
    say("/dev/%s is there, %llu bytes", d.set.device, (unsigned long long)d.size);
    notify("READY=1");
    let_go_of_parent();
}

/* Our own I/O has passed: the connection is in use. */
static void go_on(int bad)
{
    double away = (double)(boottime_ns() - d.lost_ns) / SECOND_NS, fence = (double)d.estate->fence_ns / SECOND_NS;
    d.lost_ns = 0;
    say_all_anew();
    say("%s: I/O goes on after %.1f s, %.1f s of them until what was under way before was over%s%s", d.set.device, away,
        fence, bad ? "; but a read failed: " : "", bad ? strerror(bad) : "");
}

static void end_use(int bad)
{
    if (bad == EBUSY) {
        say("/dev/%s is in use: the signal has no effect; unmount it first", d.set.device);
        return;
    }
    detach(bad);
}

/* What was answered before the connection was lost once more says nothing of the one that is to come. */
static void look_at_answer(int bad)
{
    if (d.asked_at == d.losses)
        go_on(bad);
    else
        ask(ERRAND_READ);
}

static void be_back(void)
{
    enum errand errand;
    int bad = canary_back(&errand);
    if (errand == ERRAND_END)
        end_use(bad);
    if (errand == ERRAND_OPEN)
        be_there(bad);
    if (d.lost_ns && errand == ERRAND_READ)
        look_at_answer(bad);
    else if (d.lost_ns)
        ask(ERRAND_READ);
    if (d.leaves && !canary_is_out()) {
        d.leaves = 0;
        ask(ERRAND_END);
    }
}

/* A connection serves the size that there was when it was made. */
static void look_at_size(void)
{
    uint64_t size = d.estate->size;
    if (!d.is_attached || d.lost_ns || size <= d.served || d.socket < 0)
        return;
    say("%s: the disk has grown to %llu bytes", d.set.device, (unsigned long long)size);
    shutdown(d.socket, SHUT_RDWR);
    lose();
}

static void tell_size(void)
{
    if (!d.is_attached || d.lost_ns || d.served <= d.size)
        return;
    int bad = netlink_resize(&d.kernel, d.set.number, d.served);
    if (bad)
        say("%s: the kernel is not told of %llu bytes: %s", d.set.device, (unsigned long long)d.served, strerror(-bad));
    d.size = d.served;
}

static void asked_to_end(void)
{
    if (!d.is_attached)
        leave(0);
    d.leaves = canary_is_out();
    ask(ERRAND_END);
}

/* It is for the door that waits now, and for none later. */
static void let_go(void)
{
    d.estate->is_over = d.lost_ns && d.child.pid;
}

static void hear_signals(void)
{
    struct signalfd_siginfo came;
    while (read(d.signals, &came, sizeof came) == sizeof came)
        if (came.ssi_signo == SIGUSR1)
            let_go();
        else if (came.ssi_signo != SIGCHLD)
            asked_to_end();
    bury_all();
}

static void tend(void)
{
    int64_t now = boottime_ns();
    if (now < d.again_ns)
        return;
    if (!d.child.pid)
        start_door();
    else if (d.socket < 0)
        approach();
    else if (d.lost_ns && !d.is_new)
        offer();
}

static int patience_ms(void)
{
    int64_t left_ns = d.again_ns - boottime_ns();
    int waits = d.socket >= 0 && (d.is_new || !d.lost_ns);
    return waits ? LOOK_MS : left_ns <= 0 ? 1 : (int)(left_ns / 1000000) + 1;
}

static void live(void)
{
    struct pollfd on[] = {{d.signals, POLLIN, 0},
                          {d.log, POLLIN, 0},
                          {d.canary, POLLIN, 0},
                          {d.socket, (short)(d.is_new ? POLLIN : POLLRDHUP), 0}};
    poll(on, sizeof on / sizeof *on, patience_ms());
    if (on[1].revents)
        say_what_comes(d.log);
    if (on[0].revents)
        hear_signals();
    if (on[3].revents && on[3].fd == d.socket) {
        if (d.is_new && on[3].revents & POLLIN)
            greet();
        else
            lose();
    }
    if (on[2].revents) /* when it is known what was lost */
        be_back();
    tell_size();
    look_at_size();
    tend();
}

int main(int argc, char **argv)
{
    int ends = options_of(argc, argv, &d.set);
    if (ends)
        return ends - 1;
    fill_streams();
    take_our_name(argv);
    open_outside();
    make_command(d.set.command);
    if (!d.set.foreground)
        go_behind();
    else if (d.set.ready)
        d.parent = above((int)d.set.ready, "--ready");
    watch_signals();
    make_estate();
    make_log();
    become_part_of_io();
    start_door();
    while (1)
        live();
}
