"""What a kind of pool does, behind one interface: `aoe.pool.work` plans and carries out on any of them."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from aoe.pool.download import Scratch
from aoe.pool.names import Format, Kind
from aoe.pool.qemu_img import Layer, Told
from aoe.pool.room import Room, Usage
from aoe.pool.settling import Found
from aoe.pool.steps import Step
from aoe.pool.volume import Image

if TYPE_CHECKING:
    from aoe.pool.directory import Directory
    from aoe.pool.lvm import LvmThin


class Store(Protocol):
    """An open pool of some kind. What a call does to the store may fail with OSError or PoolError."""

    said: str
    """The pool in a message."""

    formats: tuple[Format, ...]
    """How the bytes of a disk can be kept here."""
    cuts_in_use: bool
    """Whether a volume can be cut that is written meanwhile, and the cut is of one moment. Where its blocks
    lie is of no matter to clones then, so a template is not copied."""

    def lock(self, patience_s: float) -> None:
        """Keep other processes out until it is closed. PoolError names the one that works here."""

    def close(self) -> None:
        """Let others work here."""

    def is_there(self) -> bool:
        """Whether the path of the pool leads to it still: another one may be there by now, or none."""

    def path_of(self, image: Image) -> str:
        """Where an image is, for what opens it by a path."""

    def ready(self, image: Image) -> str:
        """The same, once it can be opened there."""

    def room(self) -> Room:
        """How full the store is."""

    def reflinks(self) -> bool:
        """Whether images here can share blocks."""

    def scratch(self, reserve: int) -> Scratch:
        """Where what is fetched for it is kept, so that the reserve (percent) stays free."""

    def usage(self, image: Image) -> Usage:
        """What an image takes, where `measure` learns it: took then; nothing where it is not there."""

    def measure(self) -> None:
        """Learn what all images take, where that cannot be learned of each alone. It may take minutes; any
        thread may do it, beside anything else."""

    def end_sharing(self, image: Image) -> None:
        """Let an image that shares no block any more be written as fast as one that never did. Its writes
        wait meanwhile, for longer the more extents it has; nothing is done where the store cannot."""

    def found(self) -> Found:
        """All that is there."""

    def save(self) -> None:
        """Keep a little room for records of what is deleted when the store is full, where that takes any."""

    def spend(self) -> bool:
        """Give that up; false where there is none."""

    def do(self, step: Step) -> None:
        """One of them, on stable storage when this returns."""

    def alone(self, image: Image, *, read: bool) -> AbstractContextManager[None]:
        """Inside, nothing else writes to an image, nor reads it unless this only reads (`read`). PoolError
        names what uses it."""

    # Without the lock, too

    def unnamed(self, image: Image) -> AbstractContextManager[int]:
        """A new image with zeroes in it, open to be filled, of which nothing is left unless it is named."""

    def name(self, fd: int, image: Image) -> None:
        """What it was filled with is on stable storage, and a verb can find it."""

    def layers(self, images: Iterable[Image]) -> AbstractContextManager[list[Layer]]:
        """The images that a state is made of, the last one first, open to be read."""

    def rebase(self, image: Image, through: Sequence[Image], base: Image | None, told: Told) -> None:
        """Let it be differences to a base, or to nothing, with the same bytes. PoolError where it is used."""


def opened(kind: Kind, path: str, name: str = "") -> Store:
    """The pool of a kind that is at a path; ConfigurationError for what is none."""
    return _KINDS[kind]()(path, name)


def cuts_in_use(kind: Kind) -> bool:
    """`Store.cuts_in_use` of a kind of pool, of which none is opened."""
    return _KINDS[kind]().cuts_in_use


def _directory() -> "type[Directory]":
    from aoe.pool.directory import Directory  # noqa: PLC0415 - only the kind that is used is loaded

    return Directory


def _lvm_thin() -> "type[LvmThin]":
    from aoe.pool.lvm import LvmThin  # noqa: PLC0415

    return LvmThin


_KINDS: dict[Kind, Callable[[], "type[Directory | LvmThin]"]] = {
    "directory": _directory,
    "lvm-thin": _lvm_thin,
}


def init(path: str, *, kind: Kind = "directory", name: str = "", plain_directory: bool = False) -> None:
    """Make a pool of a directory, or of a thin pool (VG/THIN-POOL). There may be other things in it.

    ConfigurationError for what is none, for what is a pool already, and for a directory of the root file
    system without `plain_directory`: nothing would tell whether the one that was meant is mounted. PoolError.
    """
    if kind == "lvm-thin":
        from aoe.pool import lvm_marking  # noqa: PLC0415

        lvm_marking.init(lvm_marking.place_of(path, name))
        return
    from aoe.pool import marking  # noqa: PLC0415

    marking.init(path, name=name, plain_directory=plain_directory)
