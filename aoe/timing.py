"""How long things are waited for, and how often they are looked at."""

from aoe import limits

# A target

FRAME_AGE_DEFAULT_S = 1.0
FRAME_AGE_MIN_S = 0.5
"""Below this the UDP link, which knows ages to a fifth of a second, would drop fresh writes."""
CLOCK_STEP_NS = 100_000_000
"""A move of REALTIME against BOOTTIME by more than this is a stepped clock (order rule T3)."""
DEVICE_SILENCE_NS = 20_000_000
"""After which a disk that owes an answer gets no request from a loop that must not wait."""
BAD_SECTOR_SEARCH_S = 0.5
"""How long the first failing sector is looked for after the kernel reported an error."""
MEASURE_S = 2.0
"""How long a disk has to say how large it is."""
LOCK_WAIT_S = 5.0
"""How long a target that starts waits for the one before it to be gone."""
SEAT_RETRY_S = 0.05
"""Between two attempts to be the only process that serves an address."""
STOP_TIMEOUT_S = 5.0
"""How long requests under way have when a target or a path to a disk is closed."""
STOP_POLL_S = 0.01
"""Between two looks whether they are answered."""

CLAIM_INTERVAL_S = 0.1
"""Between two questions whether another target answers for an address."""
CLAIM_PATIENCE_S = 0.2
"""How much longer the IDENTIFY of one that answered is waited for."""

ADVERTISED_FIRST_S = (0.0, 1.0, 2.0)
ADVERTISED_EARLY_S = 10.0
ADVERTISED_EARLY_TIMES = 12
ADVERTISED_STEADY_S = 60.0
ADVERTISED_JITTER = 0.1
"""Before each advertisement: at first, then so many times, then for good, give or take so much of it."""
PACE_INTERVAL_S = 0.001
"""Between two bursts of answers to a wildcard (order rule T7)."""

MESSAGE_INTERVAL_S = 5.0
"""A message of one kind is said once in so long."""
OUTLET_FLUSH_S = 1.0
"""How long a service that ends waits for its last lines to be taken."""

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
REQUEST_S = 30.0
"""How long a request is repeated unless the caller says so."""
LAST_LOOK_S = 0.01
"""Enough turns of an event loop to read what arrived while this process was stopped, by any link."""
CONFIG_TEST_S = 1.0
"""How long an answer to a test of a config string is waited for. Servers that do not match keep silent."""
PING_S = 1.0
"""How long an answer to a ping is waited for, at least."""

PROGRESS_SHOWN_S = 0.2
PROGRESS_TOLD_S = 10.0
"""Between two looks at how far a copy is: on a terminal, and elsewhere."""

# aoe nbd

NBD_LAST_ANSWER_S = 0.2
"""How long nbdkit has for the last answers it was given."""
NBD_HURRY_S = 0.5
"""How long requests under way may still take after Ctrl-C."""
REPORT_S = 2.0
"""How long the plugin has to say how the paths are."""
STATUS_S = 5.0
"""How long `aoe nbd` has to say it to a command that asks."""


# What must hold between times, and between them and bounds

assert SEND_BACKLOG_NS < limits.NETWORK_LIFETIME_NS, (
    "what waits here is not older than a network lets it be (I2)"
)
assert CLOCK_STEP_NS < FRAME_AGE_DEFAULT_S * 1e9, "a stepped clock is noticed before it spoils the age (T3)"
assert limits.RTO_MIN_NS <= limits.RTO_CALM_NS <= limits.RTO_FIRST_NS <= limits.RTO_MAX_NS
assert (limits.COPIES_MAX - (limits.RTO_MAX_NS // limits.RTO_MIN_NS).bit_length()) * limits.RTO_MAX_NS > (
    limits.NETWORK_LIFETIME_NS + limits.FOREIGN_AGE_NS + limits.COMPLETION_NS
), "a copy that is forgotten can do nothing any more (I2)"
assert limits.SWEEP_NS < limits.NETWORK_LIFETIME_NS, "what time settles is looked at in time"
assert limits.DRAIN_NS < limits.NETWORK_LIFETIME_NS, "a question settles sooner than time does"
assert limits.STREAM_AGAIN_NS >= limits.NETWORK_LIFETIME_NS + FRAME_AGE_DEFAULT_S * 1e9, (
    "a place is free by then (T9)"
)
assert limits.PROBE_NS < limits.DEAD_NS <= limits.SLOW_NS, "a server is asked before it counts as dead"
assert limits.PULSE_NS < limits.GAP_NS < limits.DEAD_NS, (
    "a process that stood still does not take that for its server's silence"
)
assert limits.SETTLE_IN_NS < limits.QUERY_MAX_NS
assert limits.QUERY_FIRST_NS <= limits.QUERY_MAX_NS <= limits.QUERY_IDLE_NS
assert limits.SIZE_WAIT_NS <= limits.SIZE_WAIT_MAX_NS < limits.SIZE_AGAIN_NS
assert limits.PROOF_AGAIN_NS < limits.PROOF_NS < limits.DEAD_NS, "a proof holds up no write for long"
assert limits.SPIN_US * 1000 < limits.RTO_MIN_NS
