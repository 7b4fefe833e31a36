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
    AOE_REMOTE = 32, /* another program serves the store (FUSE, NFS): calls may block, RWF_DSYNC may be ignored */
    AOE_GONE = 64,   /* it is to go: its address is free, and what was admitted comes to its end */
    AOE_FLUSHES_UP = 128, /* hand up each FLUSH: it may have to fail */
    AOE_IMAGE = 256, /* a process of ours serves the store; where that ends, the store has not failed */
};

typedef struct aoe_engine aoe_engine;

typedef struct {
    uint32_t threads;
    uint32_t ports;        /* at most, at a time */
    uint32_t exports;      /* at most, at a time */
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

/* A stream of an initiator (order rule T9) as one life of a target leaves it to the next. `seen` are the tags of the
 * window that ends with `newest`, by tag modulo the window. */
typedef struct {
    uint8_t mac[6];
    uint16_t number;
    uint8_t epoch, forged;
    uint32_t newest;
    uint64_t seen[16];
} aoe_stream;

/* A second, of an export and of each of its hosts; 0: no limit. */
typedef struct {
    uint64_t iops, bandwidth, client_iops, client_bandwidth, burst_ns;
} aoe_limits;

typedef struct {
    int32_t fd;
    uint16_t shelf;
    uint8_t slot;
    uint16_t flags;
    uint32_t block; /* bytes */
    uint64_t base;  /* bytes */
    uint64_t sectors;
    uint64_t instance;    /* the id that IDENTIFY tells (order rule T4) */
    uint32_t trust;       /* how often the disk was trusted again after a sync that failed (order rule T6) */
    uint32_t device;      /* number of the disk beneath, less than the number of exports */
    uint32_t room;        /* requests that may be there at a time before more of them could keep us waiting */
    uint64_t elsewhere;   /* bit n: it is not served on port n */
    uint32_t masked;      /* how many MACs are served; 0: all */
    uint32_t reserved;    /* how many MACs may do I/O; 0: all */
    const uint8_t *macs;  /* 6 bytes each, the masked ones first */
    const aoe_stream *streams; /* of a new export: with which it goes on, and how many (STREAMS_MAX at most) */
    uint32_t streams_count;
    aoe_limits limits;
} aoe_export;

typedef struct {
    uint64_t stamp_ns;
    uint64_t ticket; /* 0: the frame holds no place in an order */
    uint32_t port;
    uint32_t export_index;
    int32_t error; /* errno of the disk where the engine tried and failed, negative for a sync, else 0 */
    uint32_t registered; /* an IDENTIFY that names its stream (order rule T9): 0 it is not known, 1 it is, 2 and the
                            last one of its host was ended by another host */
    uint32_t length;
} aoe_up;

/* Make an engine; nothing runs yet. */
int aoe_engine_open(aoe_engine **engine, const aoe_settings *settings);

/* Give a packet socket that is not bound yet the ring that aoe_engine_attach maps. */
int aoe_engine_make_ring(const aoe_engine *engine, int socket);

/* Give a thread its packet socket on a port that has none; the engine makes its filter. It has a ring, which maybe
 * `was_used` by another engine with the same frame_max and ring_frames that is gone. Python keeps the descriptor, and
 * binds it again when the interface comes back. While threads run, aoe_engine_filter follows. */
int aoe_engine_attach(aoe_engine *engine, uint32_t thread, uint32_t port, int socket, int was_used);

/* Take nothing more from the sockets of a port. Once what came there is answered, of which the event descriptor tells,
 * this says 1, the port has none any more, and Python may close them; 0 before that. */
void aoe_engine_detach(aoe_engine *engine, uint32_t port);
int aoe_engine_detached(aoe_engine *engine, uint32_t port);

/* Start the threads. `cpus` pins thread i to cpus[i] where that is not negative. */
int aoe_engine_start(aoe_engine *engine, const int *cpus);

/* Publish a port or an export as it is from now on; the export's number comes back. An index at which nothing is takes
 * a new export; one that was published as AOE_GONE is such an index again once it has settled. */
int aoe_engine_set_port(aoe_engine *engine, uint32_t port, const aoe_port *now);
int64_t aoe_engine_set_export(aoe_engine *engine, uint32_t export_index, const aoe_export *now);

/* Let the kernel pass the requests of the exports that there are, and no others: once a new one is published, and when
 * one is gone. */
int aoe_engine_filter(aoe_engine *engine);

/* From now on drop changes that waited longer (order rule T3). */
void aoe_engine_set_age(aoe_engine *engine, uint64_t frame_age_ns);

/* The highest number of an export before which everything admitted is complete (order rule T5). The
 * event descriptor tells when it may have risen. */
int64_t aoe_engine_settled(aoe_engine *engine, uint32_t export_index);

/* The name is the MAC, its first byte the lowest, and a 1 behind it. */
typedef struct {
    uint64_t name, numbers[AOE_CLIENT_NUMBERS];
} aoe_client;

/* The numbers of an export, AOE_EXPORT_NUMBERS by aoe/metrics/table.py; of its clients (room for CLIENTS_MAX), and how many
 * there are; and of all others together, AOE_CLIENT_NUMBERS. No thread is asked for them. */
uint32_t aoe_engine_numbers(aoe_engine *engine, uint32_t export_index, uint64_t *numbers, aoe_client *clients,
                            uint64_t *other);
/* Of a thread, AOE_THREAD_NUMBERS. */
void aoe_engine_thread(aoe_engine *engine, uint32_t thread, uint64_t *numbers);

/* The descriptor to wait for, and the next frame that came up: 1, 0 where there is none. */
int aoe_engine_event(aoe_engine *engine);
int aoe_engine_take(aoe_engine *engine, aoe_up *up, uint8_t *frame, uint32_t room);

/* Python is done with this ticket of the export. */
int aoe_engine_release(aoe_engine *engine, uint32_t export_index, uint64_t ticket);

/* A snapshot of an export (aoe/target/cut.py). It BEGINS: changes that have not begun are held. It HOLDS: those that had
 * are over, and this is its moment. Python lets it GO: a change goes on when what it touches is cloned, the rest is
 * cloned meanwhile. At last it is WHOLE, or it has FAILED, and nothing waits for it. Python ENDS it at any time. */
enum {
    AOE_CUT_NONE = 0,
    AOE_CUT_BEGINS = 1,
    AOE_CUT_HOLDS = 2,
    AOE_CUT_GOES = 3,
    AOE_CUT_WHOLE = 4,
    AOE_CUT_FAILED = 5,
    AOE_CUT_ENDS = 6,
};

typedef struct {
    int32_t of, into;      /* descriptors of both files; they are copied */
    uint64_t length, step; /* bytes, and those of a range */
    uint64_t rest_max_ns;  /* what nothing waits for is cloned with rests as long as the work, and no longer */
    uint32_t batch;        /* ranges that are needed and cloned before changes go on */
} aoe_cut;

typedef struct {
    uint32_t stage, error; /* errno of one that has FAILED */
    uint64_t cloned;       /* ranges */
} aoe_cut_state;

/* Begin one; its number, or a negative errno. There is one of an export: the last one is to have ended. Ask that it GOES
 * or ENDS. And how it is; the event descriptor tells when its stage may have changed. */
int64_t aoe_engine_cut(aoe_engine *engine, uint32_t export_index, const aoe_cut *cut);
void aoe_engine_cut_ask(aoe_engine *engine, uint32_t export_index, int64_t number, uint32_t what);
void aoe_engine_cut_look(aoe_engine *engine, uint32_t export_index, int64_t number, aoe_cut_state *state);

/* Take no more frames; how many requests are still pending. Asked again, the same. And take them again. */
int64_t aoe_engine_drain(aoe_engine *engine);
void aoe_engine_resume(aoe_engine *engine);

/* Sum of all threads, AOE_COUNTERS numbers; and 1 where io_uring is in use, else 0. */
void aoe_engine_count(aoe_engine *engine, uint64_t *counters);
int aoe_engine_uses_uring(aoe_engine *engine);

/* Stop the threads: 1, or 0 if requests at a disk that hangs are left behind. After that, the streams of an export
 * (room for STREAMS_MAX): how many there are. */
int aoe_engine_stop(aoe_engine *engine);
uint32_t aoe_engine_streams(aoe_engine *engine, uint32_t export_index, aoe_stream *streams);

/* Stop them and free everything that nothing uses any more. */
void aoe_engine_close(aoe_engine *engine);

/* The initiator's arithmetic: aoe/initiator/core.py in C, held to it frame by frame by a differential test.
 * Frames and clock readings (CLOCK_BOOTTIME, nanoseconds) go in; what is to be sent and what has ended is
 * taken out. It does no I/O and belongs to one thread at a time. */

typedef struct aoe_core aoe_core;

/* Changes that went to a server by a port: aoe/initiator/debts.py says what the next life does about them. */
typedef struct {
    uint64_t instance;
    int64_t until_ns, quiesce_ns;
    uint32_t port, tag;
    uint16_t shelf, stream;
    uint8_t slot, epoch;
    uint8_t own[6], mac[6];
    uint8_t cached; /* not 0: not that, but that a volatile cache there has changes that no FLUSH vouches for */
} aoe_debt;

typedef struct {
    uint32_t ports;
    uint32_t addresses;
    const uint32_t *address; /* shelf << 8 | slot, the preferred one first */
    uint32_t first_tag;
    uint32_t spread;         /* not 0: reads go over all paths */
    uint32_t hold;           /* not 0: ranges of unknown fate stay closed until the server answers */
    uint32_t require;        /* not 0: only a proved server takes over */
    uint32_t background;     /* not 0: what is asked for can wait while others ask the same server */
    int64_t failback_ns;     /* negative: never */
    aoe_timing timing;       /* AOE_TIMING, but for tests */
    const aoe_debt *debt;    /* of an earlier life, of those ports; at most DEBTS_MAX */
    uint32_t debts;
    int64_t since_ns;        /* when that was dead */
} aoe_core_settings;

typedef struct {
    uint8_t mac[6];
    uint16_t sectors; /* most that fit a frame */
    uint32_t window;  /* frames that the receive buffer holds */
    uint32_t up;
} aoe_core_port;

typedef struct {
    uint32_t number, port, state, reason, owner, unsettled, proved;
    uint32_t sectors, sectors_max, narrow; /* what passes in one request, what both ends take, and why that is more */
    uint32_t renewed; /* how often it was told of another stream as the last was not heeded (order rule T9) */
    uint32_t draining; /* not 0: its server is to be left */
    uint32_t copy;     /* not 0: it is proved as a copy of one image */
    uint64_t lba;     /* where it was seen that it has another disk */
    uint16_t shelf;
    uint8_t slot;
    uint8_t mac[6];
    int64_t rtt_ns;
} aoe_path;

typedef struct {
    uint64_t user;          /* the caller's */
    uint64_t offset, length; /* bytes */
    uint8_t *data;          /* what was read, or is written; the caller's, unless it gave none */
    uint64_t data_length;
    uint64_t lba;           /* where it failed */
    uint32_t verb, outcome, status, error;
} aoe_request;

typedef struct {
    uint32_t port, head_length, data_length, tail_length;
    const uint8_t *data; /* follows the head, and the tail that */
    uint8_t head[60], tail[12];
} aoe_out;

/* What a disk is, as its paths have said it. */
typedef struct {
    uint64_t size;           /* bytes */
    uint32_t physical_block; /* bytes */
    uint32_t trims, zeroes;  /* not 0: it has TRIM, and what was trimmed reads as zeroes */
    uint8_t serial[20];
} aoe_disk;

/* NULL where memory is short. What cannot be had later ends the core: it sends nothing any more, and all requests end with
 * AOE_ENDED_NO_MEMORY; a request that is too large for the memory there is ends so alone. */
aoe_core *aoe_core_open(const aoe_core_settings *settings);
void aoe_core_close(aoe_core *core);

/* It is now_ns, as every call says; how much of that time we ran, by which waiting is measured:
 * there is a tick each 100 ms at least, and where two calls are 500 ms apart nothing of ours ran. */
int64_t aoe_core_own_time(aoe_core *core, int64_t now_ns);

void aoe_core_set_port(aoe_core *core, uint32_t port, const aoe_core_port *now, int64_t now_ns);
void aoe_core_receive(aoe_core *core, uint32_t port, const uint8_t *frame, uint32_t length, int64_t now_ns);
void aoe_core_tick(aoe_core *core, int64_t now_ns);

/* Begin a request. `data` is what is written, and stays as it is until the request has ended and what is out was
 * sent; for a read it is where to, or NULL. AOE_ASK_SERVER: `offset` is the command, `length` the least reply,
 * `data` of `data_length` bytes the message, `path` whom to ask. NULL where there is no memory even for the request. */
aoe_request *aoe_core_start(aoe_core *core, uint32_t verb, uint64_t offset, uint64_t length, uint8_t *data,
                            uint64_t data_length, uint32_t number, uint64_t user, int64_t now_ns);
/* No thread waits any more; the request is gone. Only for one that aoe_core_done did not give yet. */
void aoe_core_abandon(aoe_core *core, aoe_request *request, int64_t now_ns);
/* The next request that has ended, or NULL; and done with it. What is out is sent before this is asked. */
aoe_request *aoe_core_done(aoe_core *core);
void aoe_core_free(aoe_core *core, aoe_request *request);

/* What is to be sent; aoe_core_sent says that it was. */
uint32_t aoe_core_out(aoe_core *core, aoe_out **out);
void aoe_core_sent(aoe_core *core);

int aoe_core_switch(aoe_core *core, uint32_t number, int64_t now_ns);
void aoe_core_fenced(aoe_core *core, uint32_t number, int64_t now_ns);

/* How soon a tick is wanted; what rises with every change of a path or the disk; whether a path was chosen; 1 and the
 * 512 bytes of IDENTIFY if there are any; the paths; AOE_CORE_COUNTERS numbers. */
int64_t aoe_core_pulse(const aoe_core *core);
uint64_t aoe_core_news(const aoe_core *core);
int aoe_core_chosen(const aoe_core *core);
int aoe_core_comparing(const aoe_core *core); /* whether samples of a server are compared with the owner's */
int aoe_core_identity(const aoe_core *core, uint8_t *data);
/* The same in numbers, for a caller that has no use for the rest: 1, or 0 where nothing is known. */
int aoe_core_disk(const aoe_core *core, aoe_disk *disk);
uint32_t aoe_core_paths(const aoe_core *core, aoe_path *paths, uint32_t room);
void aoe_core_count(const aoe_core *core, uint64_t *counters);
/* What the next life is to know before what is out is sent: at most DEBTS_MAX, and what rises with each change of it. How
 * much of what an earlier life had under way is not over: until then no path is chosen. */
uint32_t aoe_core_debts(const aoe_core *core, aoe_debt *debts);
uint64_t aoe_core_debts_news(const aoe_core *core);
uint32_t aoe_core_left(const aoe_core *core);
/* What it had under way at the server with this MAC and address (shelf << 8 | slot), or at any (NULL), is over. */
void aoe_core_left_is_over(aoe_core *core, const uint8_t *mac, uint32_t address, int64_t now_ns);
/* What was made since then had left only by until_ns, as the process was held up between. */
void aoe_core_late(aoe_core *core, int64_t since_ns, int64_t until_ns);

/* The initiator's I/O: a core, and the sockets of its ports. It belongs to one thread at a time, too. It watches
 * its interfaces, and survives that they go down, away and come back. */

typedef struct aoe_remote aoe_remote;

typedef struct {
    uint32_t host; /* IPv4, network order */
    uint16_t port; /* network order */
} aoe_peer;

typedef struct {
    const char *interface; /* Ethernet; NULL: datagrams */
    int socket;            /* for datagrams: bound, non-blocking; the caller's */
    uint32_t mtu;          /* for datagrams */
    uint8_t mac[6];        /* for datagrams */
    uint32_t peers;        /* for datagrams: where each frame goes, and whose are taken; 0: any sender's */
    const aoe_peer *peer;
} aoe_remote_port;

/* Negative errno. `core` is closed with it. */
int aoe_remote_open(aoe_remote **remote, aoe_core *core, const aoe_core_settings *settings, const aoe_remote_port *ports);
void aoe_remote_close(aoe_remote *remote);

/* Readable when aoe_remote_pump has something to do: take what came, tick, send what is out. aoe_remote_send does
 * only the last; aoe_remote_wait waits for so long, the first `spin_us` of it busily, and another thread may send
 * meanwhile. */
int aoe_remote_fd(aoe_remote *remote);
void aoe_remote_pump(aoe_remote *remote);
void aoe_remote_send(aoe_remote *remote);
void aoe_remote_wait(aoe_remote *remote, int timeout_ms, uint32_t spin_us);
int64_t aoe_remote_now(void); /* CLOCK_BOOTTIME */
/* `keep` is called before frames are sent, with 1, and after that, with 0: what the next life has to know is kept. */
void aoe_remote_keep(aoe_remote *remote, void (*keep)(const aoe_core *core, int sending));
/* Frames that could not be sent, and that did not fit or were for others. */
void aoe_remote_lost(const aoe_remote *remote, uint64_t *unsent, uint64_t *unfit);
void aoe_remote_mac(const aoe_remote *remote, uint32_t port, uint8_t *mac);
/* Of the interface, which is followed when it is renamed; empty for datagrams. */
const char *aoe_remote_name(const aoe_remote *remote, uint32_t port);

/* A load, in fio's words; it goes on where it stopped. */
enum { AOE_LOAD_ASKS, AOE_LOAD_WAITS, AOE_LOAD_ENDS };

typedef struct {
    uint32_t random, write_percent, depth;
    uint64_t block, range, position, seed; /* bytes */
    const uint8_t *data;                   /* what is written: `block` bytes */
    uint64_t done, errors;
    uint64_t histogram[AOE_LOAD_BUCKETS];  /* of nanoseconds: 32 steps for each power of two */
} aoe_load;

/* For so long put it on a disk (ASKS), or wait for what is outstanding (WAITS); or give that up, as errors (ENDS). Other
 * requests of the same disk may end meanwhile and wait for aoe_core_done, which is not asked between two slices. How
 * many requests are outstanding; -EINVAL for a load that cannot be, -EBUSY while another one is outstanding, -ENOMEM. */
int aoe_remote_load(aoe_remote *remote, aoe_load *load, int64_t for_ns, int phase);
