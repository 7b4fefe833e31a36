"""What a pool is when a verb is planned, and how an image of it begins as another one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.pool import names
from aoe.pool.names import FORMATS, Format
from aoe.pool.room import Room
from aoe.pool.steps import Make
from aoe.pool.tree import Tree
from aoe.pool.volume import Image, check_count


class Child(NamedTuple):
    """A new image that begins as another one, and the step that makes it."""

    image: Image
    made: Make


@dataclass(frozen=True, slots=True)
class Standing:
    """A pool at one moment. `taken` are names that no volume can have, besides those of its volumes;
    `reflinks` tells whether its images can share blocks; `reserve` is in percent; `now` is UTC, ISO 8601;
    `fresh` makes an id that there has never been; `formats` are those that this kind of pool has, and
    where it `cuts_in_use` a volume can be cut that is written meanwhile."""

    tree: Tree
    taken: tuple[str, ...]
    room: Room
    reserve: int
    reflinks: Callable[[], bool]
    now: str
    fresh: Callable[[], str]
    formats: tuple[Format, ...] = FORMATS
    cuts_in_use: bool = False

    @property
    def reflink(self) -> bool:
        """Whether files can share blocks. That is tried, so not where the answer is of no use: a full store
        may have no room for it, and things must be deleted there."""
        return self.reflinks()

    @property
    def usual(self) -> Format:
        """The format of a volume that may have snapshots here."""
        return "raw" if self.reflink else "qcow2"

    def chosen(self, format: Format | None) -> Format:
        """The format that is asked for, or the usual one; ConfigurationError for what is not kept here."""
        if format is not None and format not in self.formats:
            raise ConfigurationError(
                f"this kind of pool keeps disks as {' or '.join(self.formats)}; leave out --format {format}"
            )
        return format or self.usual

    def notes(self, said: str, format: Format | None) -> Iterator[str]:
        """What a person should know of a new volume, for which a format was asked for, or none."""
        if self.reflink:
            return
        if format is None:
            yield f"{said} is qcow2: this file system cannot share blocks between files, as XFS and btrfs can"
        elif format == "raw":
            yield f"{said} is raw on a file system without reflink: it has no snapshots, and no clones"

    def check_new(self, name: str, but: str = "") -> str:
        """A name for a new volume, as people write it; ConfigurationError where it cannot be one. The name
        `but` is given up for it."""
        volumes = self.tree.volumes
        names.check_free(name, "volume", (it for it in (*volumes, *self.taken) if it != but))
        check_count(len(volumes) + (not but), "volumes in the pool", limits.POOL_VOLUMES_MAX)
        return self.tree.said(name)

    def idle(self, *images: Image) -> tuple[Image, ...]:
        """Those of the images that nothing else may use while they are cut, each at a moment of its own."""
        return () if self.cuts_in_use else images

    def check_room(self, what: str) -> None:
        """ConfigurationError where the reserve is all that is left."""
        self.room.check(self.reserve, what)

    def child(self, image: Image, *, kept: bool = False) -> Child:
        """What begins as an image; ConfigurationError where nothing can. With `kept` one of both is not to be
        written any more: the new one, unless that is an overlay."""
        if self.reflink:
            copy = Image(id=self.fresh(), size=image.size, format=image.format, base=image.base)
            return Child(copy, Make(copy, image, kept=kept))
        if image.format == "raw":
            raise ConfigurationError(
                "a raw volume has no snapshots on a file system without reflink; make it on XFS or btrfs, or "
                "with --format qcow2"
            )
        if self.tree.depth(image) >= limits.POOL_CHAIN_MAX:
            raise ConfigurationError(
                f"this state is made of {limits.POOL_CHAIN_MAX} images already, each of differences to the "
                "one before; delete snapshots among these, and wait until a daemon has merged them"
            )
        overlay = Image(id=self.fresh(), size=image.size, format="qcow2", base=image.id)
        return Child(overlay, Make(overlay, image, "overlay"))
