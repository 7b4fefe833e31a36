"""How long things are waited for, and how often they are looked at."""

from typing import NamedTuple

from aoe import limits

# Order rule I2

NETWORK_LIFETIME_NS = 1_000_000_000
"""After which no network delivers a frame (order rule I2)."""
LIMIT_DELAY_NS = 250_000_000
"""The longest that a limit of requests or bytes a second delays a request, and not for more than a quarter of
the frame age: initiators take a reply that comes later for lost."""
LIMIT_BURST_NS = 100_000_000
LIMIT_BURST_MAX_S = 60.0
"""As much as a limit lets pass in that time comes at once after a pause: without other word, and at most."""
CLIENT_HEARD_NS = 60_000_000_000
"""A client that was heard no longer ago keeps its numbers, however many new ones come."""
CLIENTS_SWEPT_NS = 1_000_000_000
"""After a client for which there was no place, others are counted together for so long, before one is looked
for again."""
SHARED_NS = 5_000_000_000
"""An export is shared for so long after two clients asked one after the other."""
COMPLETION_NS = 1_000_000_000
"""Allowance for a disk to do what a target has begun."""
FENCE_AGAIN_NS = 1_000_000_000
"""After which a fence command that failed is run again."""
COMPARE_NS = 2_000_000_000
"""How long a disk is not said to be attached while its servers are compared."""

# A target

FRAME_AGE_DEFAULT_S = 1.0
FRAME_AGE_MIN_S = 0.5
"""Below this the UDP link, which knows ages to a fifth of a second, would drop fresh writes."""
FRAME_AGE_MAX_S = 3600.0
CLOCK_STEP_NS = 100_000_000
"""A move of REALTIME against BOOTTIME by more than this is a stepped clock (order rule T3)."""
DEVICE_SILENCE_NS = 20_000_000
"""After which a disk that owes an answer gets no request from a loop that must not wait."""
BACKGROUND_REST_MAX_NS = 20_000_000
"""The longest that what can wait rests where others ask: far less than half the frame age, when a write
hurries."""
BAD_SECTOR_SEARCH_S = 0.5
"""How long the first failing sector is looked for after the kernel reported an error."""
MEASURE_S = 2.0
"""How long a disk has to say how large it is."""
IMAGE_ANSWER_S = 30.0
"""How long a process that serves an image has to answer."""
IMAGE_IDLE_S = 5.0
"""How long one may do nothing before it answers, while clients wait for it: Linux tries another port after
10 s. It is killed then. One that runs, or is kept by a disk, has all the time to answer, as it would not end
sooner."""
IMAGE_READY_S = 10.0
"""How long it may take for an answer before its disk is cut, or grows: clients do not wait for that, but
it may wait for what they have it flush."""
IMAGE_INFO_S = 30.0
"""How long `qemu-img` has to look at one file of an image."""
IMAGE_ASKED_S = 300.0
"""How long the process that has images served has to answer: an image may lie over many."""
IMAGE_CHECK_S, IMAGE_TURN_S = 45.0, 1.0
"""How old the check of an image may be for which it is waited, and how long at a time: others are served
between."""
IMAGE_CHECK_TOLD_S = 60.0
"""Between two lines about a check that goes on."""
IMAGE_MERGED_LOOK_S = 0.5
"""Between two looks at the merging of an image that is served."""
IMAGE_FORGOTTEN_S = 60.0
"""After which an image that was checked is let go of, where it is not asked for any more."""
IMAGE_WITHDRAWN_LOOK_S = 0.002
"""Between two looks whether an image is served no more: clients wait for that."""
IMAGE_LOOK_S = 0.05
"""Between two looks whether another program still has an image, or a process that serves one has ended."""
IMAGE_END_S = 30.0
"""How long a process that serves an image has to write what it has, and to end."""
IMAGE_KILLED_S = 5.0
"""How long one that was killed is waited for: it takes longer only while a disk keeps it."""
IMAGE_AGAIN_S = 1.0
"""After which it is tried again to have an image served whose process ended."""
GROWN_SEEN_S, GROWN_LOOK_S = 10.0, 0.1
"""How long it is waited until a disk is seen to have grown, and between two looks: the kernel keeps the size
of a file that another process serves for a second."""
LOCK_WAIT_S = 5.0
"""How long a target that starts waits for the one before it to be gone."""
OPENER_ANSWER_S = 60.0
"""How long the opener may take while others are served: it waits for locks, and for disks that are slow to
open, and a manager may have to start it."""
CUT_LEFT_S, CUT_LEFT_LOOK_S = 20.0, 0.005
"""How long what has filled a snapshot may have it still, and between two looks."""
OPENER_CHORE_S = 0.1
"""An opener waits so long for the end of a verb, before it does other things, and so long it is not asked
again for one that goes on."""
PERMIT_S = 600.0
"""How long a verb of a pool may wait for its turn that a person asked for: later it is asked for again."""
OPENER_PATIENCE_S = 5.0
"""How long the opener waits for a disk, or for a pool to be opened, before it goes on without."""
OPENER_TURN_S = 1.0
"""After which it begins with no further store before it answers."""
OPENER_SILENT_S = 10.0
"""After which it is said that it does not answer."""
OPENER_LOOK_S = 0.25
"""Between two looks at whether it is still to be waited for."""
PATCHES_S = 2.0
"""How long a status waits for changes beside the file, which the opener opens."""
OPENER_LEAVE_S = 5.0
"""How long it may take at the end."""
OPENER_AGAIN_S = 1.0
"""Between two attempts to come to the next opener."""
THREAD_END_S, THREAD_END_LOOK_S = 10.0, 0.001
"""How long a thread may take to be gone for the kernel that has ended for Python, and between two looks."""
ADDRESS_RETRY_S = 0.05
"""Between two attempts to be the only process that serves an address."""
STOP_TIMEOUT_S = 5.0
"""How long requests under way have when a target or a path to a disk is closed."""
STOP_POLL_S = 0.01
"""Between two looks whether they are answered."""
CUT_HOLD_S = 0.25
"""How long changes of a disk are held for a snapshot, until those under way are over. If that takes longer,
there is none."""
CUT_READY_S = 30.0
"""How long its disk may take to be looked at and to write back what the page cache has, before that."""
CUT_POLL_S = 0.001
"""Between two looks whether they are."""
CUT_REST_MAX_NS = 50_000_000
"""What nothing waits for is cloned with rests as long as the work, and no longer than that."""
STORE_POLL_S = 0.02
LEAVE_S = 5.0
"""Between two attempts to have a service manager hold something, and how long that is tried at the end."""

ADDRESS_QUERY_S = 0.1
"""Between two questions whether another target answers for an address."""
ADDRESS_QUERY_LATER_S = 0.01
"""The same while others are served: a change is not to take long, and an answer that comes later is told."""
ADDRESS_ANSWERS_S = 0.2
"""For how long the answers count, where it was asked before it was known that the address can be served."""
ADDRESS_PATIENCE_S = 0.2
"""How much longer the IDENTIFY of one that answered is waited for."""

DRAIN_ASKED_NS = 3_000_000_000
"""How long an initiator of ours has to answer a server that drains: then it is gone."""
DRAIN_QUIET_NS = 250_000_000
"""After which one that has left asks for nothing any more that it had begun here."""
DRAIN_SILENT_NS = 60_000_000_000
"""After which any client that asks for nothing counts as gone."""
DRAIN_TOLD_NS = 1_000_000_000
"""Between two advertisements of a server that drains while its administrator waits."""
DRAIN_WAIT_S = 30.0
"""How long clients are waited for unless the administrator says so."""
DRAIN_LOOK_S = 0.2
"""Between two looks which of them stay."""

ADVERTISED_FIRST_S = (0.0, 1.0, 2.0)
ADVERTISED_EARLY_S = 10.0
ADVERTISED_EARLY_TIMES = 12
ADVERTISED_STEADY_S = 60.0
ADVERTISED_JITTER = 0.1
"""Before each advertisement: at first, then so many times, then for good, give or take so much of it."""
PACE_INTERVAL_S = 0.002
"""Between two bursts of answers to a wildcard (order rule T7)."""

MESSAGE_INTERVAL_S = 5.0
"""A message of one kind is said once in so long."""
OUTLET_FLUSH_S = 10.0
OUTLET_TURN_S = 0.05
OUTLET_TURNS = 20
"""How long a service that ends waits for its last lines to be taken, and for how many turns at most in which
none is. A second without a processor is one turn."""

# A node

USED_LATELY_S = 60.0
"""An export that a client used since is not removed without the word."""
CHANGE_WAIT_S = 5.0
"""How long a change waits for the one before it."""
INTERFACES_SETTLE_S = 0.05
"""After an interface changed, before what is served there follows: changes come in bursts."""
ARRIVAL_S = 1.0
"""Between two looks for disks that are not there yet."""
MARK_AGAIN_S = 1.0
"""After which it is tried again to write down that a disk failed."""
DATE_MAX_S = 1 << 38
"""Since 1970; what is later has no date."""
LIFE_POLL_S = 0.01
"""How soon it is asked again whether an earlier process can still change a store; later less often."""
FAILED_AGAIN_S = 5.0
"""After which what could not be served at the start is tried again."""
DISK_ANSWER_S = 5.0
"""How long a change waits for its disk, before it goes on by itself."""

# A daemon that is asked

CONTROL_TAKEN_S = 60.0
"""How long a process has to take an answer that it asked for."""
CONTROL_IDLE_S = 900.0
"""After which a connection that asks for nothing is closed."""
CONTROL_AGAIN_S = 0.1
"""Between two attempts to accept a connection for which there is no descriptor."""
CONTROL_LOOK_S = 20.0
CONTROL_CHANGE_S = 3900.0
"""How long a daemon has to say how it is, and to carry out a change: an address gets another disk when frames
for the last one have expired, which may take an hour."""
CONTROL_TURN_S = 5.0
CONTROL_RETRY_S = 0.05
"""How long a command waits for another one that changes something, and between two looks at that."""
POOL_LOOK_S = 20.0
"""How full pools are is asked so often, and when something was changed there."""
POOL_MEASURE_S = 0.5
"""So long it is measured what snapshots of a pool hold: of many, each time of some."""
POOL_COMMAND_S = 120.0
POOL_COMMAND_END_S = 10.0
"""How long a command of LVM may take, and then until it has ended that was told to end."""
POOL_TURN_S = 10.0
"""How long a verb waits for another one that works on the same pool."""
SCHEDULE_LOOK_S = 60.0
"""Between two looks of what schedules have to do."""
DOWNLOAD_STALL_S = 60.0
"""After which a server that sends next to nothing is given up."""
SANDBOX_LOOK_S = 0.2
"""How often what waits for a process that reads what others made is told that it does."""
SANDBOX_END_S = 180.0
"""After which a program that looks at an image is ended: it should take a moment."""
CONTROL_QUIET_S = 5.0
"""After which a command says that it still waits."""
CONTROL_SAMPLE_S = 0.5
"""Between the two looks that tell how fast a target is."""
DOCTOR_S = 12.0
DOCTOR_LOOK_S = 8.0
"""How long a doctor looks at most, all things side by side, and at one thing that may hang."""
WATCHED_S = 1.0
"""Between two looks of `status --watch`."""

METRICS_ASK_S = 5.0
METRICS_TAKEN_S = 15.0
METRICS_PARTING_S = 1.0
"""How long a process that asks for metrics has to say so, to take them, and to close the connection."""
METRICS_TURN_S = 1.0
"""After which a connection has to go where another one wants its place."""
METRICS_REST = 4
METRICS_REST_MAX_S = 1.0
"""Times as long as it took to write the metrics, but no longer than that, they are not written again: so
however often they are asked for, serving has most of the event loop."""
METRICS_SPACE_S = 0.2
"""How long filesystems have to say how much room they have; what one says later is in the next answer."""

# Links

SEND_BACKLOG_NS = 250_000_000
"""How long a frame is kept while the socket buffer of its link is full: a write that is on its way for more
than NETWORK_LIFETIME_NS would break order rule I2."""
UDP_LOOK_S = 0.2
"""Between two looks whether a socket is empty: by the last one, frames without a stamp get their age."""

# A disk that is used

FIND_S = 5.0
"""How long it is looked for at first."""
FIND_HEARD_S = 2.5
"""How long it is looked for where its target has answered a config query."""
DISCOVER_S = 0.5
"""How long a survey waits for those that answer a config query."""
DISCOVER_PAUSE_NS, DISCOVER_QUIET_NS, DISCOVER_LATE_NS = 50_000_000, 250_000_000, 3_000_000_000
"""It is asked again when no answer came for so long; all are there when none came for so long; and at the
latest so long after that."""
INQUIRY_WAIT_S = 0.1
"""How long the answer to a question which disk a server has is waited for, before it is asked again."""
INQUIRY_SIZE_NS = 1_000_000_000
INQUIRY_MUTE_NS = 300_000_000
INQUIRY_POLL_S = 0.005
"""How long a survey tries how large frames may be, and where nothing is answered; between two looks."""
REQUEST_S = 30.0
"""How long a request is repeated unless the caller says so."""
LAST_LOOK_S = 0.01
"""Enough turns of an event loop to read what arrived while this process was stopped, by any link."""
CONFIG_TEST_S = 1.0
"""How long an answer to a test of a config string is waited for. Servers that do not match keep silent."""
PING_S = 1.0
"""How long an answer to a ping is waited for, at least."""

DRAIN_POLL_S = 0.005
"""Between two looks whether the last requests of a disk are answered."""
CROWDED_S = 0.01
"""Between two attempts of a request that the core has no room for."""
LOAD_SLICE_S = 0.02
"""For how long a load runs before others have their turn."""
LOAD_PATIENCE_S = 5.0
"""How long the last answers to a load are waited for."""

PROGRESS_SHOWN_S = 0.2
PROGRESS_TOLD_S = 10.0
"""Between two looks at how far a copy is: on a terminal, and elsewhere."""

NEVER_NS = 1 << 62
"""Later than any clock says."""

# aoe nbd

NBD_LAST_ANSWER_S = 0.2
"""How long nbdkit has for the last answers it was given."""
NBD_HURRY_S = 0.5
"""How long requests under way may still take after Ctrl-C."""
REPORT_S = 2.0
"""How long the plugin has to say how the paths are."""
STATUS_S = 15.0
"""How long `aoe nbd` has to say it to a command that asks."""


class Timing(NamedTuple):
    """What the session of a disk goes by, in nanoseconds. Tests give their own."""

    query_first_ns: int = 50_000_000
    query_max_ns: int = 1_000_000_000
    query_idle_ns: int = 10_000_000_000
    """Time between two config queries of an initiator that looks for a target: at first, at most, and at
    most while another path carries everything."""
    settle_in_ns: int = 50_000_000
    """How long more paths may answer after there is one to each address, before one is chosen."""
    rto_first_ns: int = 100_000_000
    rto_min_ns: int = 5_000_000
    rto_max_ns: int = 2_000_000_000
    """How long an initiator waits before it sends a request again: before the first reply, at least, at
    most."""
    rto_calm_ns: int = 40_000_000
    """What the least wait may become where nothing is lost and servers only pause, as on a busy processor."""
    sweep_ns: int = 50_000_000
    """Between two looks at what is of unknown fate."""
    drain_ns: int = 20_000_000
    """Between two questions to a target what of the past can still be carried out there."""
    debt_ns: int = 100_000_000
    """For how long at a time it is noted that changes are made, for a life that goes on after us."""
    stream_again_ns: int = 3_000_000_000
    """After which a target that had no place for a stream is asked for one again."""
    network_lifetime_ns: int = NETWORK_LIFETIME_NS
    completion_ns: int = COMPLETION_NS
    foreign_age_ns: int = 10_000_000_000
    """How long a target that says nothing of it may keep a write waiting."""
    silence_ns: int = 1_000_000_000
    """After which a path is looked at before the next change goes there (order rule I6)."""
    probe_ns: int = 250_000_000
    dead_ns: int = 1_000_000_000
    """How long a server owes an answer before it is asked whether it is there, and before it counts as
    dead."""
    slow_ns: int = 10_000_000_000
    """How long a server that is there may leave reads and writes unanswered before another one is tried
    (I7)."""
    recheck_ns: int = 1_000_000_000
    """After which a path that was not usable is looked at again."""
    standby_ns: int = 10_000_000_000
    """How long a path that carries nothing may be silent before it is looked at."""
    proof_ns: int = 100_000_000
    """How long a range is closed at most while two servers are compared."""
    proof_again_ns: int = 10_000_000
    """Between two looks at what showed nothing."""
    condemned_ns: int = 60_000_000_000
    """Between two looks at a server that had another disk."""
    handover_ns: int = 25_000_000
    handover_max_ns: int = 1_000_000_000
    handover_again_ns: int = 1_000_000_000
    """How long changes wait at first, and at most, for a server that drains to end and flush those before
    them; and until that is tried again."""
    pulse_ns: int = 100_000_000
    """Between two looks at the paths while nothing is asked."""
    gap_ns: int = 500_000_000
    """Where nothing happened for so long, which is far more than `pulse_ns`, the process did not run."""
    size_wait_ns: int = 50_000_000
    size_wait_max_ns: int = 1_000_000_000
    """How long a probe of what passes is waited for, at first and at most."""
    size_again_ns: int = 60_000_000_000
    """After which it is looked whether larger frames pass after all."""


USUAL = Timing()


# What must hold between times, and between them and bounds

assert SEND_BACKLOG_NS < NETWORK_LIFETIME_NS, "what waits here is not older than a network lets it be (I2)"
assert CLOCK_STEP_NS < FRAME_AGE_DEFAULT_S * 1e9, "a stepped clock is noticed before it spoils the age (T3)"
assert USUAL.rto_min_ns <= USUAL.rto_calm_ns <= USUAL.rto_first_ns <= USUAL.rto_max_ns
assert (limits.COPIES_MAX - (USUAL.rto_max_ns // USUAL.rto_min_ns).bit_length()) * USUAL.rto_max_ns > (
    NETWORK_LIFETIME_NS + USUAL.foreign_age_ns + COMPLETION_NS
), "a copy that is forgotten can do nothing any more (I2)"
assert USUAL.sweep_ns < NETWORK_LIFETIME_NS, "what time settles is looked at in time"
assert USUAL.drain_ns < NETWORK_LIFETIME_NS, "a question settles sooner than time does"
assert USUAL.stream_again_ns >= NETWORK_LIFETIME_NS + FRAME_AGE_DEFAULT_S * 1e9, (
    "a place is free by then (T9)"
)
assert USUAL.probe_ns < USUAL.dead_ns <= USUAL.slow_ns, "a server is asked before it counts as dead"
assert USUAL.handover_ns < 50_000_000, "clients that are handed over see no longer pause"
assert USUAL.handover_ns <= USUAL.handover_max_ns <= USUAL.dead_ns
assert USUAL.pulse_ns < USUAL.gap_ns < USUAL.dead_ns, (
    "a process that stood still does not take that for its server's silence"
)
assert USUAL.settle_in_ns < USUAL.query_max_ns
assert USUAL.query_first_ns <= USUAL.query_max_ns <= USUAL.query_idle_ns
assert USUAL.size_wait_ns <= USUAL.size_wait_max_ns < USUAL.size_again_ns
assert USUAL.proof_again_ns < USUAL.proof_ns < USUAL.dead_ns, "a proof holds up no write for long"
assert USUAL.rto_min_ns > limits.SPIN_US * 1000
