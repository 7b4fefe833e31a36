"""Verbs that give a pool an image which was filled before: as a volume, or as what clones of it begin as; and
what makes a template without one.

The image stands beside the others already, as a new one, by its id.
"""

from dataclasses import dataclass, replace

from aoe.errors import ConfigurationError
from aoe.pool import names, records
from aoe.pool.copying import Standing
from aoe.pool.names import Format
from aoe.pool.requests import check_settled, cut_of, with_dropped, with_snapshot
from aoe.pool.steps import Drop, Find, Plan, Save, Settle
from aoe.pool.volume import BY_TEMPLATE, TEMPLATE, Image, Snapshot, Volume, check_size


@dataclass(frozen=True, slots=True)
class Adopt:
    """A new volume with the image of an id, the disk of which has `size` bytes."""

    volume: str
    id: str
    size: int
    format: Format

    def plan(self, at: Standing) -> Plan:
        """How that is done, here and below; ConfigurationError where it cannot be."""
        said = at.check_new(self.volume)
        image = _image(at, self.id, self.size, self.format)
        volume = Volume(uuid=at.fresh(), head=image, made=at.now)
        steps = Find(image), Save(self.volume, volume), Settle(image)
        return Plan(steps, f"{said}: {image.size} bytes, {image.format}", tuple(at.notes(said, self.format)))


@dataclass(frozen=True, slots=True)
class Template:
    """A volume becomes one that is only cloned: the image of an `id`, a contiguous copy of its image `of`, is
    the snapshot that its clones begin as. What it was is dropped, as it is the same. The process that asks
    for it keeps others from writing to it, from before it was copied."""

    volume: str
    of: str
    id: str
    format: Format

    def plan(self, at: Standing) -> Plan:
        was = at.tree.volume(self.volume)
        said = at.tree.said(self.volume)
        check_template(at, self.volume, was)
        if was.head.id != self.of:
            raise ConfigurationError(f"{said} was rolled back meanwhile; try again")
        image = _image(at, self.id, was.size, self.format)
        kept = Snapshot(name=TEMPLATE, image=image, made=at.now, cause=BY_TEMPLATE)
        head = at.child(image)
        now = replace(
            was, head=head.image, snapshots=(kept,), dropped=with_dropped(was, was.head), template=True
        )
        steps = Find(image), head.made, Save(self.volume, now), Settle(image), Settle(head.image)
        return Plan((*steps, Drop(was.head.file)), _cloned_only(said), held=(was.head,))


@dataclass(frozen=True, slots=True)
class Freeze:
    """A volume becomes a template as it is, where a copy of it would be cloned no faster."""

    volume: str

    def plan(self, at: Standing) -> Plan:
        was = at.tree.volume(self.volume)
        check_template(at, self.volume, was)
        at.check_room(f"to make a template of {self.volume}")
        cut = cut_of(at, self.volume, replace(was, template=True), TEMPLATE, BY_TEMPLATE)
        return Plan(cut.steps, _cloned_only(at.tree.said(self.volume)), idle=(was.head,))


@dataclass(frozen=True, slots=True)
class Keep:
    """A snapshot that was cut while its volume, which is told by its UUID, was served: an image beside the
    others, with the time at which it was cut."""

    uuid: str
    snapshot: str
    image: Image
    made: str
    cause: str

    def plan(self, at: Standing) -> Plan:
        name = at.tree.name(self.uuid)
        was = at.tree.volume(name)
        names.check_free(self.snapshot, "snapshot", (it.name for it in was.snapshots))
        check_size(self.image.size)
        kept = Snapshot(name=self.snapshot, image=self.image, made=self.made, cause=self.cause)
        steps = Find(self.image), Save(name, with_snapshot(was, kept)), Settle(self.image)
        return Plan(steps, f"{at.tree.said(name, self.snapshot)}: cut")


def _image(at: Standing, id: str, size: int, format: Format) -> Image:
    if not records.is_id(id):
        raise ConfigurationError("an image that is filled is told by its id, 32 hexadecimal digits")
    return Image(id=id, size=check_size(size, format), format=at.chosen(format))


def _cloned_only(said: str) -> str:
    return f"{said}: is a template, which is cloned and no more written to"


def check_template(at: Standing, name: str, volume: Volume) -> None:
    """ConfigurationError for a volume that cannot become a template."""
    said = at.tree.said(name)
    if volume.template:
        raise ConfigurationError(f"{said} is a template already; clone it")
    if volume.snapshots:
        raise ConfigurationError(
            f"{said} has snapshots; clone the one that is meant, and make a template of the clone"
        )
    if volume.fading:
        raise ConfigurationError(f"{said} is to be merged; aoe-target volume merge {said} does that")
    check_settled(at, name, volume)
