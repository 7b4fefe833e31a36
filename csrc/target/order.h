/* The order queue of one export (order rule T1), the same rules as aoe/target/order.py. Pure. */
#ifndef AOE_ORDER_H
#define AOE_ORDER_H

#include <stdatomic.h>
#include <stdint.h>

#include "spans.h"

/* Python does the last three: by their ranges, or with nothing beside them. */
enum kind { K_READ, K_WRITE, K_FLUSH, K_UP_READ, K_UP_CHANGE, K_UP };
enum state { S_WAITING, S_READY, S_RUNNING, S_UP };

struct export;

struct op {
    struct op *prev, *next; /* pending requests of the export, in order of arrival */
    struct op *link;        /* whichever other list it is on */
    struct op *turn, *end;  /* the first of its client's that wait for a place: the next client's, and the last */
    struct export *export;
    struct spans where;     /* rounded out to the disk's block */
    uint64_t lba;
    uint32_t count;         /* sectors */
    uint32_t waits;         /* earlier requests it must not overtake */
    uint64_t stamp_ns, era;
    uint64_t begin_ns;      /* not before that; CLOCK_BOOTTIME */
    uint64_t submitted_ns;  /* to the disk; 0: never */
    int64_t number;         /* of the export's publication it was admitted under */
    uint64_t ticket;        /* S_UP: what Python knows it by */
    _Atomic uint64_t released; /* the ticket that Python is done with */
    uint32_t port;
    uint32_t length;        /* bytes of the frame at `data - ATA_HEADER` */
    int32_t error;
    uint8_t kind, state, durable;
    uint8_t kept;           /* it waits for a snapshot, S_READY */
    uint32_t needs;         /* for this range of it */
    uint8_t background;     /* it can wait while others ask */
    uint8_t client;         /* its place among those that are counted; CLIENTS_MAX: with others */
    uint8_t *data;          /* payload, aligned for direct I/O; the ATA header stands right before it */
    uint32_t skip;          /* bytes between `data` and the first sector read, where a read was rounded */
};

struct order {
    struct op *head, *tail;
    uint32_t pending, changes, waiting;
};

/* Put a request behind those that are there; it is S_READY or S_WAITING then. */
void order_admit(struct order *order, struct op *op);

/* Take a finished request out; the ones that may go now are S_READY and chained by `link`, in order. */
struct op *order_done(struct order *order, struct op *op);

#endif
