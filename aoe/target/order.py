"""The order queue of one export (order rule T1).

A ticket is admitted on arrival, waits for the earlier tickets it must not overtake, then for a free
place at the disk, and leaves when it is done. Reads wait for overlapping changes, changes for anything
that overlaps, a flush for every earlier change, a barrier for everything (order rule T5).
"""

from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from aoe.limits import SPANS_MAX
from aoe.wire.protocol import SECTOR

Job = TypeVar("Job")


class Ticket(Generic[Job]):
    """A place in the queue. `spans` are sector ranges [start, end) rounded out to the disk's block."""

    __slots__ = ("changes", "followers", "job", "spans", "waits")

    def __init__(self, job: Job, spans: tuple[tuple[int, int], ...], changes: bool) -> None:
        self.job = job
        self.spans = spans
        self.changes = changes
        self.waits = 0
        self.followers: list[Ticket[Job]] = []


class OrderQueue(Generic[Job]):
    """Which requests may run now. `block` is the disk's block in bytes, `places` how many run at a time."""

    def __init__(self, block: int, places: int) -> None:
        self._block_sectors = block // SECTOR
        self._free = places
        self._pending: dict[Ticket[Job], None] = {}
        self._changes: dict[Ticket[Job], None] = {}
        self._ready: deque[Ticket[Job]] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    def tickets(self) -> list[Ticket[Job]]:
        """What was admitted and is not done."""
        return list(self._pending)

    @property
    def lets_read(self) -> bool:
        """Whether a read would wait neither for a change nor for a place at the disk."""
        return not self._changes and self._free > 0

    def admit(
        self, job: Job, extents: Iterable[tuple[int, int]], changes: bool, *, held: bool = False
    ) -> Ticket[Job]:
        """Queue a transfer; `extents` are (lba, sectors). One that is `held` also waits to be let go."""
        ticket = Ticket(job, self._spans(extents), changes)
        ticket.waits = int(held)
        rivals = self._pending if changes else self._changes
        self._enter(ticket, [other for other in rivals if _overlap(other, ticket)] if rivals else [])
        return ticket

    def let_go(self, ticket: Ticket[Job]) -> None:
        """One thing less that it waits for."""
        ticket.waits -= 1
        if not ticket.waits:
            self._ready.append(ticket)

    def admit_flush(self, job: Job, *, held: bool = False) -> Ticket[Job]:
        """Queue a flush behind every change admitted so far."""
        ticket = Ticket(job, (), False)
        ticket.waits = int(held)
        self._enter(ticket, list(self._changes))
        return ticket

    def admit_barrier(self, job: Job) -> None:
        """Queue something behind everything admitted so far."""
        self._enter(Ticket(job, (), False), list(self._pending))

    def take(self) -> Ticket[Job] | None:
        """The oldest ticket that may run, if there is one and a place for it."""
        if not self._ready or not self._free:
            return None
        self._free -= 1
        return self._ready.popleft()

    def done(self, ticket: Ticket[Job]) -> None:
        """Give a taken ticket's place back and let its followers on."""
        self._free += 1
        del self._pending[ticket]
        self._changes.pop(ticket, None)
        for follower in ticket.followers:
            self.let_go(follower)

    def _enter(self, ticket: Ticket[Job], before: list[Ticket[Job]]) -> None:
        ticket.waits += len(before)
        for other in before:
            other.followers.append(ticket)
        self._pending[ticket] = None
        if ticket.changes:
            self._changes[ticket] = None
        if not ticket.waits:
            self._ready.append(ticket)

    def _spans(self, extents: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Many ranges count as all that lies between them: a comparison must stay short."""
        spans = tuple(self._round(lba, sectors) for lba, sectors in extents)
        if len(spans) <= SPANS_MAX:
            return spans
        return ((min(start for start, _ in spans), max(end for _, end in spans)),)

    def _round(self, lba: int, sectors: int) -> tuple[int, int]:
        block = self._block_sectors
        return lba // block * block, -(-(lba + sectors) // block) * block


def _overlap(one: Ticket[Job], other: Ticket[Job]) -> bool:
    return any(a < d and c < b for a, b in one.spans for c, d in other.spans)
