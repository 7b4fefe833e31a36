/* Requests of one thread, each with a buffer, and where they are kept while there is nothing to do. */
#ifndef AOE_REQUESTS_H
#define AOE_REQUESTS_H

#include "state.h"

int requests_make(struct thread *t); /* negative errno */
struct op *op_new(struct thread *t); /* NULL where all are in use */
/* It came in by a port, which is kept until it is over. */
static inline void op_by(struct thread *t, struct op *op, uint32_t port)
{
    op->port = port;
    t->ports[port].held++;
}

void op_free(struct thread *t, struct op *op);

#endif
