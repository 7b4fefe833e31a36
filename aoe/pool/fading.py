"""Images that no state has any more, but that later ones are differences to: these take what they need,
and then they go. That may be interrupted at any point, as a disk has the same bytes before and after."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from aoe.errors import ConfigurationError
from aoe.pool.copying import Standing
from aoe.pool.requests import shed
from aoe.pool.steps import Check, Drop, Plan, Save
from aoe.pool.tree import Tree
from aoe.pool.volume import Image, Volume


class Rebase(NamedTuple):
    """An image takes what it needs of those `through` which it is differences to `base`, or to nothing."""

    image: Image
    through: tuple[Image, ...]
    base: Image | None


def rebases(tree: Tree, volume: Volume) -> Iterator[Rebase]:
    """Those of a volume that are to be done."""
    fading = {it.id for it in volume.fading}
    for image in volume.images:
        if image.id in fading or image.base not in fading:
            continue
        below = tree.chain(image)[1:]
        kept = [at for at, it in enumerate(below) if it.id not in fading]
        end = kept[0] if kept else len(below)
        yield Rebase(image, tuple(below[:end]), below[end] if kept else None)


def gathered(rebase: Rebase) -> Rebase | None:
    """What can be done instead while its image is written: the last one that fades takes what it needs of the
    others. None where there are no others."""
    last, *others = rebase.through
    return Rebase(last, tuple(others), rebase.base) if others else None


@dataclass(frozen=True, slots=True)
class Merged:
    """The image of an id has taken what it needs: it is differences to the image `base`, or to nothing."""

    volume: str
    id: str
    base: str | None

    def plan(self, at: Standing) -> Plan:
        """How that is noted; ConfigurationError where it is not what is to be done."""
        was = at.tree.volume(self.volume)
        right = [*rebases(at.tree, was)]
        right += filter(None, map(gathered, right))
        done = [it for it in right if it.image.id == self.id]
        if not done or (done[0].base.id if done[0].base else None) != self.base:
            raise ConfigurationError(f"{at.tree.said(self.volume)} was changed meanwhile; merge it again")
        now, dropped = shed(_with(was, replace(done[0].image, base=self.base)))
        steps = Check(done[0].image, done[0].base), Save(self.volume, now)
        said = f"{at.tree.said(self.volume)}: {len(dropped)} images are merged into later ones"
        drops = (Drop(it.file, emptied=True) for it in dropped)
        return Plan((*steps, *drops), said, held=tuple(at.tree.over(done[0].image)))


def _with(volume: Volume, image: Image) -> Volume:
    """With another image of the same id."""

    def now(it: Image) -> Image:
        return image if it.id == image.id else it

    snapshots = tuple(replace(it, image=now(it.image)) for it in volume.snapshots)
    fading = tuple(map(now, volume.fading))
    return replace(volume, head=now(volume.head), snapshots=snapshots, fading=fading)
