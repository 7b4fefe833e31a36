/* A port for datagrams, from its description. */
#ifndef AOE_NBD_LINK_H
#define AOE_NBD_LINK_H

#include "abi.h"

/* `udp:ADDRESS:PORT[,peer=ADDRESS:PORT...][,mtu=N]`, addresses in numbers, as UdpSpec in aoe/link/udp.py has checked
 * it. What is wrong with it, or NULL. The socket is bound at once. */
const char *link_open(aoe_remote_port *port, const char *text);
void link_close(aoe_remote_port *port);

#endif
