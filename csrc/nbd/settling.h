/* The wait until what an earlier door left is over: the user's command is run for a server that is lost while another one is
 * there, and what is waited for long is told of. */
#ifndef AOE_NBD_SETTLING_H
#define AOE_NBD_SETTLING_H

#include "state.h"

void settling_begin(struct shared *s);
/* Now and then until nothing is left. */
void settling_look(struct shared *s);

#endif
