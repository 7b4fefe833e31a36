"""What the node needs of the system: stores, interfaces, and which of them are there at all."""

import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from aoe.config.values import ExportConfig
from aoe.disk.opened import Opened
from aoe.errors import AoeError
from aoe.link.base import Link
from aoe.link.naming import Known
from aoe.node.chores import Facts
from aoe.node.holds import Rest
from aoe.node.plan import Store
from aoe.pool.asked import Wish
from aoe.pool.requests import Cut
from aoe.target.keys import StoreKey


class Held(NamedTuple):
    """A store that was opened for an export, and is locked: what its disk is made of, what its record is
    found by, and the same token as `Opener.find` has for it."""

    opened: Opened
    key: StoreKey
    store: Store


class There(dict[str, Store]):
    """What places lead to, of those where there is a disk. Of some others it is known `why` there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.why: dict[str, str] = {}

    def add(self, places: Sequence[str], found: Sequence[Store | AoeError | None]) -> None:
        """What each of some leads to."""
        for place, it in zip(places, found, strict=True):
            if isinstance(it, AoeError):
                self.why[place] = str(it)
            elif it is not None:
                self[place] = it


class Opener(Protocol):
    """Opens what the file names: in this process, or in one that has the rights for it. Its methods block."""

    def find(self, places: Iterable[str]) -> There:
        """What each place leads to, of those where there is a disk."""

    def open_stores(self, exports: Iterable[ExportConfig]) -> Iterator[Held | AoeError | OSError]:
        """Open the stores of exports, in their order, and lock each for this node unless that has its lock
        already, which then is for both. Where one cannot be opened, or another process has it, there is the
        error; Busy."""

    def release(self, *held: Held) -> None:
        """Exports do not use their stores any more: a lock goes with the last of them. The descriptors are
        closed by their disks."""

    def rest(self, wanted: Collection[Store]) -> Rest:
        """Let go of what earlier lives of the service held and no export has now, but for what is `wanted`,
        once nothing can change it any more."""

    def volume(self, pool: str, request: Wish, *, only_plan: bool) -> Facts:
        """Do a verb of a pool, or only plan it: `steps` and what was `done` in words, `notes`, which disks of
        exports it `touches`, and whether it may beside them (`live`). ConfigurationError, PoolError: nothing
        was done."""

    def hear(self, connection: int) -> str | None:
        """Hear at a person's control connection what is asked for: why that may not be, or nothing; None
        where nothing is read there. ConfigurationError where it is not known whether."""

    def begin_cut(self, pool: str, request: Cut, cause: str) -> Facts:
        """Make a file for a snapshot of a volume that is served: its `number`. Of one that does not `end`
        nothing is left. ConfigurationError, PoolError."""

    def cut_file(self, number: int) -> int:
        """A descriptor of that, to be filled. ConfigurationError, OSError."""

    def end_cut(self, number: int, *, whole: bool) -> Facts:
        """It becomes the `snapshot` of that name, and what was `done`; or it goes. ConfigurationError,
        PoolError: then it goes, too."""

    def volumes(self, pool: str, after: str) -> Facts:
        """Volumes of a pool behind one, as `aoe.pool.facts.listed` has them. ConfigurationError."""

    def rooms(self) -> list[Facts]:
        """How full each pool of the file is, as `aoe.node.rooms` has it."""

    def merges(self) -> list[Facts]:
        """Merge what deleted snapshots have left, as `aoe.node.merges` has it. Blocks for as long as that
        takes."""

    def dues(self) -> list[Facts]:
        """What the schedules of the file have to do now, as `aoe.node.scheduled` has it."""

    def close(self) -> None:
        """Let go of all stores here; what is held for the next life of the service stays so."""

    def hurry(self) -> None:
        """Everything ends: wait for nothing that takes long."""

    def when_answering(self, call: Callable[[], None]) -> None:
        """Call it, in the event loop, each time that what could not be asked for can be."""

    def open_link(self, name: str) -> Link:
        """Open an interface, which may come later, or a UDP link. ConfigurationError where it cannot be."""

    def look(self) -> list[Known]:
        """The interfaces that there are."""

    def only(self) -> str:
        """The Ethernet interface that is meant where none is named. ConfigurationError."""

    def watching(self) -> socket.socket:
        """To be told when one changes."""
