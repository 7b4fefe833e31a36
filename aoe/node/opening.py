"""What the node needs of the system: stores, interfaces, and which of them are there at all."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from aoe.config.values import ExportConfig, is_link
from aoe.disk import locks
from aoe.disk.found import token_of
from aoe.disk.open import Opening, open_store
from aoe.disk.opened import Opened
from aoe.errors import ConfigurationError
from aoe.link.base import Link
from aoe.link.packet import PacketLink, Sockets
from aoe.link.udp import UdpLink, UdpSpec
from aoe.node.plan import Store
from aoe.target.keys import StoreKey
from aoe.target.naming import key_of


class Held(NamedTuple):
    """A store that was opened for an export, and is locked: what its disk is made of, what its record is
    found by, and the same token as `Opener.find` has for it."""

    opened: Opened
    key: StoreKey
    store: Store


class Opener(Protocol):
    """Opens what the file names: in this process, or in one that has the rights for it. Its methods block."""

    def find(self, places: Iterable[str]) -> dict[str, Store]:
        """What each place leads to, of those where there is a disk."""

    def open_store(self, export: ExportConfig) -> Held:
        """Open the store of an export, and lock it for this node unless that has its lock already, which
        then is for both. ConfigurationError where it cannot be opened, or another process has it."""

    def release(self, held: Held) -> None:
        """An export does not use its store any more: the lock goes with the last of them. The descriptor is
        closed by its disk."""

    def open_link(self, name: str) -> Link:
        """Open an interface, which may come later, or a UDP link. ConfigurationError where it cannot be."""


class _Lock:
    """The descriptor that has the locks of a store, and how many exports use it."""

    def __init__(self, fd: int, read_only: bool) -> None:
        self.fd = fd
        self.read_only = read_only
        self.users = 1


class InProcess:
    """An opener without any rights but those of this process."""

    def __init__(self, lock_wait_s: float, sockets: Sockets = Sockets()) -> None:  # noqa: B008
        """Another process that has a store is waited for, for `lock_wait_s`."""
        self._lock_wait_s = lock_wait_s
        self._sockets = sockets
        self._locks: dict[Store, _Lock] = {}

    def find(self, places: Iterable[str]) -> dict[str, Store]:
        return {place: store for place in places if (store := _look(place)) is not None}

    def open_store(self, export: ExportConfig) -> Held:
        path, how = Path(export.place), opening_of(export)._replace(lock_wait_s=self._lock_wait_s)
        lock = None if export.shared else self._locks.get(_look(export.place))
        opened = open_store(path, how) if lock is None else _again(path, how, lock)
        store = token_of(os.fstat(opened.store.fd))
        if lock is not None:
            lock.users += 1
        elif not export.shared:
            self._locks[store] = _Lock(os.dup(opened.store.fd), how.read_only)
        return Held(opened, key_of(path, opened, how), store)

    def release(self, held: Held) -> None:
        lock = None if held.opened.store.shared else self._locks.get(held.store)
        if lock is None:
            return
        lock.users -= 1
        if not lock.users:
            os.close(self._locks.pop(held.store).fd)

    def open_link(self, name: str) -> Link:
        return UdpLink(UdpSpec.parse(name)) if is_link(name) else PacketLink(name, self._sockets, waits=True)


def opening_of(export: ExportConfig) -> Opening:
    """How the store of an export is opened."""
    return Opening(export.read_only, export.direct, export.shared, export.offset, export.length)


def _again(path: Path, how: Opening, lock: _Lock) -> Opened:
    """What this process has locked, by its descriptor: the name may lead to another store by now."""
    again = Path(f"/proc/self/fd/{lock.fd}")
    is_block = stat.S_ISBLK(os.fstat(lock.fd).st_mode)
    try:
        if lock.read_only and not how.read_only:
            locks.take(lock.fd, path, read_only=False, is_block=is_block)
            lock.read_only = False
        return open_store(again, how._replace(locked=True))
    except BlockingIOError as error:
        raise ConfigurationError(f"{path} is read by another program; stop it, or say read-only") from error
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace(str(again), str(path))) from error


def _look(place: str) -> Store | None:
    try:
        found = Path(place).stat()
    except (OSError, ValueError):
        return None
    return token_of(found) if stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode) else None
