"""Which FLUSHes must not vouch for what was acknowledged before, once that may be lost: the process behind a
disk in write-back mode ended, and another one serves the disk.

To our initiators it is another instance, which a FLUSH of theirs names (order rules T9 and I6). Any other
client that had written learns it by the one FLUSH that fails.
"""

from collections.abc import Iterable

from aoe.limits import CLIENTS_MAX


class Losses:
    """Of one export. `owed` are the clients that are still to be told."""

    def __init__(self) -> None:
        self.owed: set[bytes] = set()
        self._others = False
        """Whether clients had written that are not known one by one."""
        self._told: set[bytes] = set()

    def lose(self, writers: Iterable[bytes], *, others: bool) -> None:
        """What those had written may be lost; `others`: and what any other client had."""
        self.owed |= set(writers)
        self._others |= others
        self._told.clear()

    @property
    def any(self) -> bool:
        """Whether a FLUSH may have to fail."""
        return bool(self.owed) or self._others

    def fails(self, mac: bytes) -> bool:
        """Whether a FLUSH of a client has to; the next one of it has not."""
        if mac in self.owed:
            self.owed.remove(mac)
            self._told.add(mac)
            return True
        if not self._others or mac in self._told:
            return False
        self._told.add(mac)
        self._others = len(self._told) < CLIENTS_MAX
        return True

    def knows(self, mac: bytes) -> None:
        """A client has learnt it."""
        self.owed.discard(mac)
        if self._others:
            self._told.add(mac)
