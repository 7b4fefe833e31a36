"""Linux clients against a disk that is too slow for them, in virtual time (order rule T3).

The rates that matter are of unique writes: a second copy of a write that is done is work lost.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable

from aoe.target.effects import Send, Submit
from aoe.target.export import Job
from aoe.target.responder import Responder
from tests.target.driver import MS, SECOND, SERVER, START_NS, framed, make_driver, make_export, registers

OUTSTANDING = 64
TICK_NS = 100 * MS
WIRE_NS = MS // 10
DATA = bytes(512)


class LinuxClient:
    """What the Linux driver does about time: one RTT estimate, a tick, a new tag for each copy.

    `windowed` adds its congestion window; without it every write is on its way all the time.
    """

    def __init__(self, number: int, windowed: bool, rng: random.Random) -> None:
        self.mac = bytes((2, 0, 0, 0, 1, number))
        self.windowed = windowed
        self.window = OUTSTANDING // 2 if windowed else OUTSTANDING
        self.threshold = OUTSTANDING // 2
        self.mean_ns, self.deviation_ns = 250 * MS, 2 * SECOND
        self.tags = itertools.count(number << 24 | 1)
        self.writes = itertools.count()
        self.sent: dict[int, tuple[int, int]] = {}
        self.stamps: dict[int, int] = {}
        self.resend: list[int] = []
        self.done = 0
        self.rng = rng

    @property
    def timeout_ns(self) -> int:
        return 2 * self.mean_ns + 8 * self.deviation_ns

    def fill(self, now_ns: int) -> list[bytes]:
        """Everything that the window lets go."""
        frames = []
        while len(self.sent) < self.window:
            write = self.resend.pop(0) if self.resend else next(self.writes)
            tag = next(self.tags)
            self.sent[tag] = write, now_ns
            self.stamps[tag] = now_ns
            body = registers(0, 1, 0x34, self.rng.randrange(1 << 20), 0x41) + DATA
            frames.append(framed(0, body, src=self.mac, tag=tag))
        return frames

    def tick(self, now_ns: int) -> list[bytes]:
        late = [tag for tag, (_, since) in self.sent.items() if now_ns - since > self.timeout_ns]
        self.resend += [self.sent.pop(tag)[0] for tag in late]
        if late and self.windowed:
            self.threshold, self.window = max(1, self.window // 2), 1
        return self.fill(now_ns)

    def reply(self, tag: int, now_ns: int) -> list[bytes]:
        self.sample(now_ns - self.stamps[tag])
        if tag in self.sent:
            full = len(self.sent) >= self.window
            del self.sent[tag]
            self.done += 1
            if self.windowed and self.window < OUTSTANDING and (self.window < self.threshold or full):
                self.window += 1
        return self.fill(now_ns)

    def sample(self, rtt_ns: int) -> None:
        """Jacobson's estimates with the driver's gains; late and unknown replies count too."""
        error = rtt_ns - self.mean_ns
        self.mean_ns += error // 256
        self.deviation_ns += (abs(error) - self.deviation_ns) // 8


class SlowDisk:
    """One target, `clients` of them, and a disk which takes `disk_ns` for each write, one at a time."""

    def __init__(
        self, responder_class: type[Responder], *, clients: int, disk_ns: int, windowed: bool, seed: int = 1
    ) -> None:
        rng = random.Random(seed)
        driver = make_driver(make_export(sectors=1 << 20, places=1), mtu=1500)
        self.responder = driver.responder
        self.responder.__class__ = responder_class
        self.clients = [LinuxClient(number, windowed, rng) for number in range(clients)]
        self.by_mac = {client.mac: client for client in self.clients}
        self.disk_ns = disk_ns
        self.now_ns = START_NS
        self.written = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def run(self, seconds: int) -> float:
        """Unique writes a second."""
        for client in self.clients:
            self._later(0, lambda client=client: self._transmit(client.fill(self.now_ns)))  # type: ignore[misc]
            self._tick(client)
        end_ns = START_NS + seconds * SECOND
        while self._events[0][0] < end_ns:
            self.now_ns, _, event = heapq.heappop(self._events)
            event()
        return sum(client.done for client in self.clients) / seconds

    def _later(self, delay_ns: int, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ns + delay_ns, next(self._order), event))

    def _tick(self, client: LinuxClient) -> None:
        self._transmit(client.tick(self.now_ns))
        self._later(TICK_NS, lambda: self._tick(client))

    def _transmit(self, frames: list[bytes]) -> None:
        for raw in frames:
            self._later(WIRE_NS, lambda raw=raw: self._arrive(raw))  # type: ignore[misc]

    def _arrive(self, raw: bytes) -> None:
        port = self.responder.ports[0]
        self._perform(self.responder.receive(port, None, raw, self.now_ns, self.now_ns))

    def _complete(self, job: Job) -> None:
        self.written += 1
        self._perform(self.responder.complete(job, b"", None, self.now_ns))

    def _perform(self, effects: Iterable[object]) -> None:
        for effect in effects:
            if isinstance(effect, Submit):
                self._later(self.disk_ns, lambda job=effect.job: self._complete(job))  # type: ignore[misc]
            elif isinstance(effect, Send):
                self._later(WIRE_NS, lambda raw=effect.frame: self._replied(raw))  # type: ignore[misc]

    def _replied(self, raw: bytes) -> None:
        assert raw[6:12] == SERVER
        client = self.by_mac[raw[:6]]
        self._transmit(client.reply(int.from_bytes(raw[20:24], "big"), self.now_ns))
