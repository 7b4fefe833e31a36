"""Plays a cut of a disk that is written at random, and compares the snapshot with the disk of its moment."""

import random
from collections.abc import Callable
from typing import NamedTuple

from aoe.target.cut import Cut
from aoe.target.order import OrderQueue, Ticket

SECTORS = 64
RANGE = 4
"""Sectors."""


class CutBroken(AssertionError):
    """The snapshot is not what the disk was, or something waits for ever."""


class Write(NamedTuple):
    """It leaves its number in all that it touches."""

    number: int
    extents: tuple[tuple[int, int], ...]


Running = Ticket[Write]
Made = Callable[[int, int], Cut[Running]]


class Play:
    """Writes come, go to the disk sector by sector, and are acknowledged; ranges are cloned the same way. The
    last range of the disk is half of one, and behind what is cut it has some sectors more."""

    def __init__(self, made: Made, seed: int) -> None:
        self.rng = random.Random(seed)
        self.queue: OrderQueue[Write] = OrderQueue(512, places=3)
        self.disk = [0] * (SECTORS + 6)
        self.snapshot: list[int | None] = [None] * (SECTORS + 2)
        self.cut = made(512 * len(self.snapshot), 512 * RANGE)
        self.expected: list[int] = []
        self.acknowledged: set[int] = set()
        self.running: dict[Running, list[int]] = {}
        self.cloning: list[int] = []
        """Sectors that are still to be, of the range that is."""
        self.range = -1
        self.number = 0

    def run(self, steps: int) -> None:
        for _ in range(steps // 3):
            self.step()
        self.queue.cut(self.cut)
        while not self.queue.holds:
            self.step()
        self.expected = self.disk[: len(self.snapshot)]
        while self.cut.left:
            self.clone()
            self.step()
        self.queue.end_cut()
        self.start()
        while self.running:
            self.finish()
        self.expect(not len(self.queue), "a write waits for ever")
        self.expect(self.snapshot == self.expected, "the snapshot is not of one moment")

    def step(self) -> None:
        if self.rng.random() < 0.3:
            self.admit()
        self.start()
        if self.running and self.rng.random() < 0.8:
            ticket = self.rng.choice(list(self.running))
            self.write(ticket)

    def start(self) -> None:
        while (ticket := self.queue.take()) is not None:
            touched = [it for lba, n in ticket.job.extents for it in range(lba, lba + n)]
            self.running[ticket] = touched

    def admit(self) -> None:
        self.number += 1
        extents = []
        for _ in range(self.rng.choice([1, 1, 1, 3, 9])):
            lba = self.rng.randrange(len(self.disk))
            extents.append((lba, self.rng.randint(1, min(9, len(self.disk) - lba))))
        self.queue.admit(Write(self.number, tuple(extents)), extents, True)

    def write(self, ticket: Running) -> None:
        if self.running[ticket]:
            at = self.running[ticket].pop()
            self.disk[at] = ticket.job.number
            self.expect(at not in self.cloning, "a range changes while it is cloned")
        else:
            del self.running[ticket]
            self.queue.done(ticket)

    def finish(self) -> None:
        for ticket in list(self.running):
            while ticket in self.running:
                self.write(ticket)
        self.start()

    def clone(self) -> None:
        if self.cloning:
            at = self.cloning.pop()
            self.snapshot[at] = self.disk[at]
        elif self.range >= 0:
            self.queue.cloned(self.range, self.range + 1)
            self.range = -1
        elif self.rng.random() < 0.7:
            self.range = self.cut.following if self.cut.needed < 0 else self.cut.needed
            start = self.range * RANGE
            self.cloning = list(range(start, min(start + RANGE, len(self.snapshot))))

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            raise CutBroken(what)
