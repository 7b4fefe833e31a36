/* Made of the Python modules named below by `python -m csrc.generate`: change those. */
#ifndef AOE_GENERATED_H
#define AOE_GENERATED_H

#include <stdint.h>

/* aoe.wire.protocol */
#define SECTOR 512
#define ETHERNET_HEADER 14
#define FRAME_MIN 60
#define AOE_HEADER 24
#define ATA_HEADER 36
#define CONFIG_HEADER 32
#define CONFIG_STRING_MAX 1024
#define STAMP_TRAILER 12
#define STAMPED_SECTORS_MIN 2
#define MTU_MIN 534
#define SECTORS_PER_FRAME_MAX 255
#define SHELF_MAX 65534
#define SHELF_ALL 65535
#define SLOT_MAX 254
#define SLOT_ALL 255
#define LBA28_SECTORS 268435455
#define LBA48_SECTORS 281474976710656ll
#define RANGE_SECTORS_MAX 65535
#define CONFIG_STRING_MAX 1024
#define USER_TAG 2147483648u
#define TAG_MASK 2147483647

/* aoe.limits */
#define BUCKET_SECTORS 256
#define BUCKETS_MAX 2
#define SPANS_MAX 4
#ifndef STREAMS_MAX
#define STREAMS_MAX 256
#endif
#define REPLAY_WINDOW 1024
#define LIMITED_HOSTS_MAX 64
#define CLIENTS_MAX 64
#define CLIENTS_IN_ALL_MAX 1024
#define BACKGROUND_MAX 8
#define CLIENT_TAGS 16
#define DEPTH_FIRST 8
#define DEPTH_SAMPLES_MIN 32
#define DEPTH_PAUSE_MIN 32
#define DEPTH_PAUSE_MAX 256
#define LATENCY_BUCKETS 12
#define LATENCY_FIRST_BITS 13
#define LATENCY_STEP_BITS 2
#define RECEIVE_BUFFER 16777216
#define SEND_BUFFER 4194304
#define RING_BUFFER 4194304
#define RING_FRAMES_MIN 64
#define SPIN_US 50
#define FRAME_ROOM 9014
#define UDP_MTU_DEFAULT 1500
#define UDP_MTU_MAX 65493
#define LOAD_DEPTH_MAX 4096
#define SECTORS_SURE 2
#define SIZE_LOSSES 3
#define SIZE_PROBES_MAX 16
#define PROBES_FORGIVEN 3
#define PATIENCE_MAX 16
#define COPIES_MAX 32
#define WINDOW_FIRST 8
#define WINDOW_MIN 2
#define STUCK_TRIES 4
#ifndef SAMPLE_END_SECTORS
#define SAMPLE_END_SECTORS 2048
#endif
#ifndef SAMPLE_BLOCKS
#define SAMPLE_BLOCKS 16
#endif
#define SAMPLE_BLOCK_SECTORS 8
#define SAMPLES_AT_ONCE 8
#define SAMPLE_TRIES 3
#define ECHOES_MAX 8
#define ASKED_MAX 64
#define UNSETTLED_MAX 65536
#ifndef PATHS_MAX
#define PATHS_MAX 32
#endif
#define DEBTS_MAX 64
#define DEBT_TAGS 65536
#define STRANGERS_MAX 1024
#define INVITED_MAX 8
#define REQUESTS_MAX 65536

/* aoe.timing */
#define NETWORK_LIFETIME_NS 1000000000ll
#define LIMIT_DELAY_NS 250000000ll
#define CLOCK_STEP_NS 100000000ll
#define DEVICE_SILENCE_NS 20000000ll
#define NEVER_NS 4611686018427387904ll
#define CLIENT_HEARD_NS 60000000000ll
#define CLIENTS_SWEPT_NS 1000000000ll
#define SHARED_NS 5000000000ll
#define FENCE_AGAIN_NS 1000000000ll
#define COMPARE_NS 2000000000ll
#define BACKGROUND_REST_MAX_NS 20000000ll

/* aoe.timing.Timing */
typedef struct {
    int64_t query_first_ns;
    int64_t query_max_ns;
    int64_t query_idle_ns;
    int64_t settle_in_ns;
    int64_t rto_first_ns;
    int64_t rto_min_ns;
    int64_t rto_max_ns;
    int64_t rto_calm_ns;
    int64_t sweep_ns;
    int64_t drain_ns;
    int64_t debt_ns;
    int64_t stream_again_ns;
    int64_t network_lifetime_ns;
    int64_t completion_ns;
    int64_t foreign_age_ns;
    int64_t silence_ns;
    int64_t probe_ns;
    int64_t dead_ns;
    int64_t slow_ns;
    int64_t recheck_ns;
    int64_t standby_ns;
    int64_t proof_ns;
    int64_t proof_again_ns;
    int64_t condemned_ns;
    int64_t handover_ns;
    int64_t handover_max_ns;
    int64_t handover_again_ns;
    int64_t pulse_ns;
    int64_t gap_ns;
    int64_t size_wait_ns;
    int64_t size_wait_max_ns;
    int64_t size_again_ns;
} aoe_timing;
#define AOE_TIMING { \
    .query_first_ns = 50000000ll, \
    .query_max_ns = 1000000000ll, \
    .query_idle_ns = 10000000000ll, \
    .settle_in_ns = 50000000ll, \
    .rto_first_ns = 100000000ll, \
    .rto_min_ns = 5000000ll, \
    .rto_max_ns = 2000000000ll, \
    .rto_calm_ns = 40000000ll, \
    .sweep_ns = 50000000ll, \
    .drain_ns = 20000000ll, \
    .debt_ns = 100000000ll, \
    .stream_again_ns = 3000000000ll, \
    .network_lifetime_ns = 1000000000ll, \
    .completion_ns = 1000000000ll, \
    .foreign_age_ns = 10000000000ll, \
    .silence_ns = 1000000000ll, \
    .probe_ns = 250000000ll, \
    .dead_ns = 1000000000ll, \
    .slow_ns = 10000000000ll, \
    .recheck_ns = 1000000000ll, \
    .standby_ns = 10000000000ll, \
    .proof_ns = 100000000ll, \
    .proof_again_ns = 10000000ll, \
    .condemned_ns = 60000000000ll, \
    .handover_ns = 25000000ll, \
    .handover_max_ns = 1000000000ll, \
    .handover_again_ns = 1000000000ll, \
    .pulse_ns = 100000000ll, \
    .gap_ns = 500000000ll, \
    .size_wait_ns = 50000000ll, \
    .size_wait_max_ns = 1000000000ll, \
    .size_again_ns = 60000000000ll, \
}

/* aoe.metrics.table, target */
enum {
    AOE_ENGINE_READS = 0, AOE_ENGINE_WRITES = 1, AOE_ENGINE_FLUSHES = 2,
    AOE_ENGINE_HANDED_UP = 3, AOE_ENGINE_DISK_ERRORS = 4, AOE_ENGINE_CLOCK_STEPPED = 5,
    AOE_SEND_LOST = 6, AOE_MASKED = 7, AOE_EXPIRED = 8,
    AOE_STALE = 9, AOE_LIMITED = 10, AOE_QUEUE_FULL = 11,
    AOE_RING_FULL = 12, AOE_OTHER_ADDRESS = 13, AOE_OTHER_HOST = 14,
    AOE_FOREIGN_DESTINATION = 15, AOE_GROUP_SOURCE = 16, AOE_COUNTERS = 17,
};

/* aoe.metrics.table, export */
enum {
    AOE_EXPORT_READS = 0, AOE_EXPORT_WRITES = 1, AOE_EXPORT_FLUSHES = 2,
    AOE_EXPORT_TRIMS = 3, AOE_EXPORT_VERIFIES = 4, AOE_EXPORT_CACHE_ON = 5,
    AOE_EXPORT_CACHE_OFF = 6, AOE_EXPORT_IDENTIFY = 7, AOE_EXPORT_NO_DATA_COMMANDS = 8,
    AOE_EXPORT_QUERIES = 9, AOE_EXPORT_CHANGES = 10, AOE_EXPORT_REFUSED_ATA = 11,
    AOE_EXPORT_REFUSED_ADMIN = 12, AOE_EXPORT_DISK_ERRORS = 13, AOE_EXPORT_STATE_NOT_SAVED = 14,
    AOE_EXPORT_ADDRESS_CLAIMED = 15, AOE_EXPORT_SEND_LOST = 16, AOE_EXPORT_RESERVED = 17,
    AOE_EXPORT_BAD_VERSION = 18, AOE_EXPORT_UNKNOWN_COMMAND = 19, AOE_EXPORT_MASKED = 20,
    AOE_EXPORT_EXPIRED = 21, AOE_EXPORT_STALE = 22, AOE_EXPORT_LIMITED = 23,
    AOE_EXPORT_QUEUE_FULL = 24, AOE_EXPORT_NO_THREAD = 25, AOE_EXPORT_CONFIG_MISMATCH = 26,
    AOE_EXPORT_WILDCARD = 27, AOE_EXPORT_TRUNCATED = 28, AOE_EXPORT_LYING_LENGTH = 29,
    AOE_EXPORT_MTU_TOO_SMALL = 30, AOE_EXPORT_REPLY_TOO_LONG = 31, AOE_EXPORT_READ_BYTES = 32,
    AOE_EXPORT_WRITTEN_BYTES = 33, AOE_EXPORT_REPLY = 34, AOE_EXPORT_DISK = 47,
    AOE_EXPORT_QUEUE = 60, AOE_EXPORT_CLIENTS = 61, AOE_EXPORT_FAILED = 62,
    AOE_EXPORT_SIZE = 63, AOE_EXPORT_NUMBERS = 64,
};

/* aoe.metrics.table, client */
enum {
    AOE_CLIENT_REQUESTS = 0, AOE_CLIENT_READ_BYTES = 1, AOE_CLIENT_WRITTEN_BYTES = 2,
    AOE_CLIENT_REPEATED = 3, AOE_CLIENT_HEARD = 4, AOE_CLIENT_NUMBERS = 5,
};

/* aoe.metrics.table, thread */
enum {
    AOE_THREAD_BUSY = 0, AOE_THREAD_IDLE = 1, AOE_THREAD_NUMBERS = 2,
};

/* aoe.limits */
enum {
    AOE_LOAD_BUCKETS = 2048,
};

/* aoe.wire.frame */
#define MAC_BYTES 0x06
#define ETHERTYPE 0x88a2
#define VERSION 0x01
#define FLAG_RESPONSE 0x08
#define FLAG_ERROR 0x04

/* aoe.wire.frame.Command */
enum {
    COMMAND_ATA = 0, COMMAND_CONFIG = 1, COMMAND_MASK = 2,
    COMMAND_RESERVE = 3,
};

/* aoe.wire.frame.Error */
enum {
    ERROR_UNRECOGNIZED_COMMAND = 1, ERROR_BAD_ARGUMENT = 2, ERROR_DEVICE_UNAVAILABLE = 3,
    ERROR_CONFIG_PRESENT = 4, ERROR_UNSUPPORTED_VERSION = 5, ERROR_RESERVED = 6,
};

/* aoe.wire.ata */
#define AFLAG_EXTENDED 0x40
#define AFLAG_WRITE 0x01

/* aoe.wire.stamp */
#define STREAM_SIGNATURE "\xd3\x1f\xb6\x4a"
#define AWAY 1
#define UNPROVED 2
#define BACKGROUND 256

/* aoe.wire.opcodes */
#define READ_SECTORS 0x20
#define READ_SECTORS_EXT 0x24
#define READ_DMA 0xc8
#define READ_DMA_EXT 0x25
#define READ_MULTIPLE 0xc4
#define READ_MULTIPLE_EXT 0x29
#define WRITE_SECTORS 0x30
#define WRITE_SECTORS_EXT 0x34
#define WRITE_DMA 0xca
#define WRITE_DMA_EXT 0x35
#define WRITE_DMA_FUA_EXT 0x3d
#define WRITE_MULTIPLE 0xc5
#define WRITE_MULTIPLE_EXT 0x39
#define WRITE_MULTIPLE_FUA_EXT 0xce
#define READ_VERIFY_SECTORS 0x40
#define READ_VERIFY_SECTORS_EXT 0x42
#define FLUSH_CACHE 0xe7
#define FLUSH_CACHE_EXT 0xea
#define DATA_SET_MANAGEMENT 0x06
#define DSM_TRIM 0x01
#define IDENTIFY_DEVICE 0xec
#define SET_FEATURES 0xef

/* aoe.drive.command */
#define READY 0x40
#define ERROR 0x01
#define ABRT 0x04
#define FAILURES 0xa9
#define LBA28_MASK 0xfffffff

/* aoe.drive.identify */
#define VENDOR_WORD 0x81
#define VENDOR_SIGNATURE "AoEt"
#define VENDOR_LAYOUT 0x01
#define VENDOR_STREAMS 0x02
#define VENDOR_DRAINS 0x04
#define VENDOR_ALONE 0x08
#define VENDOR_TRIMS 0x10
#define VENDOR_HEEDED 0x20
#define VOLATILE_CACHE 0x20
#define TRIM_IS_ZERO 0x4020
#define HAS_LBA 0x200
#define HAS_LBA48 0x400
#define HAS_FUA 0x40
#define CHECKSUM_FOLLOWS 0xa5

/* aoe.target.streams.Place */
enum {
    STREAM_NONE = 0, STREAM_KNOWN = 1, STREAM_ANEW = 2,
    STREAM_OVER = 3,
};

/* aoe.target.background */
#define BACKGROUND_PASSED 16
#define BACKGROUND_REST 8

/* aoe.initiator.discovery */
#define TAG_STEP 0x1e3779b1

/* aoe.initiator.channel */
#define STREAM_STEP 0x9e37

/* aoe.initiator.strangers */
#define FNV_PRIME 0x1000193

/* aoe.initiator.exchange.Kind */
enum {
    LANE_READS = 0, LANE_CHANGES = 1, LANE_SYNCS = 2,
    LANES = 3,
};

/* aoe.initiator.sizes.Direction */
enum {
    THERE = 0, BACK = 1, DIRECTIONS = 2,
};

/* aoe.initiator.sizes.Narrow */
enum {
    NARROW_NOT = 0, NARROW_TRIED = 1, NARROW_THERE = 2,
    NARROW_BACK = 3, NARROW_BOTH = 4,
};

/* aoe.initiator.path.Mute */
enum {
    MUTE_NOT = 0, MUTE_SILENT = 1, MUTE_ASKED_AGAIN = 2,
    MUTE_ASKED = 3,
};

static const char *const narrow_texts[] = {
    "",
    "larger frames are being tried",
    "larger frames do not get there: look at the MTU of the switches between",
    "larger frames do not come back: look at the MTU of the switches between",
    "larger frames do not pass: look at the MTU of the switches between",
};

static const char *const state_texts[] = {
    "checking",
    "usable",
    "down",
    "refused",
    "compared",
    "retried",
};

/* aoe.initiator.facts.Reason */
enum {
    WHY_NONE = 0, WHY_LINK_DOWN = 1, WHY_SILENT = 2,
    WHY_SLOW = 3, WHY_IDENTIFY_FAILS = 4, WHY_OTHER_SIZE = 5,
    WHY_OTHER_DISK = 6, WHY_VOLATILE = 7, WHY_NO_ZEROES = 8,
    WHY_CHECKSUM = 9, WHY_NO_LBA = 10, WHY_NO_SECTORS = 11,
    WHY_TOO_LARGE = 12, WHY_OTHER_STORE = 13, WHY_OTHER_DATA = 14,
    WHY_NOT_SEEN = 15, WHYS = 16,
};

/* aoe.initiator.life.State */
enum {
    PATH_CHECKING = 0, PATH_USABLE = 1, PATH_DOWN = 2,
    PATH_REFUSED = 3, PATH_COMPARED = 4, PATH_RETRIED = 5,
    PATH_STATES = 6,
};

/* aoe.drive.identify.StoreKind */
enum {
    STORE_NONE = 0, STORE_DEVICE = 1, STORE_RBD = 2,
    STORE_FILE = 3, STORE_SERIAL = 4, STORE_VOLUME = 5,
    STORE_IMAGE = 6,
};

static const char *const reason_texts[] = {
    "",
    "link down",
    "silent",
    "slow: it answers, but not what is read and written",
    "IDENTIFY fails",
    "another size than the disk had: look at the other server, or open the disk again",
    "another disk: its serial differs; if it is the same, give both servers one --serial",
    "a volatile write cache, with several servers: serve write-through",
    "its TRIM leaves no zeroes, as the disk's did when it was opened: open the disk again",
    "IDENTIFY has a wrong checksum: look at the server and its network card",
    "IDENTIFY names no drive with LBA addresses (word 49): look at what is served there",
    "IDENTIFY names no sectors: look at what is served there",
    "IDENTIFY names more sectors than can be addressed: look at what is served there",
    "another disk: the id of its store differs; give every disk a serial of its own",
    "another disk: LBA {lba} differs; give every disk a serial of its own",
    "another disk, or not in step: what was written at LBA {lba} is not there",
};

/* aoe.initiator.request.Verb */
enum {
    AOE_VERB_READ = 0, AOE_VERB_WRITE = 1, AOE_VERB_WRITE_FUA = 2,
    AOE_VERB_FLUSH = 3, AOE_VERB_TRIM = 4, AOE_VERB_IDENTIFY = 5,
    AOE_VERB_ASK = 6,
};

/* aoe.initiator.request.Outcome */
enum {
    AOE_ENDED_OK = 0, AOE_ENDED_ATA_ERROR = 1, AOE_ENDED_AOE_ERROR = 2,
    AOE_ENDED_CACHE_LOST = 3, AOE_ENDED_OUT_OF_RANGE = 4, AOE_ENDED_TOO_MANY = 5,
    AOE_ENDED_UNSUPPORTED = 6, AOE_ENDED_REFUSED = 7, AOE_ENDED_NO_MEMORY = 8,
};

/* aoe.initiator.compiled_core.COUNTERS */
enum {
    AOE_RETRANSMITS = 0, AOE_LATE_REPLIES = 1, AOE_UNANSWERED = 2,
    AOE_DRAINS = 3, AOE_UNFIT_REPLY = 4, AOE_UNKNOWN_TAG = 5,
    AOE_TOO_MANY_PATHS = 6, AOE_CORE_COUNTERS = 7,
};

#endif
