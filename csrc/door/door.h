/* The supervisor of a door: what its files share. */
#ifndef AOE_DOOR_H
#define AOE_DOOR_H

#include <stdint.h>
#include <sys/types.h>

#include "estate.h"

enum { FIRST_FD = 10 }; /* below are those that a door gets */

/* clock.c */
int64_t boottime_ns(void);

/* say.c: lines, whole ones, to standard error or to the kernel's log. It never waits: what does not fit there is lost. While
 * there is no disk, what was said before is said again only now and then. */
void say_here(void); /* to standard error, as it is now */
void say_to_kernel(int fd);
void say_all_anew(void);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void say_what_comes(int fd); /* what a door says; it never waits */
void say_last_of(int fd);    /* of a door that has ended: also what is no whole line */

/* handshake.c: an NBD client until the transmission phase. 0, or negative errno; EPROTO: that is no NBD server. */
struct export {
    uint64_t size;
    uint16_t flags;
};
int handshake(int fd, struct export *export, int64_t until_ns);

/* device.c: what is set of the device, in files that are opened before. Negative errno. */
int device_open(void);
void device_set(void);

/* netlink.c: what the kernel is told of a device. 0, or negative errno. */
struct netlink {
    int fd;
    uint16_t family;
};
int netlink_open(struct netlink *n);
int netlink_connect(struct netlink *n, uint32_t device, const struct export *export, uint32_t block, int fd);
int netlink_reconnect(struct netlink *n, uint32_t device, int fd);
int netlink_resize(struct netlink *n, uint32_t device, uint64_t size);
int netlink_disconnect(struct netlink *n, uint32_t device);

/* canary.c: I/O of our own on the device, which may wait for ever, by a thread that waits instead of us */
enum errand { ERRAND_OPEN, ERRAND_READ, ERRAND_END };
int canary_open(int devices, const char *name); /* what is readable when an errand is done, or negative errno */
void canary_send(enum errand errand);           /* unless it is out */
int canary_is_out(void);
int canary_back(enum errand *errand);           /* it is done: what came of it, 0 or an errno */

/* child.c: a door, which is nbdkit with our plugin */
struct child {
    char **words; /* how nbdkit is called */
    char **environment;
    int root;     /* a directory that is its root, or -1 */
    int log_fd, estate_fd;
    pid_t pid;    /* 0: there is none */
    uint8_t name[128]; /* of its socket */
    uint32_t name_length;
};
int child_start(struct child *c);   /* 0, or negative errno */
void child_end(struct child *c);    /* if there is one */
int child_connect(struct child *c); /* a socket to it, or negative errno */

/* options.c */
struct options {
    const char *device, *root, *notify;
    char **command;
    uint32_t number, block, io_timeout_ms, sectors_kib, ready;
    int foreground, kernel_log;
};
int options_of(int argc, char **argv, struct options *o); /* 0; else what to exit with, 1 less */

/* main.c: all that it knows */
struct door {
    struct options set;
    struct netlink kernel;
    struct child child;
    struct estate *estate;
    int devices, signals, log, nothing;
    int is_attached;
    int canary;
    uint32_t losses, asked_at; /* how often a connection was lost; and had been when the canary was sent */
    int is_used;    /* the kernel has taken the door */
    int socket;     /* our copy of the kernel's end, or -1 */
    int is_new;     /* nothing came from the door there yet */
    int parent;     /* where what started us waits, or -1 */
    int leaves;     /* as soon as the canary is back */
    uint64_t size;  /* as the kernel knows it */
    uint64_t served; /* by the connection that was made last */
    int64_t delay_ms; /* from the end of the last door to the next one */
    int64_t lost_ns, born_ns, again_ns; /* since when there is no door; since when that one lives; when to try again */
};
extern struct door d;

/* setup.c */
_Noreturn void must_end(const char *what, int bad);
int above(int fd, const char *what); /* the same, where no door gets it; or give up */
void fill_streams(void); /* where we were started without them */
void open_outside(void);
void make_command(char **words);
void watch_signals(void);
void make_estate(void);
void make_log(void);
void take_our_name(char **argv); /* this program begins anew where it had another one */
void become_part_of_io(void);

/* starter.c: what waits for us */
void notify(const char *text);
void go_behind(void);
void let_go_of_parent(void);

#endif
