"""How a node is, as one frozen value with a JSON form."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from aoe.drive.identify import FIRMWARE


class ClientStatus(NamedTuple):
    """A host that read or changed a disk, by the rows of CLIENT, and how long ago it was heard (`heard_us`,
    microseconds). The last one may be `other`: all those that have no numbers of their own."""

    mac: str
    requests: int
    read_bytes: int
    written_bytes: int
    repeated: int
    heard_us: int


class ExportStatus(NamedTuple):
    """One address. `state` is `serving`, `waiting`, `kept`, `failed` or `draining`, with the `reason` where
    there is one. It is served while it drains for an administrator, whom `stays` tells which hosts stay. What
    is served has the facts behind that: `unused_s` are seconds since a client read or wrote, None if none did
    since it is served. `limits` are keys of the file, with numbers (bytes, seconds); none where nothing is
    limited. Then come numbers by the rows of EXPORT (`aoe.metrics.table`): `reads` to `queue`; in `counted`
    errors and what was dropped, without what never happened; in `reply` and `disk` the histograms, each with
    its sum. The client that was heard last is the first of the `clients`. `cutting` is the name
    of a snapshot that is not whole yet, and `cut` how far it is, from 0 to 1."""

    address: str
    path: str
    state: str
    reason: str = ""
    serial: str = ""
    bytes: int = 0
    durability: str = ""
    read_only: bool = False
    direct: bool = False
    shared: bool = False
    mask: tuple[str, ...] = ()
    reserve: tuple[str, ...] = ()
    unused_s: float | None = None
    reads: int = 0
    writes: int = 0
    flushes: int = 0
    trims: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    queue: int = 0
    counted: Mapping[str, int] = {}
    reply: tuple[int, ...] = ()
    disk: tuple[int, ...] = ()
    clients: tuple[ClientStatus, ...] = ()
    stays: Mapping[str, str] | None = None
    """Why, by MAC; None where it does not drain."""
    limits: Mapping[str, float] = {}
    cutting: str = ""
    cut: float = 0.0

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return self._asdict() | {"clients": [it._asdict() for it in self.clients]}

    @property
    def served(self) -> bool:
        """Whether hosts may use it, now or once its disk is repaired."""
        return self.state == "serving" or self.stays is not None


class InterfaceStatus(NamedTuple):
    """Where it serves; one that is not `up` may not be there yet. Its receive buffer has room for so many of
    the largest `frames_that_fit`."""

    name: str
    mac: str
    mtu: int
    up: bool
    frames_that_fit: int = 0


class PoolStatus(NamedTuple):
    """A pool of the file, or the `problem` that keeps it from being used. Of its store `free_bytes` of
    `total_bytes` are free, of which `reserve_percent` are a reserve. `promised_bytes` are those of the disks
    of all `volumes`; `snapshot_bytes`, or more, are only for the `snapshots`. Writes may come to take up to
    `growth_bytes` of the store: the first one to what a disk does not have alone needs a new place."""

    name: str
    path: str
    reserve_percent: int
    problem: str = ""
    total_bytes: int = 0
    free_bytes: int = 0
    volumes: int = 0
    promised_bytes: int = 0
    snapshots: int = 0
    snapshot_bytes: int = 0
    growth_bytes: int = 0


class EngineStatus(NamedTuple):
    """What serves: `c` or `python`; `reason` is why not the compiled one that was meant. `io_uring` says
    whether the kernel lets that use it."""

    name: str
    reason: str = ""
    io_uring: bool = False


class Status(NamedTuple):
    """`number` is that of the last change, `changing` the one under way (empty: none), `release` that of the
    program that runs."""

    number: int
    file: str
    changing: str
    exports: tuple[ExportStatus, ...]
    interfaces: tuple[InterfaceStatus, ...]
    notes: tuple[str, ...]
    counters: Mapping[str, int]
    engine: EngineStatus = EngineStatus("python")
    release: str = FIRMWARE
    pools: tuple[PoolStatus, ...] = ()

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return self._asdict() | {
            "exports": [one.facts() for one in self.exports],
            "interfaces": [it._asdict() for it in self.interfaces],
            "engine": self.engine._asdict(),
            "pools": [it._asdict() for it in self.pools],
        }

    @property
    def sentence(self) -> str:
        """In one line."""
        return sentence({it.address: (it.state, it.reason) for it in self.exports}, self.number)


def sentence(exports: Mapping[str, tuple[str, str]], number: int) -> str:
    """Of states with their reasons, by address, and the number of the last change: `2 serving, 1 waiting:
    e1.2 (no such disk); change 3`. The first that is not as wanted is named."""
    states = Counter(state for state, _ in exports.values())
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "nothing to serve"
    first = min((it for it, (state, reason) in exports.items() if state != "serving" or reason), default="")
    named = f": {first}" if first else ""
    reason = f" ({exports[first][1]})" if first and exports[first][1] else ""
    return f"{counted}{named}{reason}; change {number}"
