/* The whole border between Python and the engine. Plain declarations: C includes this page, cffi reads it.
 *
 * The engine's threads own the packet sockets' rings. They serve READ, WRITE and FLUSH that pass the gate
 * against the exports as last published, drop what may only be dropped, and hand every other frame up.
 * C never calls Python: Python waits for the event descriptor, takes what came up, and answers through a
 * socket of its own. A frame that touches data keeps its place in its export's order until it is released.
 *
 * Errors are negative errno values. Numbers in frames stay in network order; here they are the host's.
 */

enum {
    AOE_READ_ONLY = 1,
    AOE_DURABLE = 2, /* a write reply means stable storage */
    AOE_DIRECT = 4,  /* the descriptor was opened O_DIRECT */
    AOE_INSTANT = 8, /* the store is memory: no access ever waits */
    AOE_PASS = 16,   /* the disk has failed: hand up whatever changes or syncs */
    AOE_REMOTE = 32, /* somebody else serves the store (FUSE, NFS): calls may block, RWF_DSYNC may be ignored */
};

enum {
    AOE_READS,
    AOE_WRITES,
    AOE_FLUSHES,
    AOE_HANDED_UP,
    AOE_MASKED,
    AOE_EXPIRED,
    AOE_OTHER_ADDRESS,
    AOE_FOREIGN_DESTINATION,
    AOE_GROUP_SOURCE,
    AOE_OTHER_HOST,
    AOE_QUEUE_FULL,
    AOE_RING_FULL,
    AOE_SEND_LOST,
    AOE_DISK_ERRORS,
    AOE_CLOCK_STEPPED,
    AOE_COUNTERS,
};

typedef struct aoe_engine aoe_engine;

typedef struct {
    uint32_t threads;
    uint32_t ports;
    uint32_t exports;
    uint32_t frame_max;    /* bytes of the largest frame served, Ethernet header included */
    uint32_t ring_frames;  /* of each socket */
    uint32_t spin_us;      /* longest busy wait before sleeping; 0: none */
    uint32_t queue_max;    /* requests pending on one export */
    uint32_t places;       /* requests of one export at the disk at a time */
    uint64_t frame_age_ns; /* order rule T3 */
    uint32_t plain_io;     /* not 0: do not use io_uring */
} aoe_settings;

typedef struct {
    uint8_t mac[6];
    uint16_t sectors; /* most a request may carry; 0: nothing is served here */
} aoe_port;

typedef struct {
    int32_t fd;
    uint16_t shelf;
    uint8_t slot;
    uint8_t flags;
    uint32_t block; /* bytes */
    uint64_t base;  /* bytes */
    uint64_t sectors;
    uint32_t masked;      /* how many MACs are served; 0: all */
    uint32_t reserved;    /* how many MACs may do I/O; 0: all */
    const uint8_t *macs;  /* 6 bytes each, the masked ones first */
} aoe_export;

typedef struct {
    uint64_t stamp_ns;
    uint64_t ticket; /* 0: the frame holds no place in an order */
    uint32_t port;
    uint32_t export_index;
    int32_t error; /* errno of the disk where the engine tried and failed, negative for a sync, else 0 */
    uint32_t length;
} aoe_up;

/* Make an engine; nothing runs yet. */
int aoe_engine_open(aoe_engine **engine, const aoe_settings *settings);

/* Give a thread its packet socket on a port; the engine makes its ring and filter. Python keeps the
 * descriptor, and binds it again when the interface comes back. */
int aoe_engine_attach(aoe_engine *engine, uint32_t thread, uint32_t port, int socket);

/* Start the threads. `cpus` pins thread i to cpus[i] where that is not negative. */
int aoe_engine_start(aoe_engine *engine, const int *cpus);

/* Publish a port or an export as it is from now on; the export's number comes back. */
int aoe_engine_set_port(aoe_engine *engine, uint32_t port, const aoe_port *now);
int64_t aoe_engine_set_export(aoe_engine *engine, uint32_t export_index, const aoe_export *now);

/* The highest number of an export before which everything admitted is complete (order rule T5). The
 * event descriptor tells when it may have risen. */
int64_t aoe_engine_settled(aoe_engine *engine, uint32_t export_index);

/* The descriptor to wait for, and the next frame that came up: 1, 0 where there is none. */
int aoe_engine_event(aoe_engine *engine);
int aoe_engine_take(aoe_engine *engine, aoe_up *up, uint8_t *frame, uint32_t room);

/* Python is done with the export's tickets up to this one. */
int aoe_engine_release(aoe_engine *engine, uint32_t export_index, uint64_t ticket);

/* Take no more frames; how many requests are still pending. Asked again, the same. */
int64_t aoe_engine_drain(aoe_engine *engine);

/* Sum of all threads, AOE_COUNTERS numbers; and 1 where io_uring is in use, else 0. */
void aoe_engine_count(aoe_engine *engine, uint64_t *counters);
int aoe_engine_uses_uring(aoe_engine *engine);

/* Stop the threads and free everything. Requests at a disk that hangs are left behind. */
void aoe_engine_close(aoe_engine *engine);
