"""Which addresses this process serves where: a packet socket does not hear what its own host sends."""

import asyncio
import errno
import itertools
import logging
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from aoe import limits, timing
from aoe.errors import ConfigurationError
from aoe.link.base import Link

log = logging.getLogger("aoe.target")

_CREDENTIALS = struct.Struct("3i")

Key = tuple[int, int]


class AddressLocks:
    """A lock for each interface and address, of the network namespace: a Unix socket of an abstract name,
    unix(7), which is gone with its process. Links that keep others out themselves need none."""

    def __init__(self, links: Iterable[Link], names: "Names | None" = None) -> None:
        """`names` takes them; by default this process."""
        self._system = names or Names()
        self._links = list(links)
        self._keys: set[Key] = set()
        self._held: dict[tuple[Link, Key], tuple[str, socket.socket]] = {}

    async def take(self, keys: Sequence[Key], *, force: bool) -> None:
        """Take them all, or after an error none. A process that has one is waited for, for a while.

        ConfigurationError if it stays, unless `force`, or if there are no more descriptors.
        """
        deadline = time.monotonic() + timing.LOCK_WAIT_S
        self._keys.update(keys)
        try:
            for link, key in itertools.product(self._links, keys):
                while not self._take(link, key) and time.monotonic() < deadline:
                    await asyncio.sleep(timing.ADDRESS_RETRY_S)
                if not self._take(link, key):
                    self._refuse(link, key, force)
        except BaseException:
            self.free(keys)
            raise

    def free(self, keys: Iterable[Key]) -> None:
        """Let others serve these addresses."""
        self._keys.difference_update(keys)
        for link, key in [place for place in self._held if place[1] not in self._keys]:
            self._system.free(*self._held.pop((link, key)))

    def follow(self, link: Link) -> None:
        """The interface of a link may be another one now."""
        for key in self._keys:
            try:
                if not self._take(link, key):
                    log.error("%s: clients will mix the two", self._taken(link, key))
            except ConfigurationError as error:
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
        while self._held:
            _, (_, lock) = self._held.popitem()
            lock.close()

    def _take(self, link: Link, key: Key) -> bool:
        """Whether it is ours, or no other process can have it."""
        name = _name(link, key)
        held, lock = self._held.get((link, key), ("", None))
        if not name or name == held:
            return True
        taken = self._system.bound(name)
        if taken is None:
            return False
        if lock is not None:
            self._system.free(held, lock)
        self._held[link, key] = name, taken
        return True

    def _refuse(self, link: Link, key: Key, force: bool) -> None:
        if not force:
            raise ConfigurationError(
                f"{self._taken(link, key)}; stop it, choose another address, or say --force"
            )
        log.warning("%s: clients will mix the two", self._taken(link, key))

    def _taken(self, link: Link, key: Key) -> str:
        holder = self._system.holder(_name(link, key))
        return "e{}.{} is served on {} by {} already".format(*key, link.name, holder)


class Names:
    """Abstract names of Unix sockets, taken by this process; another one may do it instead."""

    def bound(self, name: str) -> socket.socket | None:
        """A socket of that name, None if a process has it. ConfigurationError."""
        return _bound(name)

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
