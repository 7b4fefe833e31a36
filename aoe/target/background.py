"""What can wait while others ask, as `csrc/target/background.c` has it: a copy, say. Sans-I/O.

An initiator of ours says of itself, with each IDENTIFY of a stream, that what it asks of an export can wait
(`stamp.BACKGROUND`). One such request may be at the disk of that export whatever others do, so that a copy
comes to its end; where others wait for a place there, it goes after so many of them (`BACKGROUND_PASSED`).
More may be there only while no one else asks, of any export, as they have the disks and the processor in
common: one more for each of them that a disk has done since. So next to nothing is before a client that asks
all the time, and after a pause in which a few are done all places are used.
"""

from aoe.limits import BACKGROUND_MAX

BACKGROUND_PASSED = 16
"""Requests of others that go before one that can wait, where all wait for a place."""


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

    def grow(self, most: int) -> None:
        """A disk has done one of such requests; no more than so many are ever there."""
        self.now = min(self.now + 1, most)
