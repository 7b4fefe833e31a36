/* Bounds that the initiator shares with aoe/limits.py; a test compares them. */
#ifndef AOE_BOUNDS_H
#define AOE_BOUNDS_H

#define LBA48_SECTORS 281474976710656ll
#define RTO_FIRST_NS 100000000ll
#define RTO_MIN_NS 5000000ll
#define RTO_MAX_NS 2000000000ll
#define PATIENCE_MAX 16
#define COPIES_MAX 32
#define WINDOW_FIRST 8
#define WINDOW_MIN 2
#define SWEEP_NS 50000000ll
#define DRAIN_NS 20000000ll
#define STUCK_TRIES 4
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
#ifndef WAYS_MAX /* the fuzzer has fewer */
#define WAYS_MAX 32
#endif
#define REQUESTS_MAX 65536
#define PULSE_NS 100000000ll
#define QUERY_FIRST_NS 50000000ll
#define QUERY_MAX_NS 1000000000ll
#define QUERY_IDLE_NS 10000000000ll
#define FOREIGN_AGE_NS 10000000000ll

#endif
