/* What the files of the initiator's I/O share: one remote, and the sockets of its ports. */
#ifndef AOE_REMOTE_H
#define AOE_REMOTE_H

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "initiator.h"
#include "shared/ring.h"

enum { FRAMES = 64 /* datagrams taken, and frames sent, in one call */ };

struct datagrams {
    struct mmsghdr messages[FRAMES];
    struct iovec parts[FRAMES];
    struct sockaddr_in from[FRAMES];
    uint8_t *buffers;
    uint32_t count, next;
};

struct socket_port {
    int fd, owned;
    aoe_core_port facts;
    uint64_t unsent, unfit;

    char name[IFNAMSIZ], given[IFNAMSIZ]; /* Ethernet: how the interface is called, and was when it was opened */
    int number;          /* of the interface; 0 where there is none of that name */
    uint32_t room;       /* largest frame that is taken */
    struct ring ring;

    struct datagrams *in; /* datagrams; NULL: Ethernet */
    struct sockaddr_in *peer;
    uint32_t peers;
};

struct load_run;

struct aoe_remote {
    aoe_core *core;
    uint32_t ports_count;
    struct socket_port *ports;
    int poll, news, timer, query; /* query: any socket, to ask for interfaces */
    int links_changed;
    int64_t period_ns, due_ns;
    void (*keep)(const aoe_core *core, int sending); /* NULL: nothing is kept */
    int64_t sent_ns; /* when all that was made before that had left, where something is kept */
    struct load_run *run; /* of aoe_remote_load; NULL: none */
    void (*run_free)(struct load_run *run);
};

/* socket_port.c: one port. Negative errno. */
int port_open_ethernet(struct socket_port *p, const char *name, int query, const aoe_core_settings *set);
int port_open_datagrams(struct socket_port *p, const aoe_remote_port *with);
void port_close(struct socket_port *p);
/* Ask the kernel for the interface again; 1 if the facts changed. */
int port_look_again(struct socket_port *p, int query);
/* Whether a frame waits; and give the core at most that many. */
int port_ready(struct socket_port *p);
uint32_t port_take(struct socket_port *p, uint32_t most, aoe_core *core, uint32_t number, int64_t now_ns);
/* Send those of `out` that are this port's. */
void port_send(struct socket_port *p, uint32_t number, const aoe_out *out, uint32_t count);

#endif
