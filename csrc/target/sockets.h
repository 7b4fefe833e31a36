/* The packet sockets of the ports: they come and go while threads run. */
#ifndef AOE_SOCKETS_H
#define AOE_SOCKETS_H

#include "state.h"

/* Python: frames for which the ring of a port had no room so far. */
uint64_t port_ring_full(struct port *port);
/* The thread: take what Python attached, and nothing more from what it detached. */
void sockets_adopt(struct thread *t);
/* Leave those by which nothing is under way any more. */
void sockets_let_go(struct thread *t);

static inline int port_filled(struct thread *t, uint32_t port)
{
    return t->ports[port].open == PORT_OPEN && ring_ready(&t->ports[port].ring);
}

#endif
