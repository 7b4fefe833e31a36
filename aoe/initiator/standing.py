"""How the paths to a disk are, in words, and since when."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aoe.initiator.facts import REASON_TEXTS
from aoe.initiator.life import State
from aoe.initiator.path import PathSnapshot
from aoe.initiator.sizes import NARROW_TEXTS, Narrow
from aoe.wire.frame import format_mac
from aoe.wire.protocol import SECTOR


class PathStatus(NamedTuple):
    """One path to a disk: from an interface of ours to a server.

    `name` is what `prefer` and `fenced` take; it is made of `interface`, `mac` (of the server) and `address`.
    `state` is `usable`, `checking` (the server is asked what it serves), `down` or `refused` (it is not the
    same disk, or cannot be one); `reason` says why it is not usable, in words; `state_s` since when (s).
    `owner` says that writes go by this path, and with them all reads unless they are spread. `rtt_us` is the
    smoothed round trip of reads (microseconds, 0 before the first), without what waited while the server
    paused.

    `sectors` is how many sectors of 512 bytes a request has at most, `sectors_max` how many both ends take in
    a frame. `narrow` says why that is more, empty where it is not: larger frames get lost between the ends,
    in one direction or both, or it is still being tried whether they pass.

    `unsettled` is how many writes were sent by this path, are not waited for any more, and may still be
    carried out: they timed out, were cancelled, or were answered on another path first. Until their fate is
    known their ranges take no new write. `fate` says what it is waited for, empty where there are none:
    `quiesce`, until neither network nor server can have them any more (at most 3 s with our target, 12 s with
    others, or as soon as the server says that it is done with them); `hold`, that the server answers, however
    long that takes; `fencing`, that the fence command ends.

    `proof` is `unproved` while a usable path may still lead to another disk with the same serial: no write of
    ours has shown yet that its server stores what the owner stores. It is `copy` where that server
    and another one have a copy each of one image that is never written to: id, serial, size and samples are
    equal. It is empty otherwise.

    `draining` says that the server is to be left, as its administrator wants: another path becomes the owner
    as soon as one can.
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
    sectors_max: int
    narrow: str
    unsettled: int
    fate: str
    state_s: float
    proof: str
    draining: bool

    @property
    def remarks(self) -> str:
        """What is to be known of a path that is usable: `unproved (its server drains)`; mostly empty."""
        return " ".join(filter(None, (self.proof, "(its server drains)" * self.draining)))


def size_words(path: PathStatus) -> str:
    """What requests carry there, and why it is less than both ends take, where it is."""
    carried = f"requests carry {path.sectors * SECTOR} bytes"
    return f"{carried}, not {path.sectors_max * SECTOR}: {path.narrow}" if path.narrow else f"{carried} again"


def without_figures(path: PathStatus) -> PathStatus:
    """What remains is its state."""
    return path._replace(rtt_us=0, sectors=0, sectors_max=0, narrow="", unsettled=0, fate="", state_s=0)


def _proof(path: PathSnapshot) -> str:
    return "copy" if path.copy else "" if path.proved else "unproved"


class Standing:
    """Remembers since when each path is in its state. `name_of` says what a port is called now; `hold` is
    what settles writes of unknown fate."""

    def __init__(self, name_of: Callable[[int], str], *, hold: bool) -> None:
        self._name_of = name_of
        self._fate = "hold" if hold else "quiesce"
        self._since: dict[int, tuple[State, float]] = {}
        """By number of a path: its state, and when it came to that (s)."""
        self._narrow: dict[int, Narrow] = {}
        """By number of a path: what was last found out of the size of its frames."""

    def look(self, paths: Sequence[PathSnapshot]) -> None:
        """The paths are like this now."""
        now, was = time.monotonic(), self._since
        self._since = {
            path.number: was[path.number]
            if was.get(path.number, (None,))[0] is path.state
            else (path.state, now)
            for path in paths
        }

    def sizes_found(self, paths: Sequence[PathSnapshot]) -> list[PathStatus]:
        """The paths of which something else was found out about the size of frames since the last look."""
        was = self._narrow
        self._narrow = {
            path.number: was.get(path.number, Narrow.NOT) if path.narrow is Narrow.TRIED else path.narrow
            for path in paths
        }
        changed = [
            path for path in paths if self._narrow[path.number] is not was.get(path.number, Narrow.NOT)
        ]
        return [self.status(path) for path in changed]

    def status(self, path: PathSnapshot, *, fencing: bool = False) -> PathStatus:
        """A path in words; `fencing` while a fence command runs for its server."""
        now = time.monotonic()
        _, since = self._since.get(path.number, (path.state, now))
        address, mac = f"e{path.shelf}.{path.slot}", format_mac(path.mac)
        interface = self._name_of(path.port)
        return PathStatus(
            f"{interface} {mac} {address}",
            path.state.name.lower(),
            REASON_TEXTS[path.reason].format(lba=path.lba),
            path.owner,
            path.rtt_ns / 1000,
            interface,
            mac,
            address,
            path.sectors,
            path.sectors_max,
            NARROW_TEXTS[path.narrow],
            path.unsettled,
            ("fencing" if fencing else self._fate) if path.unsettled else "",
            now - since,
            _proof(path) if path.state is State.USABLE else "",
            path.draining,
        )
