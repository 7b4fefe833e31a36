/* What an engine is made of. Each export belongs to one thread, which alone touches it. */
#ifndef AOE_STATE_H
#define AOE_STATE_H

#include <assert.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "abi.h"
#include "background.h"
#include "cut.h"
#include "delays.h"
#include "depth.h"
#include "device.h"
#include "order.h"
#include "parse.h"
#include "rates.h"
#include "shared/ring.h"
#include "sectors.h"
#include "streams.h"
#include "turns.h"
#include "work.h"

enum {
    BATCH = 64,           /* frames taken, and replies sent, at a time */
    OPS = 8192,           /* requests one thread has pending */
    OUTLET = 1024,        /* replies kept for a port whose socket has no room */
    PAGE = 4096,
    CACHE_LINE = 64,
    UP_BYTES = 4 << 20,   /* frames handed up and not yet taken */
};

_Static_assert(BATCH <= OUTLET, "a batch of replies fits what is kept for a port");
_Static_assert(PAGE >= ATA_HEADER, "a header fits before the payload");

#define NO_EXPORT UINT32_MAX
#define NO_THREAD UINT32_MAX

/* An export as published; only AOE_PASS is added to it later. */
struct view {
    int64_t number;
    int fd;
    uint32_t flags, block_sectors;
    uint64_t base, sectors, elsewhere;
    uint32_t trust, device, room;
    uint8_t instance[INSTANCE_BYTES]; /* as IDENTIFY has it */
    uint32_t masked, reserved;
    struct rates *rates; /* NULL: no limits */
    uint8_t macs[];
};

struct request_io {
    struct io io;
    struct op op;
};

/* What the cloner of a snapshot was asked for. */
enum { CLONER_FREE, CLONER_RESTS, CLONER_NEEDED };

struct cloner;

/* A snapshot that is being made. */
struct cutting {
    struct cut *cut;
    struct cloner *cloner;
    struct op *freed, **freed_tail; /* they may go, once some more ranges are cloned that others need */
    uint32_t batch, batch_max;      /* ranges of which these are, and how many they may be */
    uint64_t number, rest_ns, rest_max_ns;
    uint32_t stage, asked;
};

struct export {
    struct order order;
    struct device *device;
    struct streams streams;
    struct view *now;
    _Atomic(struct view *) next;
    uint32_t index;
    uint16_t shelf;
    uint8_t slot;
    uint8_t *map; /* of the whole store where it is instant */
    size_t map_length;
    int map_access;
    int watch, cut;
    struct turns ready, spare; /* may go, but all places are taken; the latter can wait for others, too */
    struct background background; /* whose can */
    struct rest rest; /* of those */
    struct depth depth;
    uint32_t at_disk, writing, spared; /* requests, and among them writes, and those that could wait */
    uint32_t passed;           /* others that went before the first of these */
    uint32_t sync_after;       /* so many writes are over first */
    struct op *unsynced, *syncing; /* written, and waiting for a sync that began after that (rule T6) */
    struct io sync;
    struct plug plugs[2]; /* of an image: IO_READ, IO_WRITE */
    struct cut *snapshot; /* which changes wait for it; NULL: none does */
    struct cutting *cutting;
    struct export *next_cut;
    uint64_t cut_number; /* Python's */
    _Atomic(struct cutting *) cut_next;
    _Atomic uint64_t cut_asked, cut_stage, cut_cloned;
    size_t up_used; /* bytes handed up and not yet taken */
    _Atomic int64_t published, settled;
    struct work work;
    uint8_t apart[CACHE_LINE]; /* the next one may be another thread's */
    /* The thread that alone touches it; NO_THREAD: free for another export. Last, as all threads look at it while
     * the rest is made anew. */
    _Atomic uint32_t owner;
};

/* A request as it is counted once it is answered; one without an export is not. */
struct answer {
    struct export *export;
    uint64_t stamp_ns;
    uint32_t bytes;
    enum kind kind;
};

struct reply {
    struct op *op;           /* whose buffer it uses */
    struct answer answer;
    struct export *mapped;   /* or whose map, from `offset` on; without a second part it is written there */
    uint64_t offset;
    uint8_t opcode;
    uint8_t head[64];
    struct iovec part[2];
};

struct outlet {
    uint32_t count, sent;
    uint32_t mapped, reads; /* replies that refer to a map, and those of them that have bytes there */
    int blocked;
    struct reply replies[OUTLET];
    struct mmsghdr messages[OUTLET];
};

_Static_assert(sizeof((struct reply){0}.head) >= FRAME_MIN, "the shortest frame is in the head");

/* Python attaches and detaches sockets; the thread, which alone uses one between that, says when it is done with it. */
enum { PORT_FREE, PORT_COMES, PORT_LEAVES, PORT_LEFT };

/* As its thread sees it. */
enum { PORT_CLOSED, PORT_OPEN, PORT_DRAINS };

struct port {
    _Atomic int stage; /* between Python and the thread */
    int open;
    uint32_t held; /* requests that came by it, and are not over */
    uint64_t ring_full; /* Python's: frames for which the ring had no room */
    struct ring ring;
    struct outlet out;
};

struct thread {
    aoe_engine *engine;
    uint32_t index;
    int event;
    int watch; /* inotify, of the files that are mapped */
    uint32_t *table; /* address -> export of this thread, open addressing */
    uint32_t ports_leave; /* of them, how many are to go */
    uint32_t leaving; /* exports that are to go, and still have requests */
    struct export *cuts; /* those of which snapshots are being made */
    int cpu;
    pthread_t id;
    struct port *ports;
    uint32_t ports_used; /* the others are closed */
    struct sectors *sectors;
    struct device *devices;
    uint32_t at_disk;
    struct request_io *ops;
    struct op *free_ops;
    struct delays delays;
    struct rest *resting; /* of exports where what can wait rests */
    uint8_t *buffers;
    uint64_t era;
    int64_t distance;
    int clock_known, suspect;
    uint64_t tickets;
    uint64_t now_ns, boot_ns;
    uint64_t spin_ns[2]; /* with nothing and with something at the disk */
    uint64_t swept_ns;
    int up_news;
    _Atomic uint32_t mail;
    _Atomic int left; /* its loop: it uses nothing any more */
    _Atomic uint32_t pending;
    _Atomic uint64_t counters[AOE_COUNTERS];
    _Atomic uint64_t began_ns, idle_ns, resting_ns; /* since when it rests; CLOCK_MONOTONIC, 0: it does not */
    uint8_t apart[CACHE_LINE];
};

struct aoe_engine {
    aoe_settings set;
    struct thread *threads;
    struct export *exports;
    uint32_t table_mask;
    _Atomic uint64_t *port_facts; /* MAC and sectors in one word */
    size_t buffer_size;
    int event, running, uring, left_behind;
    _Atomic int stopping, draining;
    sem_t started;
    int start_error;
    pthread_mutex_t up_lock;
    uint8_t *up;
    size_t up_head, up_used;
    struct crowd crowd;
    _Atomic uint32_t leeway; /* of what can wait */
};

static inline void count(struct thread *t, uint32_t what)
{
    if (what < AOE_COUNTERS)
        number_add(&t->counters[what], 1);
}

/* What is counted for the target and for an export. */
#define COUNT_BOTH(t, x, what) (count(t, AOE_##what), work_add(&(x)->work, AOE_EXPORT_##what, 1))

/* Python has something for it. */
static inline void thread_wake(struct thread *t)
{
    atomic_store(&t->mail, 1);
    eventfd_write(t->event, 1);
}

static inline void view_free(struct view *v)
{
    if (v)
        free(v->rates);
    free(v);
}

static inline uint64_t frame_age_ns(const aoe_engine *e)
{
    return __atomic_load_n(&e->set.frame_age_ns, __ATOMIC_RELAXED);
}

#endif
