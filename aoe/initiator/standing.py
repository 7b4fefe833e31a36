"""How the paths to a disk are, in words, and since when."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aoe.initiator.core import WayStatus
from aoe.initiator.facts import Reason
from aoe.initiator.session import State
from aoe.wire.frame import format_mac


class PathStatus(NamedTuple):
    """One way to a disk: `owner` carries what is written, `rtt_us` is the smoothed round trip of reads,
    `state_s` how long (s) it has been in its `state`.

    `unsettled` writes may still be carried out there although nobody waits for them; their ranges take no new
    write until `fate` has it: `quiesce` (time), `hold` (its answer), `fencing` (a fence command runs).
    """

    name: str
    state: str
    reason: str
    owner: bool
    rtt_us: float
    interface: str
    mac: str
    address: str
    sectors: int
    unsettled: int
    fate: str
    state_s: float


_REASONS = {
    Reason.NONE: "",
    Reason.LINK_DOWN: "link down",
    Reason.SILENT: "silent",
    Reason.SLOW: "slow: it answers, but not what is read and written",
    Reason.IDENTIFY_FAILS: "IDENTIFY fails",
    Reason.OTHER_SIZE: "another size than the disk had: look at the other server, or revalidate",
    Reason.OTHER_DISK: "another disk: its serial differs; if it is the same, give both servers one --serial",
    Reason.VOLATILE: "a volatile write cache, with several servers: serve write-through",
    Reason.NO_ZEROES: "its TRIM leaves no zeroes, as the disk's did when it was opened: open it again",
    Reason.CHECKSUM: "IDENTIFY has a wrong checksum: look at the server and its network card",
    Reason.NO_LBA: "IDENTIFY names no drive with LBA addresses (word 49): look at what is served there",
    Reason.NO_SECTORS: "IDENTIFY names no sectors: look at what is served there",
    Reason.TOO_LARGE: "IDENTIFY names more sectors than can be addressed: look at what is served there",
}


class Standing:
    """Remembers since when each way is in its state. `name_of` says what a port is called now; `hold` is what
    settles writes of unknown fate."""

    def __init__(self, name_of: Callable[[int], str], *, hold: bool) -> None:
        self._name_of = name_of
        self._fate = "hold" if hold else "quiesce"
        self._since: dict[int, tuple[State, float]] = {}
        """By number of a way: its state, and when it came to that (s)."""

    def look(self, ways: Sequence[WayStatus]) -> None:
        """The ways are like this now."""
        now, was = time.monotonic(), self._since
        self._since = {
            way.number: was[way.number] if was.get(way.number, (None,))[0] is way.state else (way.state, now)
            for way in ways
        }

    def status(self, way: WayStatus, *, fencing: bool = False) -> PathStatus:
        """A way in words; `fencing` while a fence command runs for its server."""
        now = time.monotonic()
        _, since = self._since.get(way.number, (way.state, now))
        address, mac = f"e{way.shelf}.{way.slot}", format_mac(way.mac)
        interface = self._name_of(way.port)
        return PathStatus(
            f"{interface} {mac} {address}",
            way.state.name.lower(),
            _REASONS[way.reason],
            way.owner,
            way.rtt_ns / 1000,
            interface,
            mac,
            address,
            way.sectors,
            way.unsettled,
            ("fencing" if fencing else self._fate) if way.unsettled else "",
            now - since,
        )
