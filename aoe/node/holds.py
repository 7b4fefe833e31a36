"""Descriptors that hold stores from one life of the service to the next, apart from those of its I/O.

A lock that outlives its process does not say whether that process's I/O is over. So what is held is never
used for I/O; each life does that on descriptions of its own, each with the life lock (`LifeLock`).
"""

import fcntl
import logging
import os
import stat
import threading
from collections.abc import Collection, Iterable
from typing import NamedTuple, Protocol

from aoe.disk.found import token_of
from aoe.disk.identity import HERE
from aoe.disk.locks import LifeLock
from aoe.disk.syscalls import close_all
from aoe.errors import ConfigurationError
from aoe.node.held import Kind, name_of
from aoe.node.plan import Store
from aoe.printable import plain

log = logging.getLogger("aoe.node")


class Busy(ConfigurationError):
    """Writes of an earlier process to a store have not ended: it is opened when they have."""

    def __init__(self, why: str, store: Store) -> None:
        super().__init__(why)
        self.store = store


class Rest(NamedTuple):
    """Stores that can be opened by now, and how many are still waited for."""

    free: frozenset[Store]
    waits: int


class Keeper(Protocol):
    """Keeps descriptors for the next life, by keys."""

    def keep(self, key: str, fd: int) -> None:
        """A copy of it, until it is to be forgotten."""

    def forget(self, key: str) -> None:
        """Keep it no more."""


IMAGES = f"{Kind.IMAGES}:"
"""How keys begin of what has images kept, which is no store."""


def kind_of(key: str) -> Kind:
    """What is kept by a key."""
    return Kind.IMAGES if key.startswith(IMAGES) else Kind.STORE


class Place(NamedTuple):
    """A store, and whether other hosts serve it, too: then it has no locks."""

    store: Store
    shared: bool

    @property
    def key(self) -> str:
        """For a keeper."""
        assert isinstance(self.store, tuple), "a store is told by its numbers"
        return " ".join(map(str, (*self.store, *(["shared"] if self.shared else []))))


class Hold:
    """A descriptor that has the locks of a store, and how many exports use it. `apart`: their I/O is done on
    other descriptions, and `proven` is that no earlier process does any."""

    def __init__(self, fd: int, place: Place, *, apart: bool = True) -> None:
        self.fd = fd
        self.place = place
        self.read_only = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        self.apart = apart
        self.users = 0
        self.proven = not apart

    def is_free(self) -> bool:
        """Whether no earlier process changes the store."""
        if not self.proven:
            try:
                self.proven = LifeLock(self.fd, shared=self.place.shared).is_free()
            except OSError:  # the store has gone
                self.proven = True
        return self.proven

    def begin(self, fd: int) -> bool:
        """Whether I/O may be done on that description from now on. OSError."""
        life = LifeLock(fd, shared=self.place.shared)
        if self.users > 1 and self.proven:
            life.join()
            return True
        self.proven = life.take()
        return self.proven


class Holds:
    """Those of this process. Any thread may call."""

    def __init__(self) -> None:
        self._keeper: Keeper | None = None
        self._them: dict[Place, Hold] = {}
        self._counting = threading.Lock()

    def adopt(self, keeper: Keeper, found: Iterable[tuple[str, int]]) -> list[str]:
        """Go on with what an earlier life had kept, and keep there; the names of what is not what it is
        called, and was closed."""
        self._keeper = keeper
        return [name for name, fd in found if not self._adopt(name, fd)]

    def _adopt(self, name: str, fd: int) -> bool:
        store = token_of(os.fstat(fd))
        for place in (Place(store, False), Place(store, True)):
            if name == name_of(Kind.STORE, place.key) and place not in self._them:
                self._them[place] = Hold(fd, place)
                return True
        os.close(fd)
        return False

    def use(self, place: Place) -> Hold | None:
        """For one more export, if it is held."""
        with self._counting:
            hold = self._them.get(place)
            if hold is not None:
                hold.users += 1
            return hold

    def has(self, store: Store) -> bool:
        """Whether an export uses it."""
        with self._counting:
            return any(place.store == store and hold.users for place, hold in self._them.items())

    def go_on_with(self, place: Place, *, changes: bool) -> None:
        """An export uses it already; one that `changes` it had waited for earlier processes."""
        hold = self.use(place)
        if hold is not None and changes:
            hold.proven = True

    def put(self, hold: Hold) -> None:
        """For its first export."""
        hold.users = 1
        with self._counting:
            self._them[hold.place] = hold
        if hold.apart and self._keeper is not None:
            self._keeper.keep(hold.place.key, hold.fd)

    def release(self, place: Place) -> None:
        """An export does not use it any more. With the last it goes, unless an earlier process has I/O."""
        with self._counting:
            hold = self._them.get(place)
            if hold is None:
                return
            hold.users -= 1
            if not hold.users and hold.is_free():
                self._let_go(place)

    def rest(self, wanted: Collection[Store]) -> Rest:
        """Let go of what no export uses, as soon as no earlier process has I/O there, but for what is
        `wanted`."""
        with self._counting:
            unused = {place: hold for place, hold in self._them.items() if not hold.users}
        waits = {place.store for place, hold in unused.items() if not hold.is_free()}
        for place, hold in unused.items():
            if place.store not in waits and place.store not in wanted:
                self._let_go_unused(place, hold)
        return Rest(frozenset(wanted) - waits, len(waits))

    def close(self) -> None:
        """Let go of everything here; what is kept for the next life stays so."""
        with self._counting:
            close_all(hold.fd for hold in self._them.values())
            self._them.clear()

    def _let_go_unused(self, place: Place, hold: Hold) -> None:
        name = _named(hold.fd)
        with self._counting:
            if hold.users:
                return
            self._let_go(place)
        log.warning("%s was held for an earlier life of the service, and no export has it now: let go", name)

    def _let_go(self, place: Place) -> None:
        hold = self._them.pop(place)
        close_all([hold.fd])
        if hold.apart and self._keeper is not None:
            self._keeper.forget(place.key)


def _named(fd: int) -> str:
    """A store in a message. Of a device that a process with another /dev opened the kernel tells half of the
    path."""
    found = os.fstat(fd)
    if stat.S_ISBLK(found.st_mode):
        return f"/dev/{HERE.node(found.st_rdev).name}"
    return plain(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115
