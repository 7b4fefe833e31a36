"""The device beneath stores: whether a loop that must not wait may start I/O there itself."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

from aoe import limits, timing
from aoe.disk.identity import HERE, Host, number_of
from aoe.disk.opened import Beneath


class Device:
    """One for all stores on a disk. RWF_NOWAIT promises not to wait, but filesystems do: for a request slot
    of the block layer, for their own metadata. So I/O is only tried from the loop while the disk `answers`.

    `room` is how many requests there at a time leave slots free.
    """

    def __init__(self, room: int, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.room = room
        self._clock = clock
        self._inside = 0
        self._heard_ns = 0
        self._counting = threading.Lock()

    def begin(self) -> None:
        """A request goes there."""
        with self._counting:
            if not self._inside:
                self._heard_ns = self._clock()
            self._inside += 1

    def end(self) -> None:
        """It is done."""
        with self._counting:
            self._inside -= 1
            self._heard_ns = self._clock()

    @property
    def answers(self) -> bool:
        """Whether it has room, and did not leave requests unanswered for long."""
        if not self._inside:
            return self.room > 0
        return self._inside < self.room and self._clock() - self._heard_ns < timing.DEVICE_SILENCE_NS


_known: "WeakValueDictionary[str, Device]" = WeakValueDictionary()


class Batch:
    """Stores that are opened one after the other: what was found beneath their device numbers, since of a
    thousand it is mostly the same disk."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, Host], Beneath] = {}

    def beneath(self, number: int, host: Host = HERE) -> Beneath:
        """As `beneath`, which is asked once."""
        key = number, host
        if key not in self._found:
            self._found[key] = beneath(number, host)
        return self._found[key]


def beneath(number: int, host: Host = HERE) -> Beneath:
    """The disk that a device number (st_dev of a file, st_rdev of a block device) means or is a part of."""
    node = host.whole(number)[0]
    return Beneath(str(node), _slots(node, host) // 2)


def device_of(found: Beneath) -> Device:
    """The same one for all stores there."""
    return _known.setdefault(found.node, Device(found.room))


def _slots(node: Path, host: Host) -> int:
    """Requests that the block layer has slots for: of a stacked device, the least of those below it."""
    below = [host.whole(_number_in(slave))[0] for slave in node.glob("slaves/*")]
    if below:
        return min(_slots(other, host) for other in below)
    return number_of(node / "queue/nr_requests") or limits.DEVICE_SLOTS_UNKNOWN


def _number_in(node: Path) -> int:
    """The device number that sysfs shows."""
    major, _, minor = (node / "dev").read_text().partition(":")
    return os.makedev(int(major), int(minor))
