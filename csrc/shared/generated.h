/* Made of the Python modules named below by `python -m csrc.generate`: change those. */
#ifndef AOE_GENERATED_H
#define AOE_GENERATED_H

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
#define RECEIVE_BUFFER 16777216
#define SEND_BUFFER 4194304
#define RING_BUFFER 4194304
#define RING_FRAMES_MIN 64
#define SPIN_US 50
#define FRAME_ROOM 9014
#define UDP_MTU_DEFAULT 1500
#define UDP_MTU_MAX 65493
#define LOAD_DEPTH_MAX 4096
#define FENCE_AGAIN_NS 1000000000ll
#define SECTORS_SURE 2
#define SIZE_LOSSES 3
#define SIZE_WAIT_NS 50000000ll
#define SIZE_WAIT_MAX_NS 1000000000ll
#define SIZE_AGAIN_NS 60000000000ll
#define SIZE_PROBES_MAX 16
#define QUERY_FIRST_NS 50000000ll
#define QUERY_MAX_NS 1000000000ll
#define QUERY_IDLE_NS 10000000000ll
#define RTO_FIRST_NS 100000000ll
#define RTO_MIN_NS 5000000ll
#define RTO_MAX_NS 2000000000ll
#define RTO_CALM_NS 40000000ll
#define PROBES_FORGIVEN 3
#define PATIENCE_MAX 16
#define COPIES_MAX 32
#define WINDOW_FIRST 8
#define WINDOW_MIN 2
#define SWEEP_NS 50000000ll
#define DRAIN_NS 20000000ll
#define STUCK_TRIES 4
#define STREAM_AGAIN_NS 3000000000ll
#define UNSETTLED_MAX 65536
#define NETWORK_LIFETIME_NS 1000000000ll
#define COMPLETION_NS 1000000000ll
#define SILENCE_NS 1000000000ll
#define PROBE_NS 250000000ll
#define DEAD_NS 1000000000ll
#define SLOW_NS 10000000000ll
#define RECHECK_NS 1000000000ll
#define STANDBY_NS 10000000000ll
#define SETTLE_IN_NS 50000000ll
#ifndef WAYS_MAX
#define WAYS_MAX 32
#endif
#define STRANGERS_MAX 1024
#define INVITED_MAX 8
#define PROOF_NS 100000000ll
#define PROOF_AGAIN_NS 10000000ll
#define CONDEMNED_NS 60000000000ll
#define COMPARE_NS 2000000000ll
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
#define REQUESTS_MAX 65536
#define PULSE_NS 100000000ll
#define GAP_NS 500000000ll
#define FOREIGN_AGE_NS 10000000000ll

/* aoe.timing */
#define CLOCK_STEP_NS 100000000ll
#define DEVICE_SILENCE_NS 20000000ll

/* aoe.limits */
enum {
    AOE_LOAD_BUCKETS = 2048,
};

/* aoe.wire.frame */
#define ETHERTYPE 0x88a2
#define VERSION 0x01
#define FLAG_RESPONSE 0x08
#define FLAG_ERROR 0x04

/* aoe.wire.frame.Command */
enum {
    COMMAND_ATA = 0,
    COMMAND_CONFIG = 1,
};

/* aoe.wire.frame.Error */
enum {
    ERROR_BAD_ARGUMENT = 2,
    ERROR_RESERVED = 6,
};

/* aoe.wire.ata */
#define AFLAG_EXTENDED 0x40
#define AFLAG_WRITE 0x01

/* aoe.wire.stamp */
#define STREAM_SIGNATURE "\xd3\x1f\xb6\x4a"

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
#define FAILURES 0xa9
#define ABRT 0x04
#define LBA28_MASK 0xfffffff

/* aoe.drive.identify */
#define HAS_LBA 0x200
#define HAS_LBA48 0x400
#define HAS_FUA 0x40
#define CHECKSUM_FOLLOWS 0xa5
#define VOLATILE_CACHE 0x20
#define TRIM_IS_ZERO 0x4020

/* aoe.drive.identify */
#define VENDOR_WORD 0x81
#define VENDOR_SIGNATURE "\x41\x6f\x45\x74"
#define VENDOR_LAYOUT 0x01
#define VENDOR_STREAMS 0x02

/* aoe.target.streams.Place */
enum {
    STREAM_NONE = 0,
    STREAM_KNOWN = 1,
    STREAM_ANEW = 2,
};

#endif
