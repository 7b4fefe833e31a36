"""Address locks that the service manager holds from one life of the service to the next."""

import os
import socket
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from aoe.limits import ADDRESS_BACKLOG
from aoe.node.held import Held, Kind, name_of
from aoe.node.plan import Key
from aoe.target.address_locks import parts_of
from aoe.target.system import System

T = TypeVar("T")


class HeldAddresses(System):
    """Those of the last life where they are wanted, else new ones; either are held for the next life."""

    def __init__(self, held: Held, system: System) -> None:
        """New ones, and everything else, are had of the `system`."""
        self._held = held
        self._system = system
        self._found: dict[str, socket.socket] = {}
        self._begins = True
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

    async def do(self, call: Callable[[], T]) -> T:
        return await self._system.do(call)

    def bound(self, *names: str) -> list[socket.socket | None]:
        had = [name for name in names if name in self._found]
        others = [name for name in names if name not in self._found]
        made = dict(zip(others, self._system.bound(*others), strict=True)) if others else {}
        for name, lock in made.items():
            if lock is not None:
                self._held.keep(Kind.ADDRESS, name, lock.fileno())
        made |= {name: self._found.pop(name) for name in had}
        return [made[name] for name in names]

    def free(self, name: str, lock: socket.socket) -> None:
        """Until it is known what is served, for whatever asks next: the manager would have it still."""
        if self._begins:
            self._found[name] = lock
            return
        self._held.forget(Kind.ADDRESS, name)
        self._system.free(name, lock)

    def leave(self, but: Collection[Key]) -> list[str]:
        """What is served is known. Let others have what was not asked for, except for these addresses; what
        is let go, in words."""
        self._begins = False
        left = [name for name in self._found if parts_of(name)[1] not in but]
        for name in left:
            self.free(name, self._found.pop(name))
        return ["e{}.{}".format(*parts_of(name)[1]) for name in left]

    def holder(self, name: str) -> str:
        return self._system.holder(name)

    def image_again(self, key: tuple[int, int], image: str) -> tuple[str, int]:
        return self._system.image_again(key, image)

    def add_watches(self, inotify: int, fds: Sequence[int], then: Callable[[Sequence[int]], None]) -> None:
        self._system.add_watches(inotify, fds, then)


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
