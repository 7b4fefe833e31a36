"""What was done of one export, and for which clients, as `csrc/target/work.c` has it."""

from collections.abc import Iterable, Sequence

from aoe.drive.command import Kind
from aoe.limits import CLIENT_TAGS, CLIENTS_IN_ALL_MAX, CLIENTS_MAX, LATENCY_BUCKETS
from aoe.metrics.snapshot import ClientNumbers, ExportNumbers
from aoe.metrics.table import CLIENT, EXPORT, bucket_of, length_of, place_of
from aoe.timing import CLIENT_HEARD_NS, CLIENTS_SWEPT_NS

_PLACES = {row.name: row.at for row in EXPORT}
ANSWERED = {
    kind: (_PLACES[kind], _PLACES["read_bytes" if kind is Kind.READ else "written_bytes"]) for kind in Kind
}
"""Where a request of each kind is counted, and its bytes: to hash a kind takes as long as all of that."""
_REPLY, _DISK = _PLACES["reply"], _PLACES["disk"]
_REPLY_SUM = _REPLY + LATENCY_BUCKETS
_BUCKET = [_REPLY + bucket_of(1 << bits) for bits in range(65)]
"""By how many bits a time has that is one nanosecond less."""
_LENGTH = length_of(EXPORT)

_REQUESTS, READ, WRITTEN, _REPEATED, _HEARD = (
    place_of(CLIENT, name) for name in ("requests", "read_bytes", "written_bytes", "repeated", "heard")
)
_TAGS = length_of(CLIENT)
"""Behind the numbers of a client are its latest tags."""
_SOME_BITS = CLIENT_TAGS - 1
assert CLIENT_TAGS & _SOME_BITS == 0, "a tag has its place by some of its bits"

Client = list[int]
OTHERS = b""
"""All clients that have no place."""


class Crowd:
    """The clients of all exports of a target."""

    def __init__(self) -> None:
        self.count = 0
        self._full_ns = self._swept_ns = 0

    def enters(self, now_ns: int) -> bool:
        """Whether there is room for one more."""
        if self.count < CLIENTS_IN_ALL_MAX:
            self.count += 1
            return True
        self._full_ns = now_ns
        return False

    def sweep(self, works: Iterable["Work"], now_ns: int) -> None:
        """If one found no room, those that were not heard lately make some."""
        if self._full_ns > self._swept_ns + CLIENTS_SWEPT_NS:
            self._swept_ns = now_ns
            for work in works:
                work.sweep(now_ns)


class Work:
    """Counts what is done here itself."""

    def __init__(self) -> None:
        self._numbers = [0] * _LENGTH
        self._clients: dict[bytes, Client] = {}
        self._other = _client()
        self._crowd = Crowd()
        self._closed_ns = 0
        """When one found no place last."""
        self._since_ns = 0

    def begin(self, crowd: Crowd, now_ns: int) -> None:
        """It is served from now on, among others."""
        self._crowd, self._since_ns = crowd, now_ns

    def end(self) -> None:
        """It is served no more."""
        for mac in list(self._clients):
            self._leave(mac)

    def count(self, name: str) -> None:
        """One more of what is called so."""
        self._numbers[_PLACES[name]] += 1

    def answered(self, kind: tuple[int, int], size: int, ns: int) -> None:
        """A request that moved so many bytes, so long after it was received; of a kind as ANSWERED has it."""
        numbers = self._numbers
        at, bytes_at = kind
        numbers[at] += 1
        numbers[bytes_at] += size
        if ns > 0:
            numbers[_BUCKET[(ns - 1).bit_length()]] += 1
            numbers[_REPLY_SUM] += ns
        else:  # the clock was stepped
            numbers[_REPLY] += 1

    def disk_took(self, ns: int) -> None:
        """For one request."""
        self._numbers[_DISK + bucket_of(ns)] += 1
        self._numbers[_DISK + LATENCY_BUCKETS] += ns

    def asked(self, mac: bytes, tag: int, direction: int, size: int, now_ns: int) -> bytes:
        """A request of a client is admitted that moves so many bytes, READ or WRITTEN. A new client takes a
        free place, or that of the one that was not heard for longest, unless that was lately. After one that
        finds none, others do not look for a while. They are counted together, with what was counted of those
        that have lost their place. What it is known by: its MAC, or OTHERS."""
        client = self._clients.get(mac) or self._stranger(mac, now_ns)
        client[_REQUESTS] += 1
        client[direction] += size
        client[_HEARD] = now_ns
        place = _TAGS + ((tag ^ tag >> 16) & _SOME_BITS)
        if client[place] != tag:
            client[place] = tag
        elif tag and client is not self._other:  # 0 is not known apart from none
            client[_REPEATED] += 1
        return OTHERS if client is self._other else mac

    def _stranger(self, mac: bytes, now_ns: int) -> Client:
        if self._closed_ns and now_ns - self._closed_ns < CLIENTS_SWEPT_NS:
            return self._other
        if len(self._clients) < CLIENTS_MAX and self._crowd.enters(now_ns):
            return self._clients.setdefault(mac, _client())
        silent = self._silent(now_ns)
        if silent is None:
            self._closed_ns = now_ns
            return self._other
        self._fold(silent)
        return self._clients.setdefault(mac, _client())

    def _silent(self, now_ns: int) -> bytes | None:
        """The one that was not heard for longest, if that is not lately; of several, the same one as in C."""
        oldest = min(self._clients, key=lambda it: (self._clients[it][_HEARD], it[::-1]), default=None)
        if oldest is None or self._clients[oldest][_HEARD] >= now_ns - CLIENT_HEARD_NS:
            return None
        return oldest

    def _fold(self, mac: bytes) -> None:
        gone = self._clients.pop(mac)
        for place in range(_HEARD):
            self._other[place] += gone[place]
        self._other[_HEARD] = max(self._other[_HEARD], gone[_HEARD])

    def _leave(self, mac: bytes) -> None:
        self._fold(mac)
        self._crowd.count -= 1

    def sweep(self, now_ns: int) -> None:
        """A client that was not heard lately has no place any more."""
        while (silent := self._silent(now_ns)) is not None:
            self._leave(silent)

    def numbers(self, address: str, queue: int) -> ExportNumbers:
        """As things stand, with so many requests under way."""
        numbers = self._numbers.copy()
        numbers[_PLACES["queue"]] = queue
        clients = [ClientNumbers(mac, it[:_TAGS]) for mac, it in self._clients.items()]
        return ExportNumbers(address, self._since_ns, numbers, clients, self._other[:_TAGS])


def _client() -> Client:
    return [0] * (_TAGS + CLIENT_TAGS)


def plus(one: Sequence[int], other: Sequence[int]) -> list[int]:
    """Of both engines together."""
    return [a + b for a, b in zip(one, other, strict=True)]
