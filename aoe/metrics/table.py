"""Every number that a target has, once: its name, type, unit and meaning, and where it stands in C.

The manual, the text for Prometheus and `aoe-target status` are made of these rows, and so are the
enumerations in `csrc/shared/generated.h` (`python -m csrc.generate`): both engines have the numbers of an
export and of a client in arrays, each at the place of its row. `aoe.metrics.snapshot` tells how they are
read.
"""

import enum
from collections.abc import Iterator
from typing import NamedTuple

from aoe.limits import LATENCY_BUCKETS, LATENCY_FIRST_BITS, LATENCY_STEP_BITS


class Scope(enum.StrEnum):
    """Whose number it is."""

    TARGET = "target"
    LINK = "link"
    EXPORT = "export"
    CLIENT = "client"
    THREAD = "thread"


class Type(enum.StrEnum):
    """What may be done with it: counters only rise, a gauge says how it is now."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Unit(enum.StrEnum):
    """What one of it is. Times are kept in nanoseconds."""

    FRAMES = "frames"
    REQUESTS = "requests"
    TIMES = "times"
    BYTES = "bytes"
    NANOSECONDS = "nanoseconds"
    CLIENTS = "clients"
    BOOLEAN = "boolean"


class Row(NamedTuple):
    """One number, which its scope and name tell apart; a histogram is LATENCY_BUCKETS counts and then the
    sum.

    What is told of together has one `family`, and is told apart there by a `label` whose value is the name
    (empty: it is a family of its own). `at` is where it stands in the array of its scope: of an export,
    client or thread, or of those that the engine's threads count for the target (-1: Python alone does).
    """

    scope: Scope
    name: str
    type: Type
    unit: Unit
    help: str
    family: str
    label: str
    at: int

    @property
    def places(self) -> range:
        """What it takes of the array."""
        width = LATENCY_BUCKETS + 1 if self.type is Type.HISTOGRAM else 1
        return range(self.at, self.at + width)


BUCKETS = tuple(1 << LATENCY_FIRST_BITS + LATENCY_STEP_BITS * bucket for bucket in range(LATENCY_BUCKETS - 1))
"""Of a histogram, the longest time of each bucket (nanoseconds): powers of four, from 8.2 us to 8.6 s. The
last bucket has what took longer."""


def bucket_of(ns: int) -> int:
    """In which bucket a time is counted; below 0, as after a step of the clock, in the first."""
    if ns <= 1 << LATENCY_FIRST_BITS:
        return 0
    at = ((ns - 1).bit_length() - LATENCY_FIRST_BITS + LATENCY_STEP_BITS - 1) // LATENCY_STEP_BITS
    return min(at, LATENCY_BUCKETS - 1)


class _Given(NamedTuple):
    """A row without its place."""

    name: str
    help: str
    family: str
    label: str = ""
    unit: Unit = Unit.FRAMES
    type: Type = Type.COUNTER
    in_c: bool = False


_TOLD_APART = {"requests": "kind", "engine_requests": "kind", "errors": "reason", "dropped": "reason"}


def _of(family: str, unit: Unit, texts: dict[str, str], in_c: str = "") -> Iterator[_Given]:
    for name, text in texts.items():
        yield _Given(name, text, family, _TOLD_APART[family], unit, in_c=name in in_c.split())


_ASKED = {
    "reads": "READ commands that were given to a disk.",
    "writes": "WRITE commands that were given to a disk.",
    "flushes": "FLUSH commands that were given to a disk.",
    "trims": "TRIM commands that were given to a disk.",
    "verifies": "READ VERIFY commands that were given to a disk.",
    "identify": "IDENTIFY commands that were answered.",
    "no_data_commands": "Other ATA commands that move no data.",
    "cache_on": "Times that a client switched the write cache on.",
    "cache_off": "Times that a client switched the write cache off.",
    "queries": "Config, mask and reserve messages that were answered and changed nothing.",
    "changes": "Config, mask and reserve messages that changed something.",
}
_BY_ENGINE = {
    "engine_reads": "READ commands that the compiled engine did alone.",
    "engine_writes": "WRITE commands that the compiled engine did alone.",
    "engine_flushes": "FLUSH commands that the compiled engine did alone.",
    "engine_handed_up": "Frames that the compiled engine left to Python.",
}
_FAILED = {
    "refused_ata": "ATA commands that were answered with an error: past the end of the disk, not "
    "supported, or a write to a read-only disk.",
    "refused_admin": "Config, mask and reserve messages that were refused.",
    "disk_errors": "Requests that a disk failed.",
    "engine_disk_errors": "Transfers that failed in the compiled engine. Python then tries them again.",
    "state_not_saved": "Changes that could not be kept in the state directory, and were refused.",
    "address_claimed": "Answers of another target for one of our addresses.",
    "clock_stepped": "Times that the clock of the system jumped. Writes that waited then are expired.",
    "engine_clock_stepped": "The same, as seen by the compiled engine.",
    "send_lost": "Replies of the compiled engine that an interface did not take.",
    "reserved": "Commands that were refused because another host holds the reservation.",
    "bad_version": "Frames of another AoE version. They are answered with an AoE error.",
    "unknown_command": "AoE commands that do not exist. They are answered with an AoE error.",
}
_DROPPED = {
    "masked": "Frames of hosts that are not in the mask list.",
    "expired": "Writes that waited longer than --max-frame-age.",
    "stale": "Copies of requests that our initiator has finished with, or that it sent to an earlier run of "
    "the target.",
    "limited": "Requests over a limit of their disk or host (--limit-iops and the like) that it would have "
    "delayed for too long. The client asks again.",
    "queue_full": "Frames that found the queue of their disk full. The client asks again; a smaller "
    "--buffer-count helps.",
    "ring_full": "Frames that the kernel dropped because the receive ring was full. The client asks again; a "
    "smaller --buffer-count helps.",
    "paced_queue_full": "Answers to broadcasts that found too many others waiting to be sent.",
    "no_thread": "Requests for which no thread could be started. The client asks again.",
    "config_mismatch": "Tests of a config string that is another one.",
    "wildcard": "Messages to all shelves or slots that are answered for one only.",
    "other_address": "Frames for another shelf or slot.",
    "other_host": "Frames for another MAC, which an interface in promiscuous mode sees.",
    "foreign_destination": "Frames for another MAC that the interface let through.",
    "group_source": "Frames whose source address is not that of a host.",
    "response": "Frames that are answers, not requests.",
    "runt": "Frames that are too short to be AoE.",
    "truncated": "Frames that are shorter than the message that they claim to be.",
    "wrong_ethertype": "Frames that are not AoE.",
    "lying_length": "Messages whose string or list is longer than the frame.",
    "mtu_too_small": "Requests that came over an interface whose MTU has no room for one sector.",
    "reply_too_long": "Questions for a list that does not fit the MTU.",
}
_LINK = {
    "receive_error": "Errors of the socket.",
    "receive_too_long": "Frames that are longer than the MTU.",
    "other_host": "Frames for other hosts.",
    "queue_full": "Datagrams that came faster than they were read.",
    "not_a_peer": "Datagrams of hosts that are not named as a peer.",
    "rebound": "Times that the interface was lost and came back.",
    "send_queue_full": "Replies of Python that found the send queue full.",
    "send_too_late": "Replies of Python that waited too long for room in the send queue.",
    "send_no_buffer": "Replies of Python for which the kernel had no memory.",
    "send_link_down": "Replies of Python while the link was down.",
    "send_too_long": "Replies of Python that were longer than the MTU.",
}


def _target() -> Iterator[_Given]:
    yield from _of("requests", Unit.REQUESTS, _ASKED)
    yield from _of("engine_requests", Unit.REQUESTS, _BY_ENGINE, " ".join(_BY_ENGINE))
    yield from _of("errors", Unit.TIMES, _FAILED, "engine_disk_errors engine_clock_stepped send_lost")
    in_c = "masked expired stale limited queue_full ring_full other_address other_host foreign_destination "
    yield from _of("dropped", Unit.FRAMES, _DROPPED, in_c + "group_source")


_ANSWERED = {
    "reads": "READ commands that were answered.",
    "writes": "WRITE commands that were answered.",
    "flushes": "FLUSH commands that were answered.",
    "trims": "TRIM commands that were answered.",
    "verifies": "READ VERIFY commands that were answered.",
    "cache_on": _ASKED["cache_on"],
    "cache_off": _ASKED["cache_off"],
    "identify": _ASKED["identify"],
    "no_data_commands": _ASKED["no_data_commands"],
    "queries": _ASKED["queries"],
    "changes": _ASKED["changes"],
}
_FAILED_OF_EXPORT = (
    *("refused_ata", "refused_admin", "disk_errors", "state_not_saved", "address_claimed", "send_lost"),
    *("reserved", "bad_version", "unknown_command"),
)
_DROPPED_OF_EXPORT = (
    *("masked", "expired", "stale", "limited", "queue_full", "no_thread", "config_mismatch", "wildcard"),
    *("truncated", "lying_length", "mtu_too_small", "reply_too_long"),
)


def _histogram(name: str, text: str) -> _Given:
    return _Given(name, text, name, unit=Unit.NANOSECONDS, type=Type.HISTOGRAM)


def _export() -> Iterator[_Given]:
    yield from _of("requests", Unit.REQUESTS, _ANSWERED)
    yield from _of("errors", Unit.TIMES, {name: _FAILED[name] for name in _FAILED_OF_EXPORT})
    yield from _of("dropped", Unit.FRAMES, {name: _DROPPED[name] for name in _DROPPED_OF_EXPORT})
    yield _Given("read_bytes", "Bytes that were read for clients.", "read", unit=Unit.BYTES)
    yield _Given("written_bytes", "Bytes that clients wrote.", "written", unit=Unit.BYTES)
    yield _histogram("reply", "From the kernel's receipt of a request that touches data to its answer.")
    yield _histogram(
        "disk",
        "How long the disk took for one. Neither a read out of the page cache is there nor a disk in memory.",
    )
    yield _Given("queue", "Requests under way.", "queue", unit=Unit.REQUESTS, type=Type.GAUGE)
    yield _Given(
        "clients", "Clients with numbers of their own.", "clients", unit=Unit.CLIENTS, type=Type.GAUGE
    )
    yield _Given(
        "failed", "1: the disk has failed, or is gone.", "failed", unit=Unit.BOOLEAN, type=Type.GAUGE
    )
    yield _Given("size", "Size of the disk.", "size", unit=Unit.BYTES, type=Type.GAUGE)


def _client() -> Iterator[_Given]:
    yield _Given("requests", "Requests that touch data and were admitted.", "requests", unit=Unit.REQUESTS)
    yield _Given("read_bytes", "Bytes that it asked to read.", "read", unit=Unit.BYTES)
    yield _Given("written_bytes", "Bytes that it asked to write.", "written", unit=Unit.BYTES)
    yield _Given(
        "repeated",
        "Requests with a tag that it had used just before: sent again, or doubled by the "
        "network. Most clients send again with another tag.",
        "repeated",
        unit=Unit.REQUESTS,
    )
    yield _Given(
        "heard",
        "When it was admitted something last (CLOCK_BOOTTIME).",
        "heard",
        unit=Unit.NANOSECONDS,
        type=Type.GAUGE,
    )


def _thread() -> Iterator[_Given]:
    yield _Given("busy", "Time in which a thread had something to do.", "busy", unit=Unit.NANOSECONDS)
    yield _Given("idle", "Time in which it waited for that, asleep or ready.", "idle", unit=Unit.NANOSECONDS)


def _rows(scope: Scope, given: Iterator[_Given]) -> Iterator[Row]:
    """Each behind the last one that the engine has, too."""
    next_at = 0
    for one in given:
        in_array = one.in_c or scope not in (Scope.TARGET, Scope.LINK)
        at = next_at if in_array else -1
        row = Row(scope, one.name, one.type, one.unit, one.help, one.family, one.label, at)
        next_at += len(row.places) if in_array else 0
        yield row


TARGET = tuple(_rows(Scope.TARGET, _target()))
LINK = tuple(_rows(Scope.LINK, _of("errors", Unit.TIMES, _LINK)))
EXPORT = tuple(_rows(Scope.EXPORT, _export()))
CLIENT = tuple(_rows(Scope.CLIENT, _client()))
THREAD = tuple(_rows(Scope.THREAD, _thread()))
ROWS = (*TARGET, *LINK, *EXPORT, *CLIENT, *THREAD)


def length_of(rows: tuple[Row, ...]) -> int:
    """How many numbers an array has that has all of them."""
    return max(row.places.stop for row in rows)


def place_of(rows: tuple[Row, ...], name: str) -> int:
    """Where the number of that name is, or the first one of a histogram."""
    return next(row.at for row in rows if row.name == name)


COUNTERS = {row.name: row.help for row in TARGET}
"""What each counter of a target means, by its name."""

WORK = frozenset(row.name for row in TARGET if row.family in ("requests", "engine_requests"))
"""Numbers of the target that tell what was asked for and done; the others count what went wrong, or was
refused or dropped."""
