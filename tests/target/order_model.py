"""Plays an order queue against a slow but plain statement of order rule T1, and of turns beside it."""

import random
from collections import Counter
from typing import NamedTuple

from aoe.limits import SPANS_MAX
from aoe.target.order import By, OrderQueue, Ticket

BLOCK_SECTORS = 8
DISK_BLOCKS = 12
CLIENTS = "abc"


class OrderBroken(AssertionError):
    """The queue let something run that had to wait, or kept waiting what had not, or too long for others."""


class Op(NamedTuple):
    """Something that a client had admitted, or (a barrier) nobody. `number` counts admissions, `touches` are
    the blocks it needs; of a TRIM of many ranges all that lies between them."""

    number: int
    kind: str
    extents: tuple[tuple[int, int], ...]
    client: str | None

    @property
    def touches(self) -> frozenset[int]:
        extents = self.extents
        if len(extents) > SPANS_MAX:
            first = min(lba for lba, _ in extents)
            extents = ((first, max(lba + sectors for lba, sectors in extents) - first),)
        return frozenset(
            sector // BLOCK_SECTORS for lba, sectors in extents for sector in range(lba, lba + sectors)
        )


def must_wait(later: Op, earlier: Op) -> bool:
    """Rule T1, and T5 for the barrier."""
    if later.kind == "barrier":
        return True
    if later.kind == "flush":
        return earlier.kind == "change"
    changes = "change" in (later.kind, earlier.kind)
    return changes and not later.touches.isdisjoint(earlier.touches)


class Play:
    """Random operations in, in random completion order out, and everything compared with the rule."""

    def __init__(self, queue_class: type[OrderQueue[Op]], seed: int, places: int = 3) -> None:
        self.rng = random.Random(seed)
        self.queue = queue_class(BLOCK_SECTORS * 512, places)
        self.places = places
        self.waiting: dict[Op, set[Op]] = {}
        self.ready: list[Op] = []
        self.ahead: dict[Op, int] = {}
        """Of the same client, when it became ready."""
        self.went: dict[Op, Counter[str | None]] = {}
        """Of which clients others were started since then."""
        self.active: dict[Op, Ticket[Op]] = {}
        self.count = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            if self.rng.random() < 0.55:
                self.admit()
            else:
                self.finish()
            self.start()
        while self.active:
            self.finish()
            self.start()
        self.expect(not self.waiting and not self.ready and not len(self.queue), "something is left for ever")

    def admit(self) -> None:
        op = self.make()
        if op.kind == "barrier":
            self.queue.admit_barrier(op)
        elif op.kind == "flush":
            self.queue.admit_flush(op, by=By(op.client))
        else:
            self.queue.admit(op, op.extents, op.kind == "change", by=By(op.client))
        before = {other for other in self.unfinished() if must_wait(op, other)}
        if before:
            self.waiting[op] = before
        else:
            self.may_go(op)

    def may_go(self, op: Op) -> None:
        self.ahead[op] = sum(other.client == op.client for other in self.ready)
        self.went[op] = Counter()
        self.ready.append(op)

    def make(self) -> Op:
        self.count += 1
        kind = self.rng.choices(["change", "read", "flush", "barrier"], [5, 5, 1, 0.5])[0]
        extents = []
        for _ in range(self.rng.choice([1, 1, 1, 4, SPANS_MAX + 2])):
            lba = self.rng.randrange(DISK_BLOCKS * BLOCK_SECTORS - 20)
            extents.append((lba, self.rng.choice([1, 2, 8, 20])))
        client = None if kind == "barrier" else self.rng.choices(CLIENTS, (8, 2, 1))[0]
        return Op(self.count, kind, tuple(extents) if kind in ("change", "read") else (), client)

    def unfinished(self) -> list[Op]:
        return [*self.waiting, *self.ready, *self.active]

    def start(self) -> None:
        while (ticket := self.queue.take()) is not None:
            op = ticket.job
            self.expect(op in self.ready, f"{op} had to wait for {self.waiting.get(op)}")
            first = next(other for other in self.ready if other.client == op.client)
            self.expect(op == first, f"{op} overtook {first}")
            self.ready.remove(op)
            self.take_turns(op)
            self.active[op] = ticket
            self.expect(len(self.active) <= self.places, "more run than there are places")
        self.expect(not self.ready or len(self.active) == self.places, f"{self.ready} might have run")

    def take_turns(self, op: Op) -> None:
        """Nothing waits for more than one of another client each time that its own client has a turn."""
        for other in self.ready:
            self.went[other][op.client] += 1
            most = self.ahead[other] + 1
            self.expect(self.went[other][op.client] <= most, f"{op} went before {other} out of turn")

    def finish(self) -> None:
        if not self.active:
            return
        op = self.rng.choice(list(self.active))
        self.queue.done(self.active.pop(op))
        for later, before in list(self.waiting.items()):
            before.discard(op)
            if not before:
                del self.waiting[later]
                self.may_go(later)

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            raise OrderBroken(what)


def play(queue_class: type[OrderQueue[Op]], seeds: range, steps: int = 120) -> None:
    for seed in seeds:
        Play(queue_class, seed, places=1 + seed % 4).run(steps)
