/* The loop's fuzzer in four parts: fuzz_loop.c reads the input as a script, world.c is all that the engine
 * meets (clocks, ring, sockets, disks; snapshots.c what clones), model.c knows what must be true of it. Everything runs in one thread. */
#ifndef AOE_FUZZ_H
#define AOE_FUZZ_H

#include "check.h"
#include "small.h"

#include "target/ports.h"
#include "target/table.h"
#include "target/thread.h"

enum { THREADS = 2, PORTS = 2, EXPORTS = 4, CLIENTS = 4, FACTS = 64, RECORDS = 2048 };
enum { TRIMS_MAX = 8 };
enum { ROOM = 3 }; /* of a device that exports 2n and 2n+1 share */
enum { IMAGE = 1, IMAGE_LIVES = 4 }; /* the export of an image, and the descriptors that it comes to have */
enum { FILE_SECTORS = 64, BASE_MAX = 8192, FRAME_MAX = FRAME_ROOM };

/* Memory that may not be touched for now, where the build can tell. */
#if defined(AOE_ASAN)
#include <sanitizer/asan_interface.h>
enum { CAN_URING = 1 };
#define FORBID(at, length) ASAN_POISON_MEMORY_REGION(at, length)
#define ALLOW(at, length) ASAN_UNPOISON_MEMORY_REGION(at, length)
#define ALLOW_BLANK(at, length) ALLOW(at, length)
#elif defined(AOE_VALGRIND)
#include <valgrind/memcheck.h>
enum { CAN_URING = 0 }; /* what it fills would count as never written */
#define FORBID(at, length) VALGRIND_MAKE_MEM_NOACCESS(at, length)
#define ALLOW(at, length) VALGRIND_MAKE_MEM_DEFINED(at, length)
#define ALLOW_BLANK(at, length) VALGRIND_MAKE_MEM_UNDEFINED(at, length)
#else
enum { CAN_URING = 1 };
#define FORBID(at, length) ((void)(at), (void)(length))
#define ALLOW(at, length) FORBID(at, length)
#define ALLOW_BLANK(at, length) FORBID(at, length)
#endif

/* An export's unchanging side, and what was published of it under one number. */
struct store {
    uint16_t shelf, flags;
    uint8_t slot;
    uint32_t block;
    uint64_t base;
};

struct facts {
    uint64_t sectors, instance;
    uint32_t trust, flags, masked, reserved, elsewhere;
    uint8_t macs[2 * CLIENTS][6];
    aoe_limits limits;
    uint32_t limited_since; /* the number of the publication from which on they are in force */
};

/* A range of a TRIM. */
struct extent {
    uint64_t lba, count;
};

/* What a request keeps from running beside it. */
enum scope { EVERYTHING, READS, CHANGES, FLUSHES };

enum outcome { O_NONE, O_REPLIED, O_UP };

/* A frame, from the ring to its end. Its number is its tag. */
struct record {
    union {
        uint8_t head[ATA_HEADER];
        struct wire wire;
    };
    uint32_t length;
    uint64_t stamp_ns;
    uint32_t thread, port;
    uint32_t steps;    /* of the clock that its thread knew of when it came in */
    uint32_t arrival;  /* place in the order of being served; 0: not yet */
    int export;        /* -1: none */
    enum kind kind;    /* K_UP: anything else */
    uint64_t lba;
    uint32_t count;
    enum scope scope;
    struct extent trims[TRIMS_MAX]; /* the first of them */
    uint32_t trims_count;
    uint64_t trim_first, trim_last; /* from the first sector of any to the last */
    int64_t view;      /* number of the publication it came under */
    int may_serve;     /* the engine may answer it */
    int ours;          /* it has a tag and a trailer of our initiator's (rule T9) */
    uint64_t named;    /* for which life of its export */
    int names_us;      /* and that was the present one when it came in */
    int stale;         /* of a stream or an epoch that was over when it came in */
    int durable;       /* a write reply means stable storage */
    enum outcome outcome;
    int by_python;     /* ends in Python, and so does its durability */
    int in_memory;     /* written there at once: nothing is more stable than its store */
    uint32_t limited;  /* the publication since which limits are in force that it came under; 0: none is */
    int begun;         /* it was let pass by them */
    int lost;          /* a sync that covered it failed */
    uint64_t done_at;  /* tick at which the engine learned that it is written */
    uint32_t life;     /* by which descriptor */
};

extern const struct store stores[EXPORTS];
extern int store_fd[EXPORTS];
extern int image_fd[IMAGE_LIVES]; /* the first is its store_fd */

/* fuzz_loop.c */
extern aoe_engine *engine;
void python_at_once(void); /* Python runs beside the engine: it may take a frame as soon as that is there */

/* world.c */
enum send_mode { SEND_ALL, SEND_AGAIN, SEND_NO_BUFFERS, SEND_FAULT, SEND_DOWN, SEND_INTERRUPTED, SEND_SOME, SEND_MODES };
enum disk_fault { D_GOOD, D_ERROR, D_SHORT, D_NO_SPACE, D_ERROR_AFTER, D_NOTHING, D_INTERRUPTED, D_ENDED, D_FAULTS };

void world_reset(void);
void world_close(void);
void world_tick(int64_t real_ns, int64_t boot_ns);
uint64_t world_now(void);
uint64_t world_boot_ns(void);
uint32_t world_steps(uint32_t thread); /* clock steps that the thread has noticed */
uint32_t world_thread(void);           /* the one whose pass runs */
void world_pass(uint32_t thread);
int world_ring_fd(uint32_t thread, uint32_t port);
void world_frame(uint32_t tag, const uint8_t *frame, uint32_t length, int for_us);
int world_rings_empty(void);
int world_shut(uint32_t port); /* no frame comes by it */
void world_socket(uint32_t thread, uint32_t port, enum send_mode mode, uint32_t calls, uint32_t most);
void world_disk(int at_once, int early);
void world_disk_done(uint32_t number, int last_first, enum disk_fault fault);
void world_disk_wait(void);
int world_disk_idle(void);
void world_memory(uint8_t faults);     /* of the calls that do not wait: two bits each for cached read, write, copy, one for maps */
void world_fail_start(uint32_t number); /* the next requests go to a descriptor that is closed */
uint64_t world_stamp_of_next(uint32_t thread, uint32_t port);

/* snapshots.c */
void snapshots_reset(void);
void snapshots_do(uint8_t how); /* of which export what */
void snapshots_look(int export);
void snapshots_go_on(void); /* towards their end */
int snapshots_over(void);

/* model.c */
void model_reset(void);
uint32_t model_frame(uint8_t *frame, uint32_t length, uint32_t thread, uint32_t port, uint64_t stamp_ns);
struct record *model_record(const uint8_t *header);
struct record *model_tagged(uint32_t tag);
void model_port(uint32_t port, const aoe_port *now);
void model_published(int export, int64_t number, const struct facts *facts);
void model_trusts(int export); /* again, by a word of the operator */
int model_comes(int export); /* again, after it was gone; 1 if a sync had failed there */
void model_pattern(uint8_t *sector, uint32_t tag, uint64_t lba);
void model_starts(struct record *r, const struct thread *t, enum action action);
void model_spares(const struct op *op, const struct thread *t); /* it goes to the disk; what can wait lets others go first */
void model_written(struct record *r, uint64_t lba, uint32_t sectors);
void model_read(const struct record *r);
void model_sync(int export, uint32_t life, uint64_t started, int good);
void model_reply(uint32_t thread, uint32_t port, const uint8_t *reply, uint32_t length);
void model_took(const aoe_up *up, const uint8_t *frame);
void model_looked(const struct record *r, const uint8_t *data);
uint64_t model_clock(void);
void model_clock_stepped(uint32_t thread, uint64_t now_ns);
void model_lost(void);     /* a frame in a ring that was closed */
void model_clogged(int fits);
void model_final(void);

#endif
