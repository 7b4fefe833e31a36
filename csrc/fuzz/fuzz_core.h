/* The initiator's fuzzer in two parts: fuzz_core.c reads the input as a script and plays caller, servers and
 * network; core_model.c knows what must be true of the frames that the core sends and of how requests end. */
#ifndef AOE_FUZZ_CORE_H
#define AOE_FUZZ_CORE_H

#include "initiator/channel.h"
#include "check.h"

enum { PORTS_MAX = 3, ADDRESSES_MAX = 3, REQUESTS = 64, LENGTH_MAX = 1 << 16, SENT_MAX = 1 << 14 };

/* A request, as its caller knows it. */
struct wanted {
    aoe_request *request; /* NULL: none */
    uint64_t user, offset, length;
    uint32_t verb;
    uint8_t *data; /* of just the length promised, or NULL */
    uint32_t data_length;
    int fits, ended;                   /* `ended`: the core gave it */
    uint8_t written[LENGTH_MAX / 512 + 2]; /* sectors whose write was answered well */
};

/* A frame out of the core. */
struct sent {
    union {
        uint8_t head[ATA_HEADER];
        struct wire wire;
    };
    uint32_t port, length, tag, bytes_hash;
    int64_t at_ns;
    uint32_t path;    /* its number; 0: a query */
    uint64_t user;   /* whose write it is */
    uint64_t first, last; /* sectors that it changes, or reads */
    uint32_t sector_hash[LENGTH_MAX / 512 + 2]; /* of what a write has for each of them */
    int changes, answered;
    int unsent; /* it waited through a gap, and was made anew */
    uint32_t there, back; /* a probe: as large a request gets there, or comes back, once it is answered */
    uint32_t stream;     /* 0: it has none (rule T9) */
    uint8_t instance[8]; /* of the server, as its trailer says */
};

extern aoe_core *core;
extern struct wanted wanted[REQUESTS];

/* core_model.c */
void model_reset(int64_t now_ns);
void model_port(uint32_t port, const aoe_core_port *now);
uint8_t model_disk(uint64_t lba, uint32_t at);      /* what every disk holds, for ever */
uint8_t model_pattern(uint64_t user, uint64_t at); /* what a request writes */
/* Before a call: what it may do that others may not. */
void model_ticks(int64_t now_ns);
void model_receives(uint32_t port, const uint8_t *frame, uint32_t length, const struct sent *reply_to);
void model_fences(const struct path *w);
struct path *path_at(uint32_t number); /* NULL: there is none any more */
void model_look(void); /* after every call */
void model_sends(void); /* what is out leaves memory that must still be as it was */
struct sent *model_sent(uint32_t number);
uint32_t model_sent_count(void);
void model_ended(struct wanted *w);
/* What a write put there, where a read is the second one of an echo; or NULL. */
const uint8_t *model_echo(const struct sent *s);

#endif
