"""What a pool has, as frozen values: volumes, their snapshots, and the images that hold their bytes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.pool import names
from aoe.pool.names import Format
from aoe.wire import protocol

ASKED, FOR_CLONE, BY_ROLLBACK, BY_TEMPLATE = "asked", "clone", "rollback", "template"
"""Why there is a snapshot. One for a clone goes with that clone; one by a rollback is the state before it;
one of a template is what its clones begin as."""
BY_SCHEDULE = "schedule "
"""With the name of the schedule behind it: it may prune that one."""
TEMPLATE = "template"
"""The name of that one."""
SIZE_MOST = protocol.LBA48_SECTORS * protocol.SECTOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One state of a disk. `id` is made once and never used again; `size` is that of the disk, in bytes. One
    with a `base` holds only what differs from the image of that id."""

    id: str
    size: int
    format: Format = "raw"
    base: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """What a later release has written, here and below; it is kept."""

    @property
    def file(self) -> str:
        """What a directory calls it."""
        return f"{self.id}.{self.format}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A state that was kept, at the time `made` (UTC, ISO 8601)."""

    name: str
    image: Image
    made: str
    cause: str = ASKED
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parent:
    """What a volume was cloned from: the UUID of a volume, and the id of the image of its snapshot."""

    volume: str
    snapshot: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A disk of a pool. Its name is that of its record, so that a rename changes nothing else.

    `snapshots` are in the order in which they were made. `fading` are images that go once
    nothing is differences to them. `dropped` are files of images that it has no more,
    and that may still be there. `resized_from` is the size that its head had, while that is not settled. A
    `template` is cloned, and no more written to.
    """

    uuid: str
    head: Image
    made: str
    parent: Parent | None = None
    snapshots: tuple[Snapshot, ...] = ()
    fading: tuple[Image, ...] = ()
    dropped: tuple[str, ...] = ()
    resized_from: int | None = None
    template: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Of the disk, in bytes."""
        return self.head.size

    @property
    def images(self) -> Iterator[Image]:
        """Of its snapshots, of what these need besides, and of its present state."""
        yield from (it.image for it in self.snapshots)
        yield from self.fading
        yield self.head

    def find(self, snapshot: str) -> Snapshot | None:
        """Its snapshot of a name."""
        return next((it for it in self.snapshots if it.name == snapshot), None)


def check_size(size: int, format: Format = "raw") -> int:
    """The same size; ConfigurationError for one that no disk can have that is kept so."""
    what, most = ("disk in qcow2", limits.POOL_QCOW2_BYTES_MAX) if format == "qcow2" else ("disk", SIZE_MOST)
    if 0 < size <= most and size % protocol.SECTOR == 0:
        return size
    raise ConfigurationError(
        f"a {what} cannot have {size} bytes; choose whole sectors of {protocol.SECTOR} bytes, up to {most}"
    )


def is_cause(text: str) -> bool:
    """Whether a text may be said from outside to be the cause of a snapshot."""
    head, space, schedule = text.partition(" ")
    return text == ASKED or (head + space == BY_SCHEDULE and names.is_name(schedule))


def check_cause(cause: str) -> None:
    """ConfigurationError for one that may not."""
    if not is_cause(cause):
        raise ConfigurationError(f'a snapshot is cut by "{ASKED}", or by "{BY_SCHEDULE}NAME"')


def check_count(count: int, what: str, most: int) -> None:
    """ConfigurationError where there would be too many of something."""
    if count > most:
        raise ConfigurationError(f"there are {most} {what} already; delete some first")
