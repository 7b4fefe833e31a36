"""What can wait while others ask, as `csrc/target/background.c` has it: a copy, say. Sans-I/O.

An initiator of ours says of itself, with each IDENTIFY of a stream, that what it asks of an export can wait
(`stamp.BACKGROUND`). One such request may be at the disk of that export whatever others do, so that a copy
comes to its end; where others wait for a place there, it goes after so many of them (`BACKGROUND_PASSED`).
More may be there only while no one else asks, of any export, as they have the disks and the processor in
common: one more for each of them that a disk has done since. So next to nothing is before a client that asks
all the time, and after a pause in which a few are done all places are used.

That one would be there all the time, where others ask for other disks: so after one during which others asked
for something, the next begins no sooner than `BACKGROUND_REST` times as long as the disk took for it, 20 ms
at most.
"""

from aoe.limits import BACKGROUND_MAX
from aoe.timing import BACKGROUND_REST_MAX_NS

BACKGROUND_PASSED = 16
"""Requests of others that go before one that can wait, where all wait for a place."""
BACKGROUND_REST = 8
"""How many times as long as one took the next waits, where others ask: a ninth of the time is left to it."""


class Background:
    """Clients of one export that said so, by their MACs. The first makes room for another."""

    def __init__(self) -> None:
        self._macs: dict[bytes, None] = {}

    def __contains__(self, mac: bytes) -> bool:
        return mac in self._macs

    def says(self, mac: bytes, can_wait: bool) -> None:
        """A client asked what is served, and said so or did not."""
        self._macs.pop(mac, None)
        if not can_wait:
            return
        if len(self._macs) == BACKGROUND_MAX:
            del self._macs[next(iter(self._macs))]
        self._macs[mac] = None


class Leeway:
    """How many of such requests may be at the disk of each export, where it is more than one."""

    def __init__(self) -> None:
        self.now = 0

    def end(self) -> None:
        """Another client asks for something."""
        self.now = 0

    def grow(self, most: int) -> bool:
        """A disk has done one of such requests; no more than so many are ever there. Whether others asked for
        something since the last one."""
        others_asked = not self.now
        self.now = min(self.now + 1, most)
        return others_asked


class Rest:
    """Until when (CLOCK_BOOTTIME) no more of such requests of one export begin; 0: they do."""

    def __init__(self) -> None:
        self.until_ns = 0
        self._ended_ns = 0

    def ended(self, began_ns: int, now_ns: int, others_asked: bool) -> bool:
        """The disk has done one that went there at `began_ns`, and had only that to do for it since the one
        before; whether they rest from now on, or longer."""
        took_ns = now_ns - max(began_ns, self._ended_ns)
        self._ended_ns = now_ns
        until_ns = now_ns + min(BACKGROUND_REST * took_ns, BACKGROUND_REST_MAX_NS)
        if not others_asked or until_ns <= max(now_ns, self.until_ns):
            return False
        self.until_ns = until_ns
        return True

    def over(self, now_ns: int) -> None:
        """They begin again, unless they rest for longer than until now."""
        if self.until_ns <= now_ns:
            self.until_ns = 0
