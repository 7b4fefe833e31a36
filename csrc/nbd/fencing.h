/* The user's command that makes sure that a lost server does nothing any more. */
#ifndef AOE_FENCING_H
#define AOE_FENCING_H

#include "state.h"

/* With the lock: run it, in a thread of its own, if the server of a path was lost with writes of unknown fate. The core is
 * told when it ends well; if it does not, it is run again later. */
void fencing_look(struct shared *s, const aoe_path *path, int64_t now_ns);

/* Run it for the server of a path; whether it ended well. */
int fencing_run(char **command, const aoe_path *path);

#endif
