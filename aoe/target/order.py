"""The order queue of one export (order rule T1).

A ticket is admitted on arrival, waits for the earlier tickets it must not overtake, then, if it changes what
a snapshot is to show, for that snapshot, then for its turn and a free place at the disk, and leaves when it
is done. Reads wait for overlapping changes, changes for anything that overlaps, a flush for every earlier
change, a barrier for everything (order rule T5).
"""

from collections.abc import Hashable, Iterable
from typing import Generic, NamedTuple, TypeVar

from aoe.limits import SPANS_MAX
from aoe.target.background import BACKGROUND_PASSED, Leeway, Rest
from aoe.target.cut import Cut
from aoe.target.depth import Depth
from aoe.target.turns import Turns
from aoe.wire.protocol import SECTOR

Job = TypeVar("Job")


class By(NamedTuple):
    """Which client a ticket is of, when its frame was received, and whether it can wait while others ask."""

    client: Hashable = None
    stamp_ns: int = 0
    background: bool = False


_NOBODY = By()


class Ticket(Generic[Job]):
    """A place in the queue. `spans` are sector ranges [start, end) rounded out to the disk's block."""

    __slots__ = ("by", "changes", "followers", "job", "spans", "waits")

    def __init__(self, job: Job, spans: tuple[tuple[int, int], ...], changes: bool, by: By = _NOBODY) -> None:
        self.job = job
        self.by = by
        self.spans = spans
        self.changes = changes
        self.waits = 0
        self.followers: list[Ticket[Job]] = []


class OrderQueue(Generic[Job]):
    """Which requests may run now. `block` is the disk's block in bytes, `places` how many run at a time at
    most, and `adapts` whether there are fewer while clients share it."""

    def __init__(self, block: int, places: int, adapts: bool = False) -> None:
        self._block_sectors = block // SECTOR
        self._places = places
        self._running = 0
        self.depth = Depth(places, adapts)
        self._pending: dict[Ticket[Job], None] = {}
        self._changes: dict[Ticket[Job], None] = {}
        self._ready: Turns[Ticket[Job]] = Turns()
        self._spare: Turns[Ticket[Job]] = Turns()
        """What can wait for others, too; how much of that is running, and how many others went before it."""
        self._spared = self._passed = 0
        self._leeway = Leeway()
        self._rest = Rest()
        self._cut: Cut[Ticket[Job]] | None = None
        self._before_cut: dict[Ticket[Job], None] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def share(self, leeway: Leeway) -> None:
        """What can wait does so for those of other exports, too."""
        self._leeway = leeway

    def tickets(self) -> list[Ticket[Job]]:
        """What was admitted and is not done."""
        return list(self._pending)

    @property
    def lets_read(self) -> bool:
        """Whether a read would wait neither for a change nor for a place at the disk."""
        return not self._changes and self._running < self.depth.now

    def admit(
        self,
        job: Job,
        extents: Iterable[tuple[int, int]],
        changes: bool,
        *,
        by: By = _NOBODY,
        held: bool = False,
    ) -> Ticket[Job]:
        """Queue a transfer; `extents` are (lba, sectors). One that is `held` also waits to be let go."""
        ticket = Ticket(job, self._spans(extents), changes, by)
        ticket.waits = int(held)
        rivals = self._pending if changes else self._changes
        self._enter(ticket, [other for other in rivals if _overlap(other, ticket)] if rivals else [])
        return ticket

    def let_go(self, ticket: Ticket[Job]) -> None:
        """One thing less that it waits for."""
        ticket.waits -= 1
        if not ticket.waits:
            self._free(ticket)

    def admit_flush(self, job: Job, *, by: By = _NOBODY, held: bool = False) -> Ticket[Job]:
        """Queue a flush behind every change admitted so far."""
        ticket = Ticket(job, (), False, by)
        ticket.waits = int(held)
        self._enter(ticket, list(self._changes))
        return ticket

    def admit_barrier(self, job: Job) -> None:
        """Queue something behind everything admitted so far."""
        self._enter(Ticket(job, (), False), list(self._pending))

    def take(self, late_ns: int = 0) -> Ticket[Job] | None:
        """The ticket that may run and has its turn, if there is a place for it. All are to be had while a
        change waits that was received before `late_ns`: it is not to become too old here (order rule T3)."""
        turns = self._turns(late_ns)
        if turns is None or self._running >= self._places:
            return None
        hurries = _hurries(self._ready, late_ns) or _hurries(self._spare, late_ns)
        if self._running >= self.depth.now and not hurries:
            return None
        self._running += 1
        ticket = turns.take()
        self._spared += ticket.by.background
        self._passed = self._passed + 1 if self._spare and not ticket.by.background else 0
        return ticket

    def _turns(self, late_ns: int) -> Turns[Ticket[Job]] | None:
        """Whose turn it is, of what can wait only as far as `Leeway` says; None: no one's."""
        others = self._ready or None
        if not self._spare:
            return others
        if _hurries(self._spare, late_ns):
            return self._spare
        if self._rest.until_ns and self._cut is None:  # a cut waits for changes
            return others
        most = self._leeway.now if others is None else 0
        has_passed = others is None or self._passed >= BACKGROUND_PASSED
        return self._spare if self._spared < most or (not self._spared and has_passed) else others

    def disk_did(self, now_ns: int) -> None:
        """A read or write that is running."""
        self.depth.ended(now_ns, self._running)

    def done(self, ticket: Ticket[Job], began_ns: int = 0, now_ns: int = 0) -> int:
        """Give a taken ticket's place back and let its followers on. It was at the disk from `began_ns` (0:
        it never was) to now (CLOCK_BOOTTIME). Until when what can wait rests for it, or 0: call `rested`
        then."""
        self._running -= 1
        rests = False
        if ticket.by.background:
            self._spared -= 1
            if began_ns:
                rests = self._rest.ended(began_ns, now_ns, self._leeway.grow(self._places))
        del self._pending[ticket]
        self._changes.pop(ticket, None)
        for follower in ticket.followers:
            self.let_go(follower)
        return self._rest.until_ns if rests else 0

    def rested(self, now_ns: int) -> None:
        """What can wait goes on, unless it rests longer meanwhile."""
        self._rest.over(now_ns)

    def _enter(self, ticket: Ticket[Job], before: list[Ticket[Job]]) -> None:
        ticket.waits += len(before)
        for other in before:
            other.followers.append(ticket)
        self._pending[ticket] = None
        if ticket.changes:
            self._changes[ticket] = None
        if not ticket.waits:
            self._free(ticket)

    def _free(self, ticket: Ticket[Job]) -> None:
        """It waits for nothing of the order any more."""
        cut = self._cut
        if cut is None or not ticket.changes or not cut.keeps(ticket, ticket.spans):
            self._may_go(ticket)

    def _may_go(self, ticket: Ticket[Job]) -> None:
        """As soon as it has its turn and a place."""
        if ticket.by.background:
            self._spare.add(ticket.by.client, ticket)
        else:
            self._leeway.end()
            self._ready.add(ticket.by.client, ticket)

    # A snapshot (aoe.target.cut)

    def cut(self, cut: Cut[Ticket[Job]]) -> None:
        """Changes go on only as it lets them; all that may run already do."""
        assert self._cut is None, "one at a time"
        self._cut = cut
        self._before_cut = {ticket: None for ticket in self._changes if not ticket.waits}

    @property
    def holds(self) -> bool:
        """Whether those that went on before a cut are over."""
        return self._before_cut.keys().isdisjoint(self._changes)

    def cloned(self, first: int, last: int) -> None:
        """A cut has these ranges."""
        assert self._cut is not None, "there is one"
        for ticket in self._cut.has(first, last):
            self._may_go(ticket)

    def end_cut(self) -> None:
        """Nothing waits for one any more."""
        cut, self._cut = self._cut, None
        for ticket in cut.end() if cut is not None else ():
            self._may_go(ticket)

    def _spans(self, extents: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """Many ranges count as all that lies between them: a comparison must stay short."""
        spans = tuple(self._round(lba, sectors) for lba, sectors in extents)
        if len(spans) <= SPANS_MAX:
            return spans
        return ((min(start for start, _ in spans), max(end for _, end in spans)),)

    def _round(self, lba: int, sectors: int) -> tuple[int, int]:
        block = self._block_sectors
        return lba // block * block, -(-(lba + sectors) // block) * block


def _hurries(turns: Turns[Ticket[Job]], late_ns: int) -> bool:
    return any(it.changes and it.by.stamp_ns < late_ns for it in turns.heads())


def _overlap(one: Ticket[Job], other: Ticket[Job]) -> bool:
    return any(a < d and c < b for a, b in one.spans for c, d in other.spans)
