"""A pool in numbers: how full its store is, what was promised of that and may still be taken, and what
snapshots hold."""

import time
from collections.abc import Iterator
from typing import NamedTuple

from aoe import limits
from aoe.pool.room import Usage
from aoe.pool.volume import Image, Volume
from aoe.pool.work import Work


class Figures(NamedTuple):
    """`total` bytes of the store, and those that can still be written (`free`), so many `volumes` with
    `promised` bytes of disks in all, and so many `snapshots`, which alone refer to `kept` bytes or more.
    Its disks may come to take up to `growth` bytes more: the first write to what an image does not have
    alone needs a new place."""

    total: int
    free: int
    volumes: int
    promised: int
    snapshots: int
    kept: int
    growth: int


class Measured:
    """What images alone refer to, by their ids. To measure one takes time for each of its extents, so
    many are measured little by little: those that are not known yet, then those that were longest ago."""

    def __init__(self) -> None:
        self._own: dict[str, int] = {}
        self._alone: set[str] = set()
        """Those that share nothing, and were let be written so."""

    def look(self, work: Work, budget_s: float) -> None:
        """For `budget_s` seconds or little more. PoolError. A disk that shares no block any more is then
        written as fast as one that never did, unless it is in so many extents that its writes would wait for
        that for long. What shared some between two looks alone is not noticed."""
        heads = {it.id: it for one in work.volumes.values() for it in _written(one)}
        images = heads | {it.id: it for one in work.volumes.values() for it in _kept(one)}
        self._own = {it: own for it, own in self._own.items() if it in images}
        self._alone &= heads.keys()
        until_s = time.monotonic() + budget_s
        for it in [*(images.keys() - self._own.keys()), *self._own]:
            self._own.pop(it, None)
            usage = work.usage_of(images[it])
            self._own[it] = usage.own
            if it in heads:
                self._end_sharing(work, heads[it], usage)
            if time.monotonic() > until_s:
                break

    def _end_sharing(self, work: Work, image: Image, usage: Usage) -> None:
        """Once, until it shares again."""
        if usage.shared:
            self._alone.discard(image.id)
        elif image.id not in self._alone and 0 < usage.extents <= limits.POOL_ALONE_EXTENTS_MAX:
            self._alone.add(image.id)
            work.end_sharing(image)

    def own(self, image: Image) -> int:
        """Bytes; none of one that is not measured yet."""
        return self._own.get(image.id, 0)


def figures(work: Work, measured: Measured, budget_s: float) -> Figures:
    """As things stand; what images alone refer to is measured for `budget_s` seconds, or known since
    `Work.measure`. PoolError."""
    measured.look(work, budget_s)
    room, volumes = work.room, work.volumes.values()
    return Figures(
        room.total,
        room.left,
        len(volumes),
        sum(it.size for it in volumes),
        sum(len(it.snapshots) for it in volumes),
        sum(measured.own(it) for one in volumes for it in _kept(one)),
        sum(max(0, it.size - measured.own(it)) for one in volumes for it in _written(one)),
    )


def _kept(volume: Volume) -> Iterator[Image]:
    return (it.image for it in volume.snapshots)


def _written(volume: Volume) -> Iterator[Image]:
    """What clients write to, if they do: a template is only cloned."""
    if not volume.template:
        yield volume.head
