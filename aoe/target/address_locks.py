"""Which addresses this process serves where: a packet socket does not hear what its own host sends."""

import asyncio
import errno
import itertools
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from aoe import limits, timing
from aoe.errors import ConfigurationError, NoThread
from aoe.link.base import Link
from aoe.target.offer import Key, Unfit

log = logging.getLogger("aoe.target")

_CREDENTIALS = struct.Struct("3i")

Place = tuple[Link, Key]
T = TypeVar("T")


class Taken(Unfit):
    """Another process has addresses."""


class AddressLocks:
    """A lock for each interface and address, of the network namespace: a Unix socket of an abstract name,
    unix(7), which is gone with its process. Links that keep others out themselves need none."""

    def __init__(self, links: Iterable[Link], names: "Names | None" = None) -> None:
        """`names` takes them; by default this process."""
        self._system = names or Names()
        self._links = list(links)
        self._keys: set[Key] = set()
        self._held: dict[Place, tuple[str, socket.socket]] = {}
        self._turn = asyncio.Lock()
        self._following: set[asyncio.Task[None]] = set()

    async def take(self, keys: Sequence[Key], *, force: bool, wait_s: float | None = None) -> None:
        """Take them all, or after an error none. Processes that have some are waited for, for so many seconds
        or as long as usual.

        Taken if they stay, unless `force`; ConfigurationError if there are no more descriptors.
        """
        deadline = time.monotonic() + (timing.LOCK_WAIT_S if wait_s is None else wait_s)
        self._keys.update(keys)
        try:
            left = await self._take(itertools.product(self._links, keys))
            while left and time.monotonic() < deadline:
                await asyncio.sleep(timing.ADDRESS_RETRY_S)
                left = await self._take(left)
            if left:
                await self._refuse(left, force)
        except BaseException:
            self.free(keys)
            raise

    def free(self, keys: Iterable[Key]) -> None:
        """Let others serve these addresses."""
        self._keys.difference_update(keys)
        for link, key in [place for place in self._held if place[1] not in self._keys]:
            self._system.free(*self._held.pop((link, key)))

    def follow(self, *links: Link) -> None:
        """The interfaces of links may be others now. Inside the running event loop."""
        task = asyncio.get_running_loop().create_task(self._follow(links))
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    def look_again(self) -> None:
        """What could not be asked for can be now."""
        self.follow(*self._links)

    async def followed(self) -> None:
        """Wait until all that was to follow has."""
        while self._following:
            await asyncio.wait(self._following)

    async def _follow(self, links: Sequence[Link]) -> None:
        try:
            for link, key in await self._take(itertools.product(links, tuple(self._keys))):
                log.error("%s: clients will mix the two", await self._taken(link, key))
        except (ConfigurationError, NoThread) as error:
            log.error("%s", error)

    def join(self, link: Link) -> None:
        """Serve on a link, too."""
        self._links.append(link)
        self.follow(link)

    def leave(self, link: Link) -> None:
        """Let others serve on a link."""
        self._links.remove(link)
        for place in [place for place in self._held if place[0] is link]:
            self._held.pop(place)[1].close()

    def close(self) -> None:
        """Let others serve everything, as far as nothing but this process keeps it from them."""
        self._keys.clear()
        for task in self._following:
            task.cancel()
        while self._held:
            _, (_, lock) = self._held.popitem()
            lock.close()

    async def _take(self, places: Iterable[Place]) -> list[Place]:
        """Those that another process has. One at a time, or two would ask for the same."""
        async with self._turn:
            wanted = {place: name for place in places if (name := self._lacking(*place))}
            if not wanted:
                return []
            found = await self._system.do(lambda: self._system.bound(*wanted.values()))
            for (place, name), taken in zip(wanted.items(), found, strict=True):
                if taken is not None:
                    self._hold(place, name, taken)
            return [place for place, taken in zip(wanted, found, strict=True) if taken is None]

    def _lacking(self, link: Link, key: Key) -> str:
        """What is still to be locked; empty if it is ours, or no other process can have it."""
        name = _name(link, key)
        held, _ = self._held.get((link, key), ("", None))
        return "" if name == held else name

    def _hold(self, place: Place, name: str, lock: socket.socket) -> None:
        """Unless it is of no use any more."""
        link, key = place
        if key not in self._keys or link not in self._links:
            self._system.free(name, lock)
            return
        if place in self._held:
            self._system.free(*self._held[place])
        self._held[place] = name, lock

    async def _refuse(self, places: Iterable[Place], force: bool) -> None:
        why = {key: await self._taken(link, key) for link, key in places}
        if not force:
            remedy = "stop it, choose another address, or say --force"
            raise Taken({key: f"{taken}; {remedy}" for key, taken in why.items()})
        for taken in why.values():
            log.warning("%s: clients will mix the two", taken)

    async def _taken(self, link: Link, key: Key) -> str:
        name = _name(link, key)
        holder = await self._system.do(lambda: self._system.holder(name))
        return "e{}.{} is served on {} by {} already".format(*key, link.name, holder)


class Names:
    """Abstract names of Unix sockets, taken by this process; another one may do it instead."""

    async def do(self, call: Callable[[], T]) -> T:
        """A call of these inside an event loop, which does not wait for another process. NoThread."""
        return call()

    def bound(self, *names: str) -> list[socket.socket | None]:
        """A socket of each name, None where a process has it. ConfigurationError: then there is none."""
        taken: list[socket.socket | None] = []
        try:
            taken += map(_bound, names)
        except BaseException:
            for it in taken:
                if it is not None:
                    it.close()
            raise
        return taken

    def free(self, name: str, lock: socket.socket) -> None:
        """Let another process have it."""
        lock.close()

    def holder(self, name: str) -> str:
        """The process that has it, in words."""
        return _holder(name)


def _name(link: Link, key: Key) -> str:
    """Empty where no other process can be on the link."""
    return name_of(link.segment, key) if link.segment else ""


def name_of(segment: str, key: Key) -> str:
    """What is locked for an address on a segment."""
    return "\0aoe-target/{}/{}.{}".format(segment, *key)


def parts_of(name: str) -> tuple[str, Key]:
    """Of such a name, the segment and the address."""
    _, segment, address = name.split("/")
    shelf, slot = map(int, address.split("."))
    return segment, (shelf, slot)


def _bound(name: str) -> socket.socket | None:
    """A socket of that name, None if a process has it."""
    try:
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(_problem(name, error)) from error
    try:
        lock.bind(name)
        lock.listen(limits.ADDRESS_BACKLOG)
    except OSError as error:
        lock.close()
        if error.errno != errno.EADDRINUSE:
            raise ConfigurationError(_problem(name, error)) from error
        return None
    return lock


def _problem(name: str, error: OSError) -> str:
    return f"cannot lock {name[1:]}: {error.strerror}; allow more open files (ulimit -n)"


def _holder(name: str) -> str:
    """The process that has the socket, if the kernel tells (SO_PEERCRED: not in another PID namespace)."""
    with socket.socket(
        socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    ) as ask:
        try:
            ask.connect(name)
            told = ask.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return "another process"
    process, _, _ = _CREDENTIALS.unpack(told)
    try:
        return f"{Path(f'/proc/{process}/comm').read_text().strip()} (process {process})"
    except OSError:
        return "another process"
