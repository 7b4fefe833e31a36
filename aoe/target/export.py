"""One disk as the network sees it: its address, drive, AoE state and order queue."""

from collections import deque
from collections.abc import Hashable
from typing import NamedTuple

from aoe import limits
from aoe.drive import identify
from aoe.drive.command import CHANGES_DATA, Drive, Kind, Operation
from aoe.drive.identify import Identity
from aoe.errors import DiskError
from aoe.target.background import Background
from aoe.target.departures import Departures
from aoe.target.order import By, OrderQueue, Ticket
from aoe.target.rates import NONE, Limits, Rates
from aoe.target.state import AoeState, Verdict
from aoe.target.streams import Place, Streams
from aoe.target.work import ANSWERED, Work
from aoe.wire import protocol
from aoe.wire.ata import AtaRequest
from aoe.wire.frame import Header
from aoe.wire.stamp import Stamp

_PASSING = frozenset({Kind.READ, Kind.WRITE})
"""What takes a disk about as long each time."""


class Port:
    """An interface as the responder sees it. `mtu` is in bytes without the Ethernet header."""

    __slots__ = ("mac", "mtu", "name", "sectors", "suspect")

    def __init__(self, name: str, mac: bytes, mtu: int) -> None:
        self.name = name
        """Name of its link, for messages."""
        self.suspect = False
        """Whether what it still holds was stamped before a clock step."""
        self.change(mac, mtu)

    def change(self, mac: bytes, mtu: int) -> None:
        """The interface got another MAC or MTU."""
        self.mac = mac
        self.mtu = mtu
        self.sectors = protocol.sectors_per_frame(mtu)


class Arrival(NamedTuple):
    """Where a frame came from and when: what an answer needs besides the message. `judged` says that an
    engine took care of streams (order rule T9), and what an IDENTIFY came to there; `ticket` (0: none) is the
    place that the request has in the engine's order."""

    port: Port
    origin: Hashable
    header: Header
    frame: bytes
    stamp_ns: int
    era: int
    wildcard: bool
    judged: Place | None = None
    ticket: int = 0


class Job:
    """A disk operation on its way: what was asked, and of whom."""

    __slots__ = (
        "arrival",
        "durable",
        "export",
        "instance",
        "operation",
        "peeked",
        "request",
        "size",
        "submitted_ns",
        "ticket",
    )

    def __init__(
        self,
        export: "Export",
        arrival: Arrival,
        request: AtaRequest,
        operation: Operation,
        *,
        peeked: bool = False,
    ) -> None:
        self.export = export
        self.arrival = arrival
        self.request = request
        self.operation = operation
        self.durable = operation.fua or not export.identity.cache_on
        self.peeked = peeked
        """Whether the disk was asked a moment ago, and has to be waited for."""
        self.size = protocol.ATA_HEADER + len(operation.data)
        self.ticket: Ticket[Entry] | None = None
        self.submitted_ns = 0
        """To a disk that has to be waited for (CLOCK_BOOTTIME)."""
        self.instance: int | None = None
        """Which one a FLUSH is for; None where its client names none."""

    def ask_of(self, stamp: Stamp | None) -> None:
        """It is for the instance that a client of ours names."""
        self.instance = None if stamp is None else stamp.instance

    def answered(self, error: DiskError | None, now_ns: int, boottime_ns: int) -> None:
        """Now, by both clocks."""
        size = self.operation.moves if error is None else 0
        self.export.work.answered(ANSWERED[self.operation.kind], size, now_ns - self.arrival.stamp_ns)
        if self.submitted_ns:
            self.export.work.disk_took(boottime_ns - self.submitted_ns)
            if self.operation.kind in _PASSING:
                self.export.queue.disk_did(boottime_ns)


class Change:
    """A change of the AoE state on its way: acknowledged once it is persisted and drained (rule T5). Without
    an `arrival` it is the administrator's."""

    __slots__ = ("arrival", "before", "drained", "export", "failed", "persisted", "verdict")

    def __init__(self, export: "Export", arrival: Arrival | None, before: AoeState, verdict: Verdict) -> None:
        self.export = export
        self.arrival = arrival
        self.before = before
        self.verdict = verdict
        self.persisted = False
        self.drained = False
        self.failed = False


Entry = Job | Change


class Export:
    """`shelf.slot`, and everything that belongs to it alone. Others look at its fields, and change them by
    its verbs.

    `block` is the disk's block in bytes, `cache` whether the export was started in write-back mode, `direct`
    whether its requests go to the device itself.
    """

    def __init__(
        self,
        shelf: int,
        slot: int,
        identity: Identity,
        *,
        read_only: bool = False,
        block: int = protocol.SECTOR,
        state: AoeState | None = None,
        places: int = limits.DISK_WORKERS,
        direct: bool = False,
    ) -> None:
        self.shelf = shelf
        self.slot = slot
        self.key = shelf, slot
        self.identity = identity
        self.drive = Drive(identity.sectors, read_only, identity.trim_blocks)
        self.state = state or AoeState()
        self.queue: OrderQueue[Entry] = OrderQueue(block, places, direct)
        self.streams = Streams()
        self.work = Work()
        self.departures = Departures()
        self.background = Background()
        self.limits = NONE
        self.rates: Rates | None = None
        """What enforces them, if anything is limited."""
        self.flushes_asked = False
        """Whether an engine leaves each FLUSH to us, as it may have to fail."""
        self.remote_masks = True
        """Whether the network may change its mask list, where the target lets it at all."""
        self.only_on: frozenset[Port] | None = None
        """The ports it is served on, if not on all."""
        self.changing: Change | None = None
        self.waiting: deque[Arrival] = deque()
        self.jobs = 0
        """Disk operations admitted and not yet finished."""
        self.held_bytes = 0
        """Payload of those."""
        self.tickets = set[int]()
        """Of those, what an engine knows them by."""
        self._identify: bytes | None = None
        self._known: set[bytes] = set()

    @property
    def address(self) -> str:
        """`e<shelf>.<slot>`."""
        return f"e{self.shelf}.{self.slot}"

    def is_on(self, port: Port) -> bool:
        """Whether it is served there."""
        return self.only_on is None or port in self.only_on

    @property
    def identify(self) -> bytes:
        """The data of IDENTIFY DEVICE as things stand."""
        if self._identify is None:
            self._identify = identify.build(self.identity)
        return self._identify

    def identify_for(self, place: Place | None) -> bytes:
        """The same for an initiator whose stream is known or is not, or that named none (order rule T9)."""
        if place is Place.NONE:
            return identify.without_streams(self.identify)
        heeds = place in (Place.KNOWN, Place.ANEW)
        return identify.heeding(self.identify) if heeds else self.identify

    def describe(self, identity: Identity) -> None:
        """Replace what IDENTIFY says: the disk grew, the cache was switched."""
        self.identity = identity
        self.drive = self.drive._replace(sectors=identity.sectors)
        self._identify = None

    def restore(self, state: AoeState) -> None:
        """Be as it was when it was served last."""
        self.state = state

    def know(self, streams: Streams) -> None:
        """Go on with the streams that were known before (order rule T9)."""
        self.streams = streams

    def let_masks(self, allowed: bool) -> None:
        """Whether the network may change the mask list."""
        self.remote_masks = allowed

    def renew(self, instance: int) -> None:
        """It is another instance from now on: initiators ask again what they built on. Both may have requests
        for a moment."""
        self.describe(self.identity._replace(instance=instance, alone=False))

    def ask_flushes(self, asked: bool) -> None:
        """Whether an engine is to leave each FLUSH to us."""
        self.flushes_asked = asked

    def serve_on(self, ports: frozenset[Port] | None) -> None:
        """On these ports only from now on, or (None) on all."""
        self.only_on = ports

    def limit(self, limits: Limits) -> None:
        """Take no more than so much from now on; what was delayed begins as it would have."""
        if limits != self.limits:
            self.limits = limits
            self.rates = Rates(limits) if limits.any else None

    def set_read_only(self, read_only: bool) -> None:
        """Refuse what changes data from now on, or do it."""
        self.drive = self.drive._replace(read_only=read_only)

    def drain(self, on: bool, now_ns: int) -> None:
        """Tell initiators that they are to use another server, from now on (CLOCK_BOOTTIME), or no more."""
        if on != self.identity.draining:
            self.describe(self.identity._replace(draining=on))
            self.departures.begin(now_ns)

    def switch_cache(self, on: bool) -> None:
        """SET FEATURES 0x02 and 0x82; an export without a volatile cache stays without."""
        self.describe(self.identity._replace(cache_on=on and self.identity.cache))

    def meets(self, mac: bytes) -> bool:
        """Whether a host is seen for the first time; those beyond the bound never are."""
        if mac in self._known or len(self._known) >= limits.CLIENTS_KNOWN_MAX:
            return False
        self._known.add(mac)
        return True

    def admits(self, mac: bytes) -> bool:
        """Whether a host is served at all; during a change, under the old state and the new."""
        return self.state.admits(mac) and (self.changing is None or self.changing.before.admits(mac))

    def holds(self, mac: bytes) -> bool:
        """Whether a host may do I/O; during a change, under the old state and the new."""
        return self.state.holds(mac) and (self.changing is None or self.changing.before.holds(mac))

    # Disk operations

    def begin(self, job: Job, client: bytes, *, held: bool = False) -> "Ticket[Entry]":
        """One of a client is admitted: it gets its place in the order, and waits there also until its ticket
        is let go if it is `held`."""
        kind, extents = job.operation.kind, job.operation.extents
        if kind in (Kind.CACHE_ON, Kind.CACHE_OFF):
            self.switch_cache(kind is Kind.CACHE_ON)
        self.jobs += 1
        self.held_bytes += job.size
        self.tickets |= {job.arrival.ticket} - {0}
        by = By(client, job.arrival.stamp_ns, job.arrival.header.src in self.background)
        if extents:
            return self.queue.admit(job, extents, kind in CHANGES_DATA, by=by, held=held)
        return self.queue.admit_flush(job, by=by, held=held)

    def take(self, late_ns: int) -> Entry | None:
        """The next for which it is time: a job, which has its ticket then; or a change, before which all is
        over. What changes and was received before `late_ns` does not wait for others' sake."""
        ticket = self.queue.take(late_ns)
        if ticket is None:
            return None
        entry = ticket.job
        if isinstance(entry, Change):
            self.queue.done(ticket)
            entry.drained = True
        else:
            entry.ticket = ticket
        return entry

    def finish(self, job: Job, now_ns: int) -> int:
        """One that was taken is over now (CLOCK_BOOTTIME): those that waited for it may go. Until when what
        can wait rests for it, or 0."""
        assert job.ticket is not None, "a job that was never submitted cannot finish"
        rests_ns = self.queue.done(job.ticket, job.submitted_ns, now_ns)
        self.jobs -= 1
        self.held_bytes -= job.size
        self.tickets.discard(job.arrival.ticket)
        return rests_ns

    # Changes of the AoE state

    def change(self, change: Change) -> None:
        """One is on its way: it is in force for what arrives, and over when all before it is."""
        assert self.changing is None, "one at a time"
        self.changing = change
        self.state = change.verdict.state
        self.queue.admit_barrier(change)

    def revert(self, change: Change) -> None:
        """It could not be stored."""
        assert self.changing is change, "it is on its way"
        change.failed = True
        self.state = change.before

    def settle(self) -> None:
        """The change is acknowledged."""
        self.changing = None

    def postpone(self, arrival: Arrival) -> bool:
        """Keep a message until the change is acknowledged; false if there is no room."""
        room = len(self.waiting) < limits.ADMIN_QUEUE_MAX
        if room:
            self.waiting.append(arrival)
        return room

    def resume(self) -> Arrival | None:
        """The next message that was kept, unless another change is on its way."""
        return self.waiting.popleft() if self.waiting and self.changing is None else None

    @property
    def busy(self) -> bool:
        """Whether something that was admitted is not over yet."""
        return bool(self.jobs or self.changing or self.waiting)

    def matches(self, shelf: int, slot: int) -> bool:
        """Whether an address, wildcards included, means this export."""
        return shelf in (self.shelf, protocol.SHELF_ALL) and slot in (self.slot, protocol.SLOT_ALL)
