/* What Python says of a port, which all threads read at any time. */
#ifndef AOE_PORTS_H
#define AOE_PORTS_H

#include "state.h"

void port_publish(aoe_engine *e, uint32_t port, const aoe_port *now);
void port_facts(const aoe_engine *e, uint32_t port, uint8_t mac[6], uint32_t *sectors);

#endif
