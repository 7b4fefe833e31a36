"""What was done of one export, and for which hosts, as `csrc/target/work.c` has it."""

from collections import Counter
from typing import NamedTuple

from aoe.drive.command import Kind, Operation
from aoe.limits import HOSTS_SHOWN_MAX
from aoe.wire.protocol import SECTOR

_READ = Kind.READ
"""As a member of its enumeration it is looked up in Python, for each request."""


class Host(NamedTuple):
    """Asked for something of the disk so often, and last at `heard_ns` (CLOCK_BOOTTIME)."""

    mac: bytes
    requests: int
    heard_ns: int


class Figures(NamedTuple):
    """Requests that were done since it is served, bytes they moved, how many wait or are under way (`queue`),
    and the hosts that were heard last."""

    reads: int = 0
    writes: int = 0
    flushes: int = 0
    trims: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    queue: int = 0
    hosts: tuple[Host, ...] = ()

    def plus(self, other: "Figures") -> "Figures":
        """Of both engines together; a host that both heard is there once."""
        known = {host.mac: host for host in self.hosts}
        for host in other.hosts:
            before = known.get(host.mac, Host(host.mac, 0, 0))
            latest = max(before.heard_ns, host.heard_ns)
            known[host.mac] = Host(host.mac, before.requests + host.requests, latest)
        return Figures(
            self.reads + other.reads,
            self.writes + other.writes,
            self.flushes + other.flushes,
            self.trims + other.trims,
            self.read_bytes + other.read_bytes,
            self.written_bytes + other.written_bytes,
            self.queue + other.queue,
            tuple(known.values()),
        )


class Work:
    """Counts what Python does itself."""

    def __init__(self) -> None:
        self._reads = 0
        self._others: Counter[Kind] = Counter()
        self._read_bytes = 0
        self._written_bytes = 0
        self._hosts: dict[bytes, list[int]] = {}
        self.heard_ns = 0
        """When a host last asked for something of the disk (CLOCK_BOOTTIME; 0: never)."""

    def count(self, operation: Operation) -> None:
        """It is given to the disk."""
        if operation.kind is _READ:
            self._reads += 1
            self._read_bytes += operation.extents[0].sectors * SECTOR
        else:
            self._others[operation.kind] += 1
            self._written_bytes += len(operation.data)

    def hear(self, mac: bytes, now_ns: int) -> None:
        """A host asks for something of the disk. Of more than there is room for, the one that was heard
        last is forgotten last."""
        self.heard_ns = now_ns
        known = self._hosts.get(mac)
        if known is None:
            if len(self._hosts) >= HOSTS_SHOWN_MAX:
                del self._hosts[min(self._hosts, key=lambda it: self._hosts[it][1])]
            known = self._hosts[mac] = [0, 0]
        known[0] += 1
        known[1] = now_ns

    def figures(self, queue: int) -> Figures:
        """As things stand, with so many requests under way."""
        hosts = tuple(Host(mac, *known) for mac, known in self._hosts.items())
        return Figures(
            self._reads,
            self._others[Kind.WRITE],
            self._others[Kind.FLUSH],
            self._others[Kind.TRIM],
            self._read_bytes,
            self._written_bytes,
            queue,
            hosts,
        )
