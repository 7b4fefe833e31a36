"""Address locks that the service manager holds from one life of the service to the next."""

import os
import socket
from collections.abc import Collection

from aoe.limits import ADDRESS_BACKLOG
from aoe.node.held import Held, Kind, name_of
from aoe.node.plan import Key
from aoe.target.address_locks import parts_of
from aoe.target.system import System


class HeldAddresses(System):
    """Those of the last life where they are wanted, else new ones; either are held for the next life."""

    def __init__(self, held: Held, system: System) -> None:
        """New ones, and everything else, are had of the `system`."""
        self._held = held
        self._system = system
        self._found: dict[str, socket.socket] = {}
        for given, fd in held.take_all(Kind.ADDRESS):
            self._adopt(given, fd)

    def _adopt(self, given: str, fd: int) -> None:
        try:
            name, lock = _lock(fd)
        except (OSError, ValueError):
            os.close(fd)
            self._held.drop(given)
            return
        if given != name_of(Kind.ADDRESS, name):
            lock.close()
            self._held.drop(given)
            return
        self._found[name] = lock

    def bound(self, name: str) -> socket.socket | None:
        found = self._found.pop(name, None)
        if found is not None:
            return found
        made = self._system.bound(name)
        if made is not None:
            self._held.keep(Kind.ADDRESS, name, made.fileno())
        return made

    def free(self, name: str, lock: socket.socket) -> None:
        self._held.forget(Kind.ADDRESS, name)
        self._system.free(name, lock)

    def leave(self, but: Collection[Key]) -> list[str]:
        """Let others have what was not asked for, except for these addresses; what is let go, in words."""
        left = [name for name in self._found if parts_of(name)[1] not in but]
        for name in left:
            self.free(name, self._found.pop(name))
        return ["e{}.{}".format(*parts_of(name)[1]) for name in left]

    def holder(self, name: str) -> str:
        return self._system.holder(name)

    def add_watch(self, inotify: int, fd: int) -> int:
        return self._system.add_watch(inotify, fd)


def _lock(fd: int) -> tuple[str, socket.socket]:
    """The address that a descriptor locks, which is this process's from now on (SO_PEERCRED names the one
    that called listen(2) last). OSError or ValueError for what is none; it is still open."""
    lock = socket.socket(fileno=os.dup(fd))
    try:
        if lock.family != socket.AF_UNIX:
            raise ValueError("it is no lock")
        name = os.fsdecode(lock.getsockname())
        parts_of(name)
        lock.listen(ADDRESS_BACKLOG)
    except BaseException:
        lock.close()
        raise
    os.close(fd)
    return name, lock
