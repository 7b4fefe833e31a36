/* What the files of the initiator's arithmetic share: one core, its paths, requests and their pieces. */
#ifndef AOE_INITIATOR_H
#define AOE_INITIATOR_H

#include <stddef.h>
#include <stdint.h>

#include "abi.h"
#include "debts.h"
#include "facts.h"
#include "life.h"
#include "memory.h"
#include "shared/list.h"
#include "shared/wire.h"
#include "sizes.h"

enum { TAG_BUCKETS = 1 << 12, RANGE_BUCKETS = 1 << 13 };

/* The bytes after the AoE header: registers, or a short message; and what follows. */
struct body {
    union {
        uint8_t head[sizeof(struct wire_registers) + STAMP_TRAILER];
        struct wire_registers ata;
    };
    uint32_t head_length, data_length;
    const uint8_t *data;
};

struct copy {
    struct link of_exchange;
    struct copy *next; /* in its bucket */
    struct exchange *exchange;
    uint32_t tag;
    int64_t sent_ns;
};

/* Of a stream and an epoch, for one life of the server (order rule T9); stream 0: none. */
struct stamp {
    uint16_t stream;
    uint8_t epoch;
    uint64_t instance;
};

struct exchange {
    struct link where; /* waiting, flying or unsettled */
    struct link of_operation;
    struct link copies; /* the oldest first */
    struct operation *operation; /* NULL: a check of the path, or a drain */
    struct path *path;
    const struct body *body;
    uint8_t command, lane, open, waits;
    uint8_t guessed; /* the last copy was sent although nothing but time spoke against the one before */
    uint32_t reply_min, tries, copies_count;
    uint32_t sectors; /* that go with it */
    struct stamp stamp; /* of the last transmission; none, if copies belong to several streams */
    int64_t generation; /* to which process of the peer it was sent; -1: to several */
    int64_t sent_ns, since_ns; /* since_ns: sent_ns, and what time there was since in which we did not run */
};

struct lane {
    const aoe_timing *timing;
    int64_t quiesce_ns;
    int64_t smoothed_ns, deviation_ns;
    int64_t shown_ns, heard_ns, paused_ns; /* as aoe/initiator/rtt.py has them */
    int64_t least_ns; /* the shortest wait; it grows where a server that pauses is asked again for nothing */
    double patience;
    int64_t newest_ns, probed_ns;
    int64_t resumed_ns; /* when we last ran again: what was sent before tells nothing of round trips */
    uint32_t probes; /* what was sent again, since the last answer, although nothing told of a loss */
    uint32_t large; /* how many sectors went with a large request that has passed of late, and when it was sent */
    int64_t large_ns;
    struct link flying, unsettled;
    uint32_t flying_count, unsettled_count;
};

struct window {
    double most, size, threshold;
    int64_t round_ends_ns, lost;
};

/* What is known of whether a server has the disk of the owner: as aoe/initiator/trial.py has it. */
struct trial {
    int sampled, proved, condemned; /* the last: why it has another disk */
    int copy; /* proved, as both have a copy of one image that is never written to */
    uint64_t lba;
    uint32_t misses;
    int64_t again_ns;
};

/* A path: the channel to one server, as aoe/initiator/channel.py, and what is known of it, as in path.py. */
struct path {
    uint32_t number, port, rank;
    uint32_t offers, sectors; /* how many its server takes in one request, and how many both ends do */
    uint8_t own[6], mac[6];
    uint16_t shelf;
    uint8_t slot;
    struct window window;
    int drains;
    struct stamp stamp; /* of what is sent now */
    int trims;          /* whether the peer asks a TRIM for its stream, too */
    uint16_t streams;   /* where their numbers have come to */
    int64_t generation; /* rises when the peer is another process, which cannot speak for what that one had begun */
    uint32_t tag;
    int64_t bound_ns; /* after which a copy counts as over for the next life, unless that is to hold */
    int64_t quiet_from_ns; /* heard_ns, and what time there was since in which we did not run */
    int64_t heard_ns, asked_ns, swept_ns, drained_ns;
    struct link waiting;
    uint32_t waiting_count;
    struct lane lanes[LANES];
    struct exchange *drain;
    uint32_t suspect, suspect_lane; /* how many sectors went with what was lost again and again: the largest */
    uint64_t suspect_lba;
    struct copy *tags[TAG_BUCKETS];

    int state, reason, vouched, slow, identified, ours;
    uint64_t instance;
    int alone;          /* what names another instance can take effect no more */
    int reborn;         /* its server began another life, and what the one before was asked was not asked again */
    int64_t age_ns;     /* how long it may keep a write waiting */
    struct stamp registering; /* what the check asks the server to know, if anything */
    int64_t looked_ns;  /* when that was asked first */
    int late;           /* it was asked anew, as the last one may have been too old to register anything */
    int heeded;         /* it has said that it heeds the stream in use, since it was asked that */
    int draining;       /* its server is to be left */
    uint8_t told;       /* what the last question told such a server of our staying there */
    int heeds;          /* it has said that it heeds streams */
    int64_t register_after_ns;
    int mute;           /* what was done about changes that are not answered, although they were sent again and again */
    uint32_t renewed;
    struct trial trial; /* of its server */
    uint32_t store_kind;
    uint8_t store[16];
    int volatile_cache;
    struct exchange *check, *question; /* the latter: a config query */
    struct body check_body;
    struct sizes sizes;
    struct sizes_shown shown;
    struct link refused; /* operations: perhaps they are too large for it now */
    int64_t check_after_ns, probed_ns, io_ns, usable_ns;
};

/* The reply to what was refused; `asked`: the query began after that. */
struct refusal {
    struct path *by;
    int asked;
    uint32_t length;
    uint8_t head[ATA_HEADER];
};

struct operation {
    struct link open_link, held_link, exchanges; /* held_link: held, or refused by a path */
    struct body body;
    struct piece *piece; /* NULL: of no interest any more */
    struct look *look;   /* whose read it is, if it is for the proof */
    struct path *only;
    uint8_t command, lane, open, free;
    uint32_t reply_min;
    uint32_t sectors; /* that go with it; a path may take fewer */
    struct refusal *refusal;
};

struct range_node {
    struct link link;
    struct range_lock *lock;
};

/* A lock of sectors: from when no earlier change can touch them any more until nothing of its own can. */
struct range_lock {
    struct link all, wide;
    struct range_node nodes[2];
    uint64_t first, last, mark;
    int entered;
    uint32_t waits, followers_count, followers_room; /* waits: earlier locks that it overlaps */
    struct range_lock **followers;
};

/* A part of a request. */
struct piece {
    struct range_lock lock;
    struct link of_request, ready, message;
    uint32_t count, at; /* sectors that go with it, and how many of them were answered */
    uint8_t lane, free;
    uint32_t older; /* changes of it before `operation` of which there are copies of unknown fate */
    int echo; /* `echo`: the proof keeps its range closed */
    struct asked *request; /* NULL: no caller waits */
    struct operation *operation;
    uint8_t *data; /* what is written, where that is not a part of the request's data */
};

struct asked {
    aoe_request request; /* first: it is what the caller knows */
    struct link pieces, done, every;
    uint32_t left;
    int flushes, own_data, worst, ended;
    uint64_t changes, losses_told;
};

/* The proof that servers have one disk: as aoe/initiator/proof.py has it. Paths are named by their numbers. */

struct lives {
    int owner_ours, ours;
    uint64_t owner, instance;
};

struct look {
    struct sample *sample; /* NULL: of the echo */
    struct operation *operation; /* NULL: none under way */
    int is_answered;
};

struct sample {
    struct link where; /* left or flying */
    struct range_lock lock;
    struct look looks[2];
    uint8_t *data; /* of the first answer; NULL: it was an error */
    uint32_t differed, held;
    int64_t since_ns, again_ns;
};

struct echo {
    uint32_t owner, path, sectors;
    int stage;
    struct lives lives;
    struct piece *piece; /* NULL: there is no echo */
    uint8_t *data;
    int64_t since_ns;
    struct look look;
};

struct proof {
    uint64_t news;
    int works, wanted;
    uint32_t owner, subject; /* `subject` 0: no samples are compared */
    struct lives lives;
    int64_t began_ns;
    struct link left, flying;
    uint32_t left_count, flying_count;
    struct echo echo;
};

/* Where a server is: without gaps, so that two are compared as bytes. */
struct stranger {
    uint8_t mac[MAC_BYTES], shelf[2], slot, port;
};

struct strangers {
    uint32_t seed, asked, invited_count;
    int64_t since_ns;
    struct stranger invited[INVITED_MAX];
};

struct ranges {
    struct link all, wide;
    struct link buckets[RANGE_BUCKETS];
    uint64_t mark;
};

enum { EFFECT_ANSWERED, EFFECT_SETTLED, EFFECT_TOO_LARGE, EFFECT_HAPPENED };

/* What a frame is to the request that it may belong to. */
enum verdict_on_reply { REPLY_UNFIT, REPLY_FAILED, REPLY_GOOD };

/* What a channel did, or what has happened to it; `exchange` is gone when its settling was looked at. */
struct effect {
    int what;
    struct exchange *exchange;
    const uint8_t *raw;
    uint32_t length;
    int good;        /* EFFECT_ANSWERED: it was done */
    struct path *path; /* with EFFECT_HAPPENED, as the next two */
    int happens, reason;
};

struct event {
    int what;
    struct operation *operation;
    struct path *path;
    const uint8_t *raw;
    uint32_t length;
    uint32_t sectors; /* EFFECT_TOO_LARGE: the most that a request may have where it has to go */
    int good;         /* EFFECT_ANSWERED: it was done */
};

struct aoe_core {
    aoe_core_settings set;
    int spent; /* memory could not be had: nothing is sent any more, and what is asked ends with that */
    uint32_t *addresses;
    aoe_core_port *ports;
    struct path *paths[PATHS_MAX];
    uint32_t paths_count;
    struct path *owner, *unflushed, *last;
    struct path *heir; /* is to be the owner, as soon as the present one has done and flushed its changes */
    struct exchange *parting; /* the FLUSH there, as long as it is not answered */
    int64_t parted;    /* to which process it was sent, once it is */
    int64_t leaves_ns; /* when that began; without an heir, before when it is not tried again */
    int64_t patience_ns; /* how long changes wait for it */
    int has_facts;
    uint8_t facts[SECTOR];
    uint64_t sectors;
    uint64_t news, changes, counters[AOE_CORE_COUNTERS];
    int chosen; /* there was an owner */
    uint64_t losses, losses_told;
    struct link open, held;
    uint32_t tag, first_tag, paths_made;
    uint32_t asked[ASKED_MAX], asked_count;
    int64_t seek_ns, seek_wait_ns, usable_ns;
    int64_t lost_ns; /* when the last owner was */
    struct strangers strangers;
    struct debts debts;
    int64_t seen_ns, stood_ns; /* when we were last told the time, and for how long we did not run in all */
    struct proof proof;

    struct ranges ranges;
    uint32_t pending;
    struct link done, requests;
    struct link messages; /* pieces that have data but no lock */
    struct link ready;    /* pieces whose range became their own */

    struct pool copies, exchanges, operations, pieces, refusals;
    struct effect *effects;
    size_t effects_first, effects_count, effects_room; /* what is to be seen to, one after the other */
    struct event *events;
    size_t events_first, events_count, events_room;
    aoe_out *out;
    uint32_t out_count, out_room;
    void **garbage; /* buffers that what is out may refer to */
    size_t garbage_count, garbage_room;
};

/* Whether its samples are to be compared with the owner's. */
static inline int path_samples(const struct path *path)
{
    return path->state == PATH_COMPARED || path->state == PATH_RETRIED;
}

/* ranges.c: the same rules as aoe/initiator/ranges.py */
void ranges_init(struct ranges *r);
void ranges_enter(struct ranges *r, struct range_lock *lock);
/* Give up a lock; followers that wait for nothing any more may go. */
void ranges_leave(struct range_lock *lock);
void lock_init(struct range_lock *lock, uint64_t first, uint64_t last); /* of what is zero */
void lock_end(struct range_lock *lock); /* it has left, or all ends */
int ranges_touched(struct ranges *r, uint64_t first, uint64_t last);

/* strangers.c: servers that there is no place for, as aoe/initiator/strangers.py has it. `raw`: what one said. */
uint32_t strangers_tag(const struct strangers *s, uint32_t port, const uint8_t *raw); /* of the question to it */
int strangers_may_ask(struct strangers *s, int64_t pulse_ns, int64_t now_ns);
void strangers_invite(struct strangers *s, uint32_t port, const uint8_t *raw);
int strangers_welcome(struct strangers *s, uint32_t port, const uint8_t *raw); /* whether it was invited */

#endif
