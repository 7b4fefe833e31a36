"""Clients of one export on a disk that works on some requests side by side, in virtual time."""

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from aoe.target.effects import Delay
from aoe.target.export import Job
from tests.target import driver
from tests.target.driver import MS, Driver, make_driver, make_export

SECTORS = 1 << 16
SERVICE_NS = MS // 10
WIRE_NS = MS // 100
Frame = Callable[..., bytes]


def wrote(lba: int, **to: Any) -> bytes:
    """A write of one sector, as `driver.read` reads one."""
    return driver.write(lba, to["tag"].to_bytes(4, "big") * 128, **to)


class Wait(NamedTuple):
    """Of one request: when it came in, how long it took, how many others were answered meanwhile, and how
    many of its own client were before it."""

    at_ns: int
    ns: int
    passed: int
    ahead: int


class Client:
    """Keeps `depth` requests outstanding; or sends one each `interval_ns` or so, whatever became of the last.
    A request is what `frame` makes of an LBA, of `area` sectors from that one on."""

    def __init__(
        self,
        number: int,
        *,
        depth: int = 0,
        interval_ns: int = 0,
        frame: Frame = driver.read,
        area: tuple[int, int] | None = None,
    ) -> None:
        self.first, self.sectors = area or (number % 2 * SECTORS // 2, SECTORS // 2)
        self.number = number
        self.depth = depth
        self.interval_ns = interval_ns
        self.frame = frame
        self.waits: list[Wait] = []
        self.sent: dict[int, tuple[int, int, int]] = {}

    def asks(self, tag: int, rng: random.Random) -> bytes:
        """Its next request."""
        return self.frame(self.first + rng.randrange(self.sectors), tag=tag, src=_mac(self.number))

    def part(self, part: float) -> int:
        """So large a part of its requests took no longer (nanoseconds), of those that waited for none of its
        own."""
        took = sorted(it.ns for it in self.waits if not it.ahead)
        return took[int(part * len(took))]

    @property
    def passed(self) -> int:
        """How many others at most were answered while one of its requests waited, for that one and for each
        of its own that was before it."""
        return max(-(-it.passed // (1 + it.ahead)) for it in self.waits)


class Flood(Client):
    """Each of its requests seems to come from another host."""

    def asks(self, tag: int, rng: random.Random) -> bytes:
        self.number += 1
        return super().asks(tag, rng)


def _mac(number: int) -> bytes:
    return b"\x02\x00\x01" + number.to_bytes(3, "big")


class SharedDisk:
    """A disk of so many `slots`; a request takes `service_ns` on average, which varies by a part of that, and
    is longer by another part for each request that is there. Which one a free slot takes of so many, in their
    order, is what `picks` says. Behind the slots all go through one door, `door_ns` each."""

    def __init__(
        self,
        *clients: Client,
        slots: int,
        service_ns: int = SERVICE_NS,
        varies: float = 0.0,
        longer: float = 0.0,
        picks: Callable[[random.Random, int], int] = lambda _rng, _count: 0,
        door_ns: int = 0,
        seed: int = 1,
    ) -> None:
        self.driver: Driver = make_driver(make_export(sectors=SECTORS, places=64, direct=True))
        self.driver.held, self.driver.checked = True, False
        self.clients = clients
        self.order: list[Job] = []
        """As they were carried out."""
        self.done = 0
        self.at_disk_most = 0
        self._rng = random.Random(seed)
        self._service_ns, self._varies, self._longer = service_ns, varies, longer
        self._slots, self._busy, self._picks = slots, 0, picks
        self._door_ns, self._door_free_ns = door_ns, 0
        self._inside: list[Job] = []
        """What waits for a slot."""
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count(1)
        self._by_tag: dict[int, Client] = {}
        self._begun: set[int] = set()
        for client in clients:
            self._later(0, lambda client=client: self._starts(client))  # type: ignore[misc]

    @property
    def now_ns(self) -> int:
        return self.driver.now_ns

    def run(self, requests: int) -> float:
        """Until the disk has done so many more; the part of its slots that was busy."""
        end, began_ns = self.done + requests, self.now_ns
        while self.done < end:
            now_ns, _, event = heapq.heappop(self._events)
            self.driver.clock(now_ns, now_ns)
            event()
        return requests * self._service_ns / self._slots / (self.now_ns - began_ns)

    def _later(self, delay_ns: int, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ns + delay_ns, next(self._numbers), event))

    def _starts(self, client: Client) -> None:
        for _ in range(client.depth):
            self._send(client)
        if client.interval_ns:
            self._goes_on(client)

    def _goes_on(self, client: Client) -> None:
        self._send(client)
        self._later(self._rng.randrange(2 * client.interval_ns), lambda: self._goes_on(client))

    def _send(self, client: Client) -> None:
        tag = next(self._numbers)
        client.sent[tag] = self.now_ns, self.done, len(client.sent)
        self._by_tag[tag] = client
        self._replied(self.driver.send(client.asks(tag, self._rng)))

    def _replied(self, sent: list[bytes]) -> None:
        for raw in sent:
            self._answered(driver.parse(raw).tag)
        while self.driver.delays:
            late = self.driver.delays.pop()
            self._later(late.until_ns - self.now_ns, lambda late=late: self._due(late))  # type: ignore[misc]
        self._to_disk()

    def _due(self, delay: Delay) -> None:
        self._replied(self.driver.perform(self.driver.responder.due(delay, self.now_ns)))

    def _answered(self, tag: int) -> None:
        client = self._by_tag.pop(tag)
        at_ns, done, ahead = client.sent.pop(tag)
        client.waits.append(Wait(at_ns, self.now_ns - at_ns, self.done - done - 1, ahead))
        if client.depth:
            self._later(WIRE_NS, lambda: self._send(client))

    def _to_disk(self) -> None:
        self.at_disk_most = max(self.at_disk_most, len(self.driver.jobs))
        for job in self.driver.jobs:
            if id(job) not in self._begun:
                self._begun.add(id(job))
                self.driver.responder.waits(job)
                self._inside.append(job)
        while self._inside and self._busy < self._slots:
            self._busy += 1
            job = self._inside.pop(self._picks(self._rng, len(self._inside)))
            self._later(self._takes(), lambda job=job: self._worked(job))  # type: ignore[misc]

    def _takes(self) -> int:
        longer = 1 + self._longer * (self._busy - 1)
        return int(self._service_ns * longer * (1 + self._varies * self._rng.uniform(-1, 1)))

    def _worked(self, job: Job) -> None:
        self._busy -= 1
        self._door_free_ns = max(self._door_free_ns, self.now_ns) + self._door_ns
        self._later(self._door_free_ns - self.now_ns, lambda: self._finished(job))
        self._to_disk()

    def _finished(self, job: Job) -> None:
        self.done += 1
        self._begun.discard(id(job))
        self.order.append(job)
        self._replied(self.driver.finish(job))
