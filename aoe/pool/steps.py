"""What a verb does to a pool, one thing after the other, each on stable storage before the next begins.

A new image is made beside the others, under a name that says it is new; then one record is written, hidden
or renamed, and that is the moment at which the verb has happened; then the rest follows. So what a crash
leaves can be told apart: a new image that no record names is not wanted, one that a record names only lacks
its name.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from aoe.pool.volume import Image, Volume

Copied = Literal["copy", "overlay"]


class Make(NamedTuple):
    """A new image: empty, or beginning as another one, whose blocks it shares. One that is `kept` is never
    written."""

    image: Image
    of: Image | None = None
    how: Copied = "copy"
    kept: bool = False

    @property
    def sentence(self) -> str:
        """In words, here and below."""
        if self.of is None:
            return f"make an empty image {self.image.file} of {self.image.size} bytes"
        shares = "sharing the blocks of" if self.how == "copy" else "an overlay of"
        return f"make the image {self.image.file}, {shares} {self.of.file}"


class Find(NamedTuple):
    """A new image that was filled before is there; else nothing is done."""

    image: Image

    @property
    def sentence(self) -> str:
        return f"find the image {self.image.file}, which is filled"


class Check(NamedTuple):
    """An image is differences to the image `base`, or to nothing; else nothing is done."""

    image: Image
    base: Image | None

    @property
    def sentence(self) -> str:
        return f"check that {self.image.file} needs {self.base.file if self.base else 'no other'}"


class Save(NamedTuple):
    """The record of a volume, new or replaced."""

    name: str
    volume: Volume

    @property
    def sentence(self) -> str:
        return f"write the record of {self.name}"


class Settle(NamedTuple):
    """A new image gets its name, now that a record has it."""

    image: Image

    @property
    def sentence(self) -> str:
        return f"name the image {self.image.file}"


class Fit(NamedTuple):
    """An image gets the length of its disk; what it has behind the size that it had is zeroes then."""

    image: Image
    was: int

    @property
    def sentence(self) -> str:
        return f"resize the image {self.image.file} from {self.was} to {self.image.size} bytes"


class Move(NamedTuple):
    """A volume gets another name."""

    old: str
    new: str

    @property
    def sentence(self) -> str:
        return f"rename the record of {self.old} to {self.new}"


class Hide(NamedTuple):
    """The record of a volume is put aside: the volume is gone, and its images are to go."""

    name: str
    uuid: str

    @property
    def sentence(self) -> str:
        return f"put the record of {self.name} aside"


class Drop(NamedTuple):
    """A file of an image is removed; one that is not there is. It is `emptied` before that, unless a program
    uses it: what does not any more may have it open for long."""

    file: str
    new: bool = False
    emptied: bool = False

    @property
    def sentence(self) -> str:
        return f"remove the {'unfinished ' * self.new}image {self.file}"


class Forget(NamedTuple):
    """A record that was put aside is removed, as its images are."""

    uuid: str

    @property
    def sentence(self) -> str:
        return f"remove the record that was put aside of {self.uuid}"


class Sweep(NamedTuple):
    """A record that was not written to its end is removed."""

    file: str

    @property
    def sentence(self) -> str:
        return f"remove the unfinished record {self.file}"


Step = Make | Find | Check | Save | Settle | Fit | Move | Hide | Drop | Forget | Sweep


class Plan(NamedTuple):
    """How a verb is carried out. `notes` are for people. Nothing else may use the images of `idle` meanwhile,
    nor write to those of `read`; but one that is `live` goes on while disks of the same process are served,
    and where images stay as they are (`still`) others may read those of `idle`. The process that asks keeps
    others from the images of `held` itself. One that `frees` room may use what is kept for that."""

    steps: tuple[Step, ...]
    done: str
    notes: tuple[str, ...] = ()
    idle: tuple[Image, ...] = ()
    read: tuple[Image, ...] = ()
    held: tuple[Image, ...] = ()
    frees: bool = False
    live: bool = False
    still: bool = False

    @property
    def sentences(self) -> list[str]:
        """Its steps in words."""
        return [step.sentence for step in self.steps]


def changed(step: Step) -> Image | None:
    """The image that a step is about, where that was there before and is served on: its disk goes on in an
    overlay, or grows."""
    match step:
        case Make(of=of, how="overlay"):
            return of
        case Fit(image):
            return image
    return None


def after(volumes: Mapping[str, Volume], steps: Iterable[Step]) -> dict[str, Volume]:
    """The volumes once some steps are done."""
    found: dict[str, Any] = dict(volumes)
    for step in steps:
        match step:
            case Save(name, volume):
                found[name] = volume
            case Move(old, new):
                found[new] = found.pop(old)
            case Hide(name):
                del found[name]
    return found
