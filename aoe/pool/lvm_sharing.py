"""What each volume of a thin pool takes, and what only that one does: the metadata of the pool tell it."""

import fcntl
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aoe import limits, timing
from aoe.errors import PoolError
from aoe.pool.lvm_marking import Place
from aoe.pool.room import NOTHING, Usage

_WHAT = ("--no-headers", "--metadata-snap", "--format", "DEV,MAPPED_BYTES,EXCLUSIVE_BYTES")


class Sharing:
    """The bytes of the volumes of a thin pool, by their ids there, as when they were last measured. That
    takes time for all that is mapped, so it is seldom done again by itself."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._known: dict[int, Usage] = {}
        self._old_s = -math.inf

    @property
    def is_old(self) -> bool:
        """Whether it should be measured."""
        return time.monotonic() >= self._old_s

    def forget(self) -> None:
        """Something is not so any more."""
        self._old_s = -math.inf

    def measure(self) -> None:
        """While the thin pool is active. PoolError, OSError."""
        start_s = time.monotonic()
        with _held_still(self._place):
            said = self._place.host.run(("thin_ls", *_WHAT, f"{self._place.device}_tmeta"))
        self._known = of_lines(said)
        took_s = time.monotonic() - start_s
        self._old_s = time.monotonic() + max(timing.POOL_LOOK_S / 2, limits.POOL_MEASURED_ONE_IN * took_s)

    def of(self, thin_id: int) -> Usage:
        """Of one; nothing of one that was not there."""
        return self._known.get(thin_id, NOTHING)


def of_lines(text: str) -> dict[int, Usage]:
    """What thin_ls lists. PoolError."""
    try:
        rows = [[int(word) for word in line.split()] for line in text.splitlines()]
        return {thin_id: Usage(mapped, own) for thin_id, mapped, own in rows}
    except ValueError as error:
        raise PoolError(f"what thin_ls lists is not understood ({error})") from error


@contextmanager
def _held_still(place: Place) -> Iterator[None]:
    """Inside, the metadata have a state that stays; there is one of them, so others wait. One that is there
    already was left by a process that has ended."""
    fd = place.open_lock("look")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with suppress(PoolError):
            _tell(place, "release_metadata_snap")
        _tell(place, "reserve_metadata_snap")
        try:
            yield
        finally:
            _tell(place, "release_metadata_snap")
    finally:
        os.close(fd)


def _tell(place: Place, message: str) -> None:
    place.host.run(("dmsetup", "message", f"{place.device}-tpool", "0", message))
