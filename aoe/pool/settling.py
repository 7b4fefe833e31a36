"""What an interrupted verb has left, and what becomes of it: it is done to its end, or nothing of it is left.

Only what bears the mark of something unfinished is removed. An image that no record names may be all that is
left of a volume whose record was lost: it is listed, with what to do, and never removed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from aoe.pool.requests import faded, without
from aoe.pool.steps import Drop, Fit, Forget, Save, Settle, Step, Sweep, after
from aoe.pool.tree import Tree
from aoe.pool.volume import Image, Volume


class Leftover(NamedTuple):
    """Something that does not fit to the rest: where it is, the problem, and the remedy."""

    file: str
    problem: str
    remedy: str

    @property
    def sentence(self) -> str:
        """In one line."""
        return f"{self.file}: {self.problem}; {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is in a pool: records by the names of volumes, and `gone` ones, which were put aside, by UUID;
    `damaged` ones, by file, with the problem, and the same by the names that these have `taken`; lengths of
    the files of images, and of `new` ones, by the file that these are to be; `unfinished` records, and
    `strange` files."""

    volumes: Mapping[str, Volume] = field(default_factory=dict)
    gone: Mapping[str, Volume] = field(default_factory=dict)
    damaged: Mapping[str, str] = field(default_factory=dict)
    taken: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    new: Mapping[str, int] = field(default_factory=dict)
    unfinished: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()

    @property
    def is_clear(self) -> bool:
        """Whether every record is understood. Otherwise nothing may be removed: it might be theirs."""
        return not self.damaged

    def after(self, steps: Iterable[Step]) -> "Found":
        """Once some steps are done."""
        images = dict(self.images)
        done = list(steps)
        for step in done:
            match step:
                case Settle(image) | Fit(image):
                    images[image.file] = image.size
                case Drop(file):
                    images.pop(file, None)
        return replace(self, volumes=after(self.volumes, done), images=images)


Group = tuple[Step, ...]
"""Steps of which none is done once one before it has failed: what a record names is not removed."""


def settle(found: Found) -> tuple[Group, ...]:
    """What is to be done first, when nothing else works on the pool."""
    groups = [*_of_records(found), *((Sweep(file),) for file in found.unfinished)]
    if found.is_clear:
        groups += _of_gone(found)
        groups += _of_new(found)
        groups += _of_clones(found)
    return tuple(groups)


def _of_records(found: Found) -> Iterator[Group]:
    for name, volume in found.volumes.items():
        yield from ((Settle(it),) for it in volume.images if it.file in found.new)
        yield from ((Drop(file),) for file in volume.dropped if file in found.images)
        if volume.resized_from is not None:
            yield (
                Fit(volume.head, volume.resized_from),
                Save(name, replace(volume, resized_from=None)),
            )


def _of_gone(found: Found) -> Iterator[Group]:
    for uuid, volume in found.gone.items():
        files = *volume.dropped, *(it.file for it in volume.images)
        yield (*(Drop(file) for file in files if file in found.images), Forget(uuid))


def _of_new(found: Found) -> Iterator[Group]:
    wanted = {it.file for it in _images(found)}
    return ((Drop(file, new=True),) for file in found.new if file not in wanted)


def _of_clones(found: Found) -> Iterator[Group]:
    """A snapshot that was cut for a clone which did not come about. Of several of one volume one goes at a
    time, and none while another size is not settled."""
    seen: set[str] = set()
    tree = Tree("", found.volumes)
    for name, snapshot in tree.purposeless():
        volume = found.volumes[name]
        if name not in seen and volume.resized_from is None:
            is_base = bool(tree.overlays(snapshot.image))
            yield (Save(name, faded(volume, snapshot)),) if is_base else without(name, volume, snapshot)
        seen.add(name)


def _images(found: Found) -> Iterator[Image]:
    return (image for volume in found.volumes.values() for image in volume.images)


def leftovers(found: Found) -> Iterator[Leftover]:
    """What nothing can be done about here."""
    for file, problem in found.damaged.items():
        remedy = "put back a copy of it, or move it away; until then nothing is cleaned up in this pool"
        yield Leftover(file, problem, remedy)
    yield from _fading(found)
    yield from _lacking(found)
    yield from _alone(found)
    for file in found.strange:
        yield Leftover(file, "it does not belong to the pool", "move it elsewhere")


def _fading(found: Found) -> Iterator[Leftover]:
    for name, volume in found.volumes.items():
        for image in volume.fading:
            remedy = f"aoe-target volume merge POOL/{name}, if no daemon does it"
            yield Leftover(image.file, f"later states of {name} take what they need of it", remedy)


def _lacking(found: Found) -> Iterator[Leftover]:
    for name, volume in found.volumes.items():
        for image in volume.images:
            length = found.images.get(image.file, found.new.get(image.file))
            if length is None:
                yield Leftover(image.file, f"this image of {name} is not there", "put back a copy of it")
            elif image.format == "raw" and length < image.size and volume.resized_from is None:
                short = f"this image of {name} has {length} bytes instead of {image.size}"
                yield Leftover(image.file, short, "put back a copy of it")


def _alone(found: Found) -> Iterator[Leftover]:
    known = {it.file for it in _images(found)}
    for volume in (*found.volumes.values(), *found.gone.values()):
        known |= {*volume.dropped, *(it.file for it in volume.images)}
    if found.is_clear:
        for file in found.images.keys() - known:
            remedy = "put back the record that it belongs to, or remove it if none is missing"
            yield Leftover(file, "no volume has this image", remedy)


def apart(volumes: Mapping[str, Volume]) -> tuple[dict[str, Volume], dict[str, str]]:
    """Volumes that are right, and the problem of each other one: by a copied record two volumes would write
    to one image."""
    first: dict[str, str] = {}
    twice: dict[str, str] = {}
    for name, volume in volumes.items():
        for owned in (volume.uuid, *(it.id for it in volume.images)):
            other = first.setdefault(owned, name)
            if other != name:
                twice[name] = f"it has what {other} has, too: one of both is a copy"
                twice[other] = f"it has what {name} has, too: one of both is a copy"
    return {name: volume for name, volume in volumes.items() if name not in twice}, twice
