"""A world of delays for order rule T3: an old copy of a write must never land.

Hosts write version after version of their blocks and repeat what is not answered. The copies lie in the
receive buffers while the process is paused, in the queue while the disk hangs, and the clock is stepped.
True time is what CLOCK_BOOTTIME shows; the kernel stamps frames with CLOCK_REALTIME.
"""

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from aoe.target.age import AgeGate
from aoe.target.effects import Send, Submit
from aoe.target.export import Job, Port
from aoe.target.responder import Responder
from tests.target.driver import MS, SECOND, START_NS, make_driver, make_export, write

BOUND_NS = SECOND
BLOCKS_EACH = 3
BLOCK_SECTORS = 8


class StaleWrite(AssertionError):
    """A write landed that was received longer ago than the bound allows."""


class Copy(NamedTuple):
    """One transmission. `arrived_ns` is true time, `stamp_ns` what the kernel wrote down."""

    raw: bytes
    tag: int
    arrived_ns: int
    stamp_ns: int


class Block:
    """A block and its only writer: version `acked` + 1 is on its way, in copies with different tags."""

    def __init__(self, lba: int, mac: bytes) -> None:
        self.lba = lba
        self.mac = mac
        self.acked = 0

    def data(self, version: int) -> bytes:
        return version.to_bytes(8, "big").ljust(512 * BLOCK_SECTORS, b"\xa5")


class World:
    """Runs on a heap of events. `seen` counts what happened, so that a test can tell that it did."""

    def __init__(self, make: Callable[[Responder], Responder], seed: int) -> None:
        self.rng = random.Random(seed)
        exports = make_export(sectors=1 << 12, block=4096, places=2)
        driver = make_driver(exports, ports=2, frame_age_ns=BOUND_NS)
        self.responder = make(driver.responder)
        self.buffers: dict[Port, deque[Copy]] = {port: deque() for port in self.responder.ports}
        self.now_ns = 0
        self.offset_ns = START_NS
        self.looked = False
        self.seen: Counter[str] = Counter()
        self.blocks = [
            Block(BLOCK_SECTORS * number, bytes((2, 0, 0, 0, 0, number // BLOCKS_EACH)))
            for number in range(3 * BLOCKS_EACH)
        ]
        self.copies: dict[int, tuple[Block, int, int]] = {}
        self._tags = itertools.count(1)
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def run(self, seconds: int) -> None:
        for block in self.blocks:
            self._later(self.rng.randrange(100 * MS), lambda block=block: self._send(block, 1))  # type: ignore[misc]
        self._later(0, self._pass)
        self._later(0, self._step_clock)
        while self._events[0][0] < seconds * SECOND:
            self.now_ns, _, event = heapq.heappop(self._events)
            event()
        self.seen.update(self.responder.counters)

    @property
    def realtime_ns(self) -> int:
        return self.now_ns + self.offset_ns

    def _later(self, delay_ns: int, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ns + delay_ns, next(self._order), event))

    def _chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    # Hosts and network

    def _send(self, block: Block, version: int) -> None:
        """Send, and again after a while unless it was answered: each time with a new tag."""
        if block.acked >= version:
            return
        for _ in range(2 if self._chance(0.1) else 1):
            self._transmit(block, version)
        wait_ns = self.rng.choice([100, 300, 1000]) * MS
        self._later(wait_ns, lambda: self._send(block, version))

    def _transmit(self, block: Block, version: int) -> None:
        port = self.rng.choice(self.responder.ports)
        tag = next(self._tags)
        raw = write(block.lba, block.data(version), dst=port.mac, src=block.mac, tag=tag)
        if not self._chance(0.05):
            self._later(self.rng.randrange(5 * MS), lambda: self._arrive(port, raw, tag, block, version))

    def _arrive(self, port: Port, raw: bytes, tag: int, block: Block, version: int) -> None:
        self.copies[tag] = block, version, self.now_ns
        if len(self.buffers[port]) < 200:
            self.buffers[port].append(Copy(raw, tag, self.now_ns, self.realtime_ns))

    def _answered(self, raw: bytes) -> None:
        block, version, _ = self.copies[int.from_bytes(raw[20:24], "big")]
        if raw[27] == 0x40 and block.acked < version:
            block.acked = version
            self.seen["acknowledged"] += 1
            pause_ns = self.rng.randrange(200 * MS)
            self._later(pause_ns, lambda: self._send(block, version + 1))

    # The process

    def _pass(self) -> None:
        """Take what the buffers hold, interface by interface; now and then after a long pause."""
        self._look_at_clocks()
        for port in self.rng.sample(self.responder.ports, 2):
            taken, self.buffers[port] = self.buffers[port], deque()
            for copy in taken:
                self._perform(self.responder.receive(port, None, copy.raw, copy.stamp_ns, self.realtime_ns))
            self.responder.drained(port)
        paused = self._chance(0.02)
        self._later(self.rng.randrange(4 * SECOND) if paused else self.rng.randrange(1, 20 * MS), self._pass)

    def _look_at_clocks(self) -> None:
        self.responder.clock(self.realtime_ns, self.now_ns)
        self.looked = True

    def _step_clock(self) -> None:
        """Once between two looks: a step there and back again is what the rule cannot see."""
        if self.looked:
            self.offset_ns += self.rng.choice([-3000, -600, -200, 200, 600, 3000]) * MS
            self.looked = False
        self._later(self.rng.randrange(10 * SECOND), self._step_clock)

    def _perform(self, effects: Iterable[object]) -> None:
        for effect in effects:
            if isinstance(effect, Submit):
                self._land(effect.job)
            elif isinstance(effect, Send):
                self._later(MS, lambda raw=effect.frame: self._answered(raw))  # type: ignore[misc]

    # The disk

    def _land(self, job: Job) -> None:
        """A write is submitted: from here on it may land at any time, and so it counts as landed."""
        block, version, arrived_ns = self.copies[job.arrival.header.tag]
        age_ns = self.now_ns - arrived_ns
        self.seen["landed"] += 1
        self.seen["stale but young"] += version < block.acked and age_ns <= BOUND_NS
        if age_ns > BOUND_NS:
            raise StaleWrite(f"version {version} over {block.acked}, {age_ns / SECOND:.3f} s old")
        slow = self._chance(0.03)
        taking_ns = self.rng.randrange(2 * SECOND) if slow else self.rng.randrange(1, 10 * MS)
        self._later(taking_ns, lambda: self._done(job))

    def _done(self, job: Job) -> None:
        self._look_at_clocks()
        self._perform(self.responder.complete(job, b"", None, self.realtime_ns))


def live(
    seeds: range, *, responder: type[Responder] = Responder, gate: type[AgeGate] = AgeGate
) -> Counter[str]:
    """All that was seen in worlds served by these classes; StaleWrite where one did what it must not."""

    def make(made: Responder) -> Responder:
        made.__class__ = responder
        made.age = gate(BOUND_NS)
        return made

    seen: Counter[str] = Counter()
    for seed in seeds:
        world = World(make, seed)
        world.run(60)
        seen.update(world.seen)
    return seen
