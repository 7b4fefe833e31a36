"""What `aoe.pool.fading` says is done to images by qemu-img: without the pool's lock, as QEMU's locks keep
others from an image that is written."""

from collections.abc import Iterator

from aoe.errors import ConfigurationError
from aoe.pool.fading import Merged, Rebase, rebases
from aoe.pool.qemu_img import Told
from aoe.pool.work import Work


def pending(work: Work) -> list[str]:
    """Names of the volumes with images to be merged."""
    return [name for name, volume in work.volumes.items() if volume.fading]


def merged(work: Work, volume: str, told: Told) -> Iterator[Merged]:
    """Merge them; each verb is to be done before the next one is asked for. ConfigurationError, PoolError."""
    for rebase in list(rebases(work.tree, work.tree.volume(volume))):
        _check_room(work, volume, rebase)
        work.rebase(rebase.image, rebase.through, rebase.base, told)
        yield Merged(volume, rebase.image.id, rebase.base.id if rebase.base else None)


def _check_room(work: Work, volume: str, rebase: Rebase) -> None:
    """It takes no more than these have."""
    needed = sum(work.fillable.usage(it).allocated for it in rebase.through)
    work.room.check_for(needed, work.reserve, f"to merge {work.tree.said(volume)}")


def check(work: Work, volume: str) -> None:
    """ConfigurationError where there is nothing to merge."""
    if not work.tree.volume(volume).fading:
        raise ConfigurationError(f"{work.tree.said(volume)} has nothing to be merged")
