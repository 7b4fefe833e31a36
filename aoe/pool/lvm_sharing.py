"""What each volume of a thin pool takes, and what only that one does: the metadata of the pool tell it."""

import fcntl
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from aoe import limits, timing
from aoe.errors import PoolError
from aoe.pool.lvm_marking import Place
from aoe.pool.lvm_run import Run
from aoe.pool.room import NOTHING, Usage

_WHAT = ("--no-headers", "--metadata-snap", "--format", "DEV,MAPPED_BYTES,EXCLUSIVE_BYTES")


class Sharing:
    """The bytes of the volumes of a thin pool, by their ids there, as when they were last measured. That
    takes time for all that is mapped, so it is seldom done again by itself. Any thread may ask."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._turn = threading.Lock()
        self._known: dict[int, Usage] = {}
        self._old_s = -math.inf
        self._changes = self._measured = 0
        """How many there were; and before it was measured."""
        self._problem = ""

    def forget(self) -> None:
        """Something is not so any more."""
        self._changes += 1

    def measure(self) -> None:
        """Do it unless that was done lately, while the thin pool is active. PoolError, OSError."""
        with self._turn:
            changes, start_s = self._changes, time.monotonic()
            if changes == self._measured and start_s < self._old_s:
                if self._problem:
                    raise PoolError(self._problem)
                return
            try:
                with _held_still(self._place) as run:
                    said = run(("thin_ls", *_WHAT, f"{self._place.device}_tmeta"))
                self._known, self._problem = of_lines(said), ""
            except PoolError as error:
                self._problem = str(error)
                raise
            finally:
                self._measured, now_s = changes, time.monotonic()
                least_s = limits.POOL_MEASURED_ONE_IN * (now_s - start_s)
                self._old_s = now_s + max(timing.POOL_LOOK_S / 2, least_s)

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
def _held_still(place: Place) -> Iterator[Run]:
    """Inside, the metadata have a state that stays, for what is run; of which there is one, so others wait.
    One that is there already was left by a process that has ended."""
    run = place.host.measure or place.host.run

    def tell(message: str) -> None:
        run(("dmsetup", "message", f"{place.device}-tpool", "0", message))

    fd = place.open_lock("look")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with suppress(PoolError):
            tell("release_metadata_snap")
        tell("reserve_metadata_snap")
        try:
            yield run
        finally:
            tell("release_metadata_snap")
    finally:
        os.close(fd)
