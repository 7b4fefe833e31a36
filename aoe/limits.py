"""Every bound, in one place. Lengths are bytes unless the name says otherwise."""

from aoe.wire import protocol

BUFFER_COUNT_DEFAULT_MAX = 64

EXPORTS_MAX = 4096
"""Disks of one target, unless it was told otherwise when it was opened."""
IMAGE_ID_MAX = 64
"""Characters of the id of an image that a disk is a copy of."""
TRIM_BLOCKS_MAX = 8
"""512-byte blocks of ranges in one TRIM."""
EXPORT_QUEUE_MAX = 1024
"""Requests admitted to one export and not yet answered; more are dropped, the client re-sends."""
SPANS_MAX = 4
"""Ranges of one request that are compared one by one with those of others."""
STREAMS_MAX = 256
"""Initiators of one export whose epochs are remembered (order rule T9). One that was heard so lately that the
network may still have something of it keeps its place, and those beyond do without."""
REPLAY_WINDOW = 1024
"""How many tags behind the latest of a stream a frame may be that the network has delayed."""
TARGET_BYTES_MAX = 64 << 20
"""Payload held by one process for requests not yet answered."""
ADMIN_QUEUE_MAX = 64
"""Config, mask and reserve messages that wait for a change in progress on their export."""
ZEROES_CHUNK = 1 << 20
"""Bytes written at a time where zeroes are."""
VERIFY_CHUNK = 1 << 20
"""Bytes read at a time where they are only thrown away."""
COPY_CHUNK = 1 << 20
COPIED_AT_ONCE = 8
"""Bytes of a copy that are asked for in one request, and requests at a time."""
WATCH_BYTES = 1 << 16
"""Of events that a file has lost its name, taken at a time."""
SERIAL_LENGTH_MIN = 6
SERIAL_VARIETY_MIN = 4
SERIAL_WORDS_MAX = 24
"""An id that is shorter, or has fewer different characters, is no disk's own; of a name, so many words are
looked at."""
DISK_WORKERS = 8
"""Requests one export has inside system calls at a time."""
DEPTH_FIRST = 8
DEPTH_SAMPLES_MIN = 32
DEPTH_PAUSE_MIN = 32
DEPTH_PAUSE_MAX = 256
"""Requests at a disk that several clients share, before it is known how many it works on at a time. How many
are looked at to find that out, and for how many such rounds it is left at that once more did not help."""

RECORD_BYTES_MAX = 1 << 17
"""Of a state file; the largest that is written has about half."""
RECORDS_AT_ONCE = 16
"""Records of disks that are written and synced at a time."""
RECORD_ADDRESSES_MAX = 256
"""Addresses of one disk that are remembered, the latest."""
DEVICE_SLOTS_UNKNOWN = 32
"""Requests that a disk takes at a time where the kernel does not tell."""

CLIENTS_MAX = 64
CLIENTS_IN_ALL_MAX = 1024
"""Clients of one export, and of all of a target, that have numbers of their own; those beyond are counted
together."""
BACKGROUND_MAX = 8
"""Clients of one export of which it is known that what they ask for can wait."""
CLIENT_TAGS = 16
"""Latest tags of such a client that are remembered."""
LATENCY_BUCKETS = 12
LATENCY_FIRST_BITS = 13
LATENCY_STEP_BITS = 2
"""Buckets of a histogram of times. The longest time in the first is 2 to so many nanoseconds, in the next
there are that many powers of two more."""
LIMITED_HOSTS_MAX = 64
"""Hosts of one export that each have a rate of their own, where rates are limited. One that was within its
limits for a while makes room for another; where none was, those beyond share one rate."""
LIMIT_IOPS_MIN, LIMIT_IOPS_MAX = 10, 10**9
LIMIT_BANDWIDTH_MIN, LIMIT_BANDWIDTH_MAX = 1 << 16, 1 << 40
"""What a limit may be, a second: of less than that, requests wait for longer than they are kept."""
DRAIN_ASKED_MAX = 8
"""Advertisements that are remembered: initiators of ours answer each."""
CLIENTS_KNOWN_MAX = 256
"""Hosts of one export that are remembered, so that the first contact of each is said."""
OUTLET_BYTES_MAX = 4 << 20
"""Of lines that were not taken yet from a service's standard output or error; more are left out."""
JOURNAL_MESSAGE_MAX = 32 << 10
"""Bytes of a field for the journal: with more, a datagram would not fit into a socket's buffer."""
MESSAGE_KINDS_MAX = 1024
"""Kinds of messages whose last time is remembered."""

LIFE_NAME_BYTES = 16
"""Of the name of a life of the service."""
HELD_MAX = 4096
HELD_RESERVED = 512
"""Descriptors that the service manager holds for the next life of the service; and how many of these only
sockets of interfaces may be, not stores or addresses."""
HELD_NAME_MAX = 24
HELD_HASH_BYTES = 8
"""Of the name of such a descriptor, and of the hash in it: all names are one string of at most 128 KiB in the
environment (MAX_ARG_STRLEN, execve(2))."""

ADDRESS_QUERIES = 3
"""Questions whether another target answers for an address."""
ASKED_AHEAD_MAX = 16
"""Addresses for which that is asked before it is known whether they can be served."""
RIVALS_MAX = 16
"""Hosts remembered that answer for one of our addresses."""
ADDRESS_BACKLOG = 128
"""Processes at a time that ask which process serves an address."""
STALE_BATCHES_MAX = 1000
"""Batches of frames thrown away at the start, that came before the target served."""
LINKS_FOLLOWED_MAX = 40
"""Symbolic links to a disk that are followed: as many as the kernel follows (path_resolution(7))."""

PACE_BURST = 32
PACED_FRAMES_MAX = 16384
"""Answers of many exports to one wildcard leave in bursts with pauses (order rule T7)."""

RECEIVE_BATCH = 64
"""Frames taken from one link before the others get their turn."""
LAST_PASSES_MAX = 64
"""Passes over all links of a target that stops, for what it has taken from one of them and not served yet."""
SEND_BACKLOG_MAX = 1024
"""Frames kept for one link while its socket buffer is full."""
NETLINK_BYTES_MAX = 1 << 16
"""Of the kernel's answer what an interface belongs to."""
NETLINK_TRIES = 4
"""How often the kernel is asked for all interfaces, where some come or go meanwhile."""
UDP_MTU_DEFAULT = 1500
UDP_MTU_MAX = 65507 - protocol.ETHERNET_HEADER
"""What is carried in one datagram counts as a frame."""
BATCHES_MAX = 16
"""Taken from a link before a tick: what comes in all the time does not put it off for ever."""
UDP_QUEUE_MAX = 1024
"""Datagrams kept between the UDP library's queue and the target."""
RECEIVE_BUFFER = 16 << 20
SEND_BUFFER = 4 << 20
"""Socket buffers asked for."""
RING_BUFFER = 4 << 20
"""Bytes of a packet ring. It is used from end to end, so it has to stay in the processor's cache: with four
times as much, 8 KiB writes are a fifth slower. At 10 Gbit/s jumbo frames fill it in 3 ms."""

RING_FRAMES_MIN = 64
"""A ring has room for so many, however large they are."""
SPIN_US = 50
"""Longest busy wait of an engine thread before it sleeps, microseconds."""
FRAME_ROOM = 9014
"""Largest frame the engine has room for, so that the MTU may be raised to 9000 while it runs."""
ENGINE_QUEUE_MAX = 256
"""Requests admitted to one export of an engine, so that one that hangs does not use up what all share."""
ENGINE_PORTS_MAX = 64
"""Interfaces of one engine: an export has a bit for each."""
ENGINE_THREADS_MAX = 256
"""Threads of one engine."""
ENGINE_PLACES = 64
"""Requests one export has at the disk at a time when the engine serves it."""

CHANGES_MAX = 512
CHANGES_BYTES_MAX = 8 << 20
"""Changes of a running target that its file does not have, and the bytes of the list of them."""
CONTROL_REQUEST_MAX = 1 << 20
CONTROL_ANSWER_MAX = 32 << 20
"""Of one line that a daemon is sent, and of one that it answers."""
CONTROL_CONNECTIONS_MAX = 16
"""Of the administrator at a time, and so many of all other users together."""
CONTROL_CHUNK = 1 << 16
"""Bytes of a connection read at a time."""
CONTROL_BACKLOG = 64
"""Connections that wait to be accepted."""
TRAIL_MAX = 60
"""Looks of `status --watch` that it remembers."""
SOCKET_PATH_MAX = 107
"""Of the name of a Unix socket (unix(7))."""

SECONDS_MAX = 1e9
"""The longest time that may be asked for."""
PING_INTERVAL_MAX_S = 86400.0
LOAD_MAX_S = 30 * 86400.0
"""The longest time between two pings, and for which a disk is loaded."""
SURVEYED_AT_ONCE = 64
"""Disks looked at at a time."""
CHANGED_AT_ONCE = 64
"""Disks that one command, or one file, changes at a time."""
DISCOVERED_MAX = 16384
"""Answers to config queries that are kept of one link."""
DISCOVER_QUERIES, DISCOVER_QUERIES_LATE = 4, 3
"""Questions which targets there are: where one frame in a hundred is lost, each of 1,000 is heard.
And how many are enough where the answers take long and tell nothing new."""
INQUIRY_TRIES = 5
"""Questions to one server which disk it has."""
NBD_THREADS = 20
NBD_THREADS_MAX = 1024
"""Requests of one NBD client under way at once: each has a thread of nbdkit's. Fewer than the usual queue of
32: threads that find no request in the client's socket wake each other for nothing."""
DOOR_DESCRIPTORS = 64
"""Of a supervised nbdkit: what it is given besides has a number from here on."""
NBD_LINES_MAX = 64
"""Lines of an nbdkit that does not come to serve."""
FENCE_WORDS_MAX = 64
"""Words of a fence command that the plugin takes."""
REPORT_BYTES_MAX = 1 << 16
"""Of what the plugin says of its paths."""
STATUS_BYTES_MAX = 1 << 20
"""Of what `aoe nbd` says of them."""
LOAD_DEPTH_MAX = 4096
"""Requests that a load has outstanding at a time."""
LOAD_BUCKETS = 2048
"""Of the histogram of its times: 32 for each power of two nanoseconds."""
PLOT_STEPS = 400
"""Of a picture of a load, over its time."""

SECTORS_SURE = 2
"""Of a request whose frames every Ethernet carries; larger ones are used when one was seen to pass."""
SIZE_LOSSES = 3
"""How often a larger frame is lost before it counts as too large."""
SIZE_PROBES_MAX = 16
"""Probes of one path whose answers are still taken."""
PROBES_FORGIVEN = 3
"""Requests sent again in vain, one by one, before fewer of them are outstanding."""
PATIENCE_MAX = 16
"""Times the usual round trip that a request is waited for although later ones are answered."""
COPIES_MAX = 32
"""Copies of one request that are remembered; older ones are past doing anything (RTO_MAX_NS apart)."""
WINDOW_FIRST = 8
WINDOW_MIN = 2
"""Requests outstanding at first, and after losses."""
STUCK_TRIES = 4
"""How often a change is sent before its target is told its sender once more."""
BUCKET_SECTORS = 256
BUCKETS_MAX = 2
"""Closed ranges are found by buckets of so many sectors; one in more buckets is looked at always."""
ASKED_MAX = 64
"""Tags of config queries whose answers are still taken."""
UNSETTLED_MAX = 1 << 16
"""Changes of unknown fate on one path; beyond that no new change goes there."""
PATHS_MAX = 32
"""Paths to one disk; one that was lost makes room for another."""
DEBTS_MAX = 2 * PATHS_MAX
"""Streams and hosts of which the next life is told; of more, only that there was something."""
DEBT_TAGS = 1 << 16
"""So many tags are noted for it at a time."""
SAMPLE_END_SECTORS = 2048
SAMPLE_BLOCKS = 16
SAMPLE_BLOCK_SECTORS = 8
"""What is read of a disk to compare two servers: so many sectors at either end, and blocks between."""
SAMPLES_AT_ONCE = 8
SAMPLE_TRIES = 3
"""How often a range that differs is read, and how often one is tried that cannot be read now."""
ECHOES_MAX = 8
"""Writes that are not seen at a server before it is refused."""
STRANGERS_MAX = 1024
"""Servers asked within PULSE_NS what they are while there is no place for them."""
INVITED_MAX = 8
"""Of those, how many that answered well are remembered until they take a place."""
REQUESTS_MAX = 1 << 16
"""Requests of one disk that are not yet settled."""

CHANGE_DIGITS_MAX = 18
"""Of the number of a change that a file has."""
CONFIG_BYTES_MAX = 4 << 20
"""Of a configuration file: 4096 exports with 1 KiB each."""
LINKS_MAX = 64
"""Interfaces, and UDP links, that a configuration file names for one target or export."""
CPU_NUMBER_MAX = 8191
"""The highest number of a CPU (NR_CPUS of Linux)."""
CONFIG_KEY_PARTS_MAX = 16
"""Parts of a dotted key of a file that is read at all; ours have two."""
CONFIG_FAULTS_MAX = 100
"""Faults of one file that are said."""
CONFIG_SHOWN_MAX = 60
"""Characters of a wrong value that are shown."""
NAME_MAX = 127
"""Characters of an interface's alternative name (ALTIFNAMSIZ of Linux), and here of a group."""

OPENER_MESSAGE_BYTES_MAX = 1 << 17
"""Of one message to or from the opener; a path has up to 4096, each written as up to six."""
OPENER_DESCRIPTORS_MAX = 128
"""Beside one message; the kernel allows 253 (SCM_MAX_FD)."""
OPENER_CHANGES_MAX = 60
"""Of descriptors to be kept, beside one answer; the rest comes with the next."""
OPENER_STORES_MAX = 60
"""Stores, addresses or files that are asked for in one message."""
OPENER_STORES_BYTES = 1 << 15
"""Of one answer: what is open by then is told, and the rest asked for anew."""
OPENER_USES_MAX = 256
"""Uses of stores in one message."""
OPENER_STORE_BYTES = 64
"""Of one message, for what a path leads to: two numbers, or a number with a word before it."""
OPENER_WHY_BYTES = 1 << 14
"""Of one answer, for why there is nothing at some paths."""
OPENER_PLACES_BYTES = OPENER_MESSAGE_BYTES_MAX - OPENER_WHY_BYTES - 1024
"""Of one message, for paths and what they lead to; the rest is around them."""
CHORES_MAX = 64
"""Verbs on pools that are asked for at a time."""
CHORES_OF_POOL_MAX = 16
"""Of these on one pool, which may not answer."""
LATE_MAX = 1024
"""Disks that may not answer before an opener asks nothing of any: a thread each."""
PERMITS_MAX = 64
"""Verbs that persons asked for, and that may be done still."""
LISTED_BYTES = 1 << 14
"""Of volumes that are told in one answer, before the last of these."""
LISTED_STATES_MAX = 256
"""Snapshots of a volume, and clones, that are told."""
LISTED_LEFTOVERS_MAX = 32
"""What does not fit in a pool, as far as it is told."""
CHORE_STEPS_MAX = 100
"""Steps of one that are told in words."""
OPENER_SAID_BYTES = 1 << 13
"""Of one answer, for what the opener says beside it."""
OPENER_CONNECTIONS_MAX = 16
"""Processes for which an opener that is a service works at the same time, each with a process of its own."""
OPENER_TRIES = 20
"""How often an opener of an earlier release is given time to be gone."""

TOLD_MAX = 4
"""Different failures of one export that are known to have been said."""

METRICS_CONNECTIONS_MAX = 8
"""Of those that ask for metrics, at a time."""
METRICS_BACKLOG = 16
"""Of them, those that wait to be accepted."""
METRICS_HEAD_MAX = 8192
"""Bytes of a request for metrics: its line, and the header fields."""
METRICS_IGNORED_MAX = 1 << 16
"""Bytes behind a request that are read and thrown away, so that its answer arrives."""
EXPORTS_AT_ONCE = 64
"""Exports whose numbers are looked at at a time for them."""
EXPOSED_AT_ONCE = 1024
"""Lines of metrics that are written at a time: that takes less than a millisecond."""
DOCTOR_LOST_ONE_IN = 10_000
"""Of frames that a network card lost or damaged: one in so many is no fault."""
DOCTOR_STATE_FREE = 1 << 20
DOCTOR_STATE_FILES = 16
"""Bytes and names that the file system of a state directory should have room for."""
DOCTOR_FULL_ONE_IN = 10
"""A file system with less than such a part free counts as nearly full."""

POOL_NAME_MAX = 64
"""Characters of the name of a pool, volume or snapshot."""
POOLS_MAX = 64
POOL_VOLUMES_MAX = 16384
POOL_SNAPSHOTS_MAX = 1024
"""Pools that a file names, volumes of one, and snapshots of one volume."""
POOL_RESERVE_DEFAULT, POOL_RESERVE_MAX = 10, 90
"""Percent of a pool's store that are kept for the disks that are there."""
POOL_RECORD_BYTES_MAX = 1 << 20
"""Of the record of a volume: each snapshot takes about 250."""
POOL_SPARE_BYTES = 1 << 20
"""Of a file that is emptied where a pool's store is full: then there is room to note what is deleted."""
POOL_DROPPED_MAX = 16
"""Images of which a volume remembers that it has them no more."""
POOL_CHAIN_MAX = 16
"""Images of which one state is made, each of differences to the one before."""
POOL_TAG_PIECE_MAX = 900
"""Characters of a record in one tag of LVM, which has 1,024 at most."""
POOL_CLEARED_AT_ONCE = 1 << 20
"""Bytes of zeroes that are written to a volume at a time."""
POOL_MEASURED_ONE_IN = 50
"""What volumes of LVM take is measured in such a part of the time at most."""
POOL_ALONE_EXTENTS_MAX = 1 << 16
"""XFS looks at so many of a disk that shares none any more while writes wait, 72 ms (1.1 us for each)."""
POOL_MESSAGE_MAX, POOL_NAMED_MAX = 500, 8
"""Characters of what a command of LVM complains of, and volumes or snapshots, that one message tells."""
SCHEDULE_GAP = 24 * 3600
"""Seconds between two looks of a schedule, after which it does not trust the clock enough to prune."""
SCHEDULES_MAX, SCHEDULE_KEPT_MAX = 64, 500
"""Schedules of a file, and snapshots of one kind that one of them keeps."""
SCHEDULE_DUES_MAX, SCHEDULE_PRUNED_MAX = 64, 4
"""Volumes for which something is done at one look, and snapshots of one of them that go."""
POOL_FOREIGN_HEAD_BYTES = 512
"""Of an image of others: what it begins with may speak against its name."""
POOL_QCOW2_BYTES_MAX, POOL_QCOW2_BYTES_PER_BYTE = 1 << 51, 8192
"""Of a disk in qcow2: a table of 32 MiB leads to tables of 64 KiB, each for 512 MiB."""
POOL_HOLE_BYTES = 1 << 20
"""Zeroes of which a copy makes a hole; fewer are written, so that it has few extents."""
POOL_IMAGE_HEAD_BYTES = 64 << 20
"""How much longer than its disk an image in qcow2 may be, with an eighth of the disk."""
EXTENTS_CHUNK = 1024
"""Extents of a file that the kernel is asked for at a time."""
CUT_RANGE = 256 << 10
CUT_RANGES_MAX = 1 << 24
"""What a snapshot of a disk that goes on being written clones at a time, while no write goes on; and how many
such ranges one disk has. They are longer where there would be more."""
CUT_BATCH = 8
"""Ranges that writes wait for, cloned one after the other before these go on: to clone waits for all writes
that are at the disk."""
CUT_EXTENTS_MAX = 256
"""A disk with no more extents than that is cloned at once: each takes some 40 us."""
CUT_GROUP_MAX = 64
"""Disks of which snapshots are taken at one moment."""
IMAGE_LINE_BYTES_MAX = 1 << 20
"""Of one answer of a process that serves an image."""
IMAGE_MESSAGE_BYTES_MAX = 1 << 16
"""Of a message between a target and the process that has its images served."""
IMAGE_KEY_BYTES_MAX, IMAGE_REPLAYED_BYTES = 1 << 12, 256 << 20
"""Of a key: QEMU takes no longer one for LUKS; and by how much the log of a vhdx may lengthen it."""
IMAGE_MERGED_BYTES_PER_S = 64 << 20
"""Merged into an image that is served: its clients want the disk, too."""
IMAGE_MEMORY_KEPT = 8 << 20
"""Bytes that what serves an image keeps for its next requests, each of which has 1 MiB at most there."""
IMAGE_SAID_BYTES, IMAGE_LINES_MAX = 400, 16
"""Of one line that QEMU said, and lines that one answer tells."""

DOWNLOAD_URL_MAX, DOWNLOAD_VERSION_MAX = 2048, 512
DOWNLOAD_NOTE_BYTES = 16384
"""Characters of a URL and of what a server calls a version of it, and bytes of a file that has both."""
DOWNLOAD_KEY_CHARACTERS = 32
"""Of the name of a file that is fetched."""
DOWNLOAD_REDIRECTS_MAX = 8
DOWNLOAD_CHUNK = 1 << 18
DOWNLOAD_SYNC_BYTES = 16 << 20
"""Bytes that are read at a time, and after which they are put on stable storage: so many may come twice."""
DOWNLOAD_LEAST_BYTES = 4096
"""In the time in which a server that stalls is given up."""
SANDBOX_CPU_S = 120
SANDBOX_MEMORY_BYTES = 4 << 30
"""Seconds of processor time and address space of a program that reads others' images; qemu-img reserves 1 GiB
or so for its threads, and touches little of it."""
SANDBOX_COPIED_PER_S = 8 << 20
"""Bytes that a slow processor copies, or unpacks, in a second."""
SANDBOX_SAID_BYTES_MAX = 8 << 20
SANDBOX_SAID_CHUNK = 65536
"""Of what such a program prints, in all, and at a time."""

CLOUD_ROOT_BYTES_MIN, CLOUD_ROOT_SPARE_BYTES = 1 << 30, 64 << 20
"""The size of a root by default, and what the file system itself may take of it."""
CLOUD_KEYS_BYTES_MAX = 1 << 20
CLOUD_RECORD_BYTES_MAX = 1 << 20
"""Files that are read: of ssh keys, and what is written down of an image."""
CLOUD_SAID_LINES_MAX = 200
"""Lines of a program that are kept for the message when it fails."""
CLOUD_EPOCH_MAX = (1 << 31) - 1
"""The last time (seconds since 1970) that every field of ext4 can say."""

# What must hold between them

assert 6 * (DOWNLOAD_URL_MAX + DOWNLOAD_VERSION_MAX) + 256 < DOWNLOAD_NOTE_BYTES
assert max(OPENER_STORES_MAX, 2) + OPENER_CHANGES_MAX <= OPENER_DESCRIPTORS_MAX <= 253
assert OPENER_STORES_BYTES + 3 * 6 * 4096 + OPENER_SAID_BYTES + 8192 < OPENER_MESSAGE_BYTES_MAX
assert HELD_MAX * (HELD_NAME_MAX + 1) < (1 << 17) - 100

assert 6 * 4096 + 2 + OPENER_STORE_BYTES < OPENER_PLACES_BYTES

assert POOL_SNAPSHOTS_MAX * 400 < POOL_RECORD_BYTES_MAX
assert POOL_CHAIN_MAX > 1, "an overlay has a base"

assert STUCK_TRIES < COPIES_MAX
assert WINDOW_MIN <= WINDOW_FIRST
assert UNSETTLED_MAX <= REQUESTS_MAX
assert protocol.STAMPED_SECTORS_MIN <= SECTORS_SURE, "every Ethernet carries a stream (T9)"
assert ENGINE_PLACES <= ENGINE_QUEUE_MAX <= EXPORT_QUEUE_MAX
assert BUFFER_COUNT_DEFAULT_MAX < REPLAY_WINDOW, "what is under way is in the window of tags (T9)"
