"""A pool in numbers: how full its store is, what was promised of that, and what snapshots hold."""

import time
from typing import NamedTuple

from aoe.pool.work import Work


class Figures(NamedTuple):
    """`total` bytes of the store, and those that can still be written (`free`), so many `volumes` with
    `promised` bytes of disks in all, and so many `snapshots`, which alone refer to `kept` bytes or more."""

    total: int
    free: int
    volumes: int
    promised: int
    snapshots: int
    kept: int


class Kept:
    """What snapshots hold, by the ids of their images. To measure one takes time for each of its extents, so
    many are measured little by little: those that are not known yet, then those that were longest ago."""

    def __init__(self) -> None:
        self._own: dict[str, int] = {}

    def look(self, work: Work, budget_s: float) -> int:
        """Bytes, after `budget_s` seconds or little more. PoolError."""
        images = {it.image.id: it.image for one in work.volumes.values() for it in one.snapshots}
        self._own = {it: own for it, own in self._own.items() if it in images}
        until_s = time.monotonic() + budget_s
        for it in [*(images.keys() - self._own.keys()), *self._own]:
            self._own.pop(it, None)
            self._own[it] = work.usage_of(images[it]).own
            if time.monotonic() > until_s:
                break
        return sum(self._own.values())


def figures(work: Work, kept: Kept, budget_s: float) -> Figures:
    """As things stand; what snapshots hold is measured for `budget_s` seconds. PoolError."""
    room, volumes = work.room, work.volumes.values()
    return Figures(
        room.total,
        room.left,
        len(volumes),
        sum(it.size for it in volumes),
        sum(len(it.snapshots) for it in volumes),
        kept.look(work, budget_s),
    )
