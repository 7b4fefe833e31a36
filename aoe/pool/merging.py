"""What `aoe.pool.fading` says is done to images by qemu-img: without the pool's lock, as QEMU's locks keep
others from an image that is written. What serves an image does it itself."""

from collections.abc import Iterator
from typing import Protocol

from aoe.errors import ConfigurationError
from aoe.pool.fading import Merged, Rebase, gathered, rebases
from aoe.pool.qemu_img import Told
from aoe.pool.work import Work


class Served(Protocol):
    """What has images served that merges them itself."""

    def is_written(self, path: str) -> bool:
        """Whether clients may write to the image in a file."""

    def merge(self, path: str, base: str, told: Told) -> bool:
        """Merge the one in a file down to another one, or (empty) all; false: it is not served.
        ConfigurationError."""


class _Unserved:
    """There is none."""

    def is_written(self, path: str) -> bool:
        return False

    def merge(self, path: str, base: str, told: Told) -> bool:
        return False


UNSERVED: Served = _Unserved()


def pending(work: Work) -> list[str]:
    """Names of the volumes with images to be merged."""
    return [name for name, volume in work.volumes.items() if volume.fading]


def merged(work: Work, volume: str, told: Told, served: Served = UNSERVED) -> Iterator[Merged]:
    """Merge them; each verb is to be done before the next one is asked for. ConfigurationError, PoolError."""
    for rebase in _possible(work, volume, served):
        _check_room(work, volume, rebase)
        base = work.where(rebase.base) if rebase.base else ""
        if not served.merge(work.where(rebase.image), base, told):
            work.rebase(rebase.image, rebase.through, rebase.base, told)
        yield _merged(volume, rebase)


def merge_steps(work: Work, volume: str) -> Iterator[str]:
    """What that would do now, in words. ConfigurationError, PoolError."""
    check(work, volume)
    for rebase in _possible(work, volume, UNSERVED):
        _check_room(work, volume, rebase)
        below = ", ".join(it.file for it in rebase.through)
        yield f"let the image {rebase.image.file} take what it needs of {below}"
        yield from work.plan(_merged(volume, rebase)).sentences


def wishes(work: Work, volume: str) -> list[Merged]:
    """The verbs behind that. ConfigurationError."""
    return [_merged(volume, it) for it in _possible(work, volume, UNSERVED)]


def _merged(volume: str, rebase: Rebase) -> Merged:
    return Merged(volume, rebase.image.id, rebase.base.id if rebase.base else None)


def _possible(work: Work, volume: str, served: Served) -> list[Rebase]:
    """What is merged into the image that clients write is once that is cut, or not served any more."""
    found = list(rebases(work.tree, work.tree.volume(volume)))
    written = {it.image.id for it in found if served.is_written(work.where(it.image))}
    possible = (gathered(it) if it.image.id in written else it for it in found)
    return [it for it in possible if it is not None]


def _check_room(work: Work, volume: str, rebase: Rebase) -> None:
    """It takes no more than these have."""
    needed = sum(work.store.usage(it).allocated for it in rebase.through)
    work.room.check_for(needed, work.reserve, f"to merge {work.tree.said(volume)}")


def check(work: Work, volume: str) -> None:
    """ConfigurationError where there is nothing to merge."""
    if not work.tree.volume(volume).fading:
        raise ConfigurationError(f"{work.tree.said(volume)} has nothing to be merged")
