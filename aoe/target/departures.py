"""Which hosts have left an export that drains, and which stay: what its administrator waits for.

An initiator of ours says with each IDENTIFY whether another server has what it asks for (`stamp.AWAY`), or
would if it were proved to be the same disk (`stamp.UNPROVED`): it does not go by itself to a server that may
have another one, or an older state of it. Of other clients it is only known when they last asked for
something. All times are CLOCK_BOOTTIME, nanoseconds.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aoe import timing
from aoe.limits import CLIENTS_KNOWN_MAX, DRAIN_ASKED_MAX
from aoe.metrics.snapshot import ClientNumbers
from aoe.wire.stamp import AWAY, UNPROVED

WAITED_FOR = "has not said yet whether it leaves"
NO_OTHER = "has no other server that is proved to have the disk"
NOT_PROVED = (
    "has another server, but wrote nothing yet that shows it to have this disk: it leaves with its next "
    "write, or, unless it runs with --verify require, when this server stops"
)
ENDING = "has left, and ends what it had begun"
FOREIGN = "knows nothing of draining: stop it, or move it by hand"


class _Told(NamedTuple):
    """What an initiator of ours said last, and when."""

    word: int
    at_ns: int


class Departures:
    """Of the hosts of one export. `since_ns` is when it began to drain."""

    def __init__(self) -> None:
        self.since_ns = 0
        self._asked_ns: deque[int] = deque(maxlen=DRAIN_ASKED_MAX)
        self._told: dict[bytes, _Told] = {}

    def begin(self, now_ns: int) -> None:
        """It drains from now on."""
        self.since_ns = now_ns
        self._asked_ns.clear()

    def ask(self, now_ns: int) -> None:
        """All were told by an advertisement, which initiators of ours answer by asking what is served."""
        self._asked_ns.append(now_ns)

    def tell(self, mac: bytes, lba: int, now_ns: int) -> None:
        """An initiator of ours asked what is served, with that LBA. Of more than there is room for, the one
        that asked last is forgotten last."""
        self._told.pop(mac, None)
        if len(self._told) >= CLIENTS_KNOWN_MAX:
            del self._told[next(iter(self._told))]
        self._told[mac] = _Told(lba & 0xFF, now_ns)

    def staying(self, hosts: Iterable[ClientNumbers], now_ns: int) -> Mapping[bytes, str]:
        """Which hosts have not left, and why, where `hosts` have asked for something of the disk."""
        heard = {host.mac: host.heard_ns for host in hosts}
        found = {mac: self._why(mac, heard.get(mac, 0), now_ns) for mac in {**self._told, **heard}}
        return {mac: why for mac, why in sorted(found.items()) if why}

    def _why(self, mac: bytes, heard_ns: int, now_ns: int) -> str:
        """Empty for one that has left, or is not there any more."""
        told = self._told.get(mac)
        last_ns = max(heard_ns, told.at_ns if told else 0)
        if now_ns - last_ns >= timing.DRAIN_SILENT_NS:
            return ""
        if told is None:
            return FOREIGN
        if self._has_gone(last_ns, now_ns):
            return ""
        if told.at_ns < self.since_ns:
            return WAITED_FOR
        if told.word != AWAY:
            return NOT_PROVED if told.word == UNPROVED else NO_OTHER
        return ENDING if now_ns - heard_ns < timing.DRAIN_QUIET_NS else ""

    def _has_gone(self, last_ns: int, now_ns: int) -> bool:
        """Whether one of ours that was heard last then did not answer an advertisement."""
        return any(
            asked_ns > last_ns and now_ns - asked_ns >= timing.DRAIN_ASKED_NS for asked_ns in self._asked_ns
        )
