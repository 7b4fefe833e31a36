/* Reads, writes and syncs that may take long: io_uring, or threads where the kernel refuses it. */
#ifndef AOE_SECTORS_H
#define AOE_SECTORS_H

#include <stdint.h>

#include "plug.h"

/* Threads of one thread of the engine, the kernel's of io_uring or our own. */
enum { WORKERS_MAX = 1024 };

struct sectors;

/* `event` is an eventfd that is written whenever something is done. NULL where memory is short. Nothing of the kernel's
 * is opened later: a process may confine itself meanwhile. The ring does what is done here and nothing else, as it
 * would open files unseen by seccomp(2). */
struct sectors *sectors_open(int plain, int event);

/* By the thread that it is for from now on: 0, or a negative errno. */
int sectors_begin(struct sectors *sectors);
int sectors_use_uring(const struct sectors *sectors);

/* Hand over; what was started is sent on its way by sectors_go, unless its plug keeps it. The io is the caller's again
 * once reaped. */
void sectors_start(struct sectors *sectors, struct io *io);
void sectors_go(struct sectors *sectors);

/* What is done, chained by `link`; NULL if nothing is. Where the disk has little left to do it is only a part: the
 * clients' next requests must get there before all that is done is answered. */
struct io *sectors_reap(struct sectors *sectors);

/* Whether anything is under way; and whether threads work on it, which may need the caller's processor. */
int sectors_busy(const struct sectors *sectors);
int sectors_threads_busy(const struct sectors *sectors);

/* Frees everything if nothing is under way, else leaves it to whatever hangs. */
void sectors_close(struct sectors *sectors);

#endif
