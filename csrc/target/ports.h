/* The packet sockets of an engine: their facts, and how they come and go. */
#ifndef AOE_PORTS_H
#define AOE_PORTS_H

#include "state.h"

void port_publish(aoe_engine *e, uint32_t port, const aoe_port *now);
void port_facts(const aoe_engine *e, uint32_t port, uint8_t mac[6], uint32_t *sectors);

/* The thread: take what Python attached, and nothing more from what it detached. */
void ports_adopt(struct thread *t);
/* Leave those by which nothing is under way any more. */
void ports_let_go(struct thread *t);

static inline int port_filled(struct thread *t, uint32_t port)
{
    return t->ports[port].open == PORT_OPEN && ring_ready(&t->ports[port].ring);
}

#endif
