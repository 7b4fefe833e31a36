"""Descriptors that the service manager holds from one life of the service to the next (sd_notify(3)).

A name is what a descriptor is for, what it is, and the version of this arrangement: `aoe1-link-` and a hash.
So the next life asks for what it wants. What has another name, as after a downgrade, is closed.
"""

import asyncio
import base64
import fcntl
import hashlib
import logging
import os
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, MutableMapping
from enum import StrEnum
from typing import Self

from aoe import limits, timing
from aoe.disk.syscalls import close_all
from aoe.node.notify import Notifier, given

log = logging.getLogger("aoe.node")

_VERSION = "aoe1"
_VERSIONED = re.compile(r"^aoe\d+")
_PATIENCE = 50


class Kind(StrEnum):
    """What a descriptor is."""

    LINK = "link"
    """A packet socket, with its ring."""
    STORE = "store"
    """It holds a disk, and is not used for I/O."""
    IMAGES = "images"
    """A pipe that lasts as long: images are kept for the next life."""
    ADDRESS = "address"
    """It holds an address on an interface."""
    LIFE = "life"
    """Memory with what the last life left: instances and streams."""
    NAME = "name"
    """Memory with a name, which lasts as long as the store."""


class Held:
    """What was held when this life began, and what is to be held for the next one. Lives in an event loop."""

    def __init__(self, notifier: Notifier, found: Iterable[tuple[str, int]] = ()) -> None:
        self._notifier = notifier
        self._found: dict[str, list[int]] = defaultdict(list)
        self._unsent: deque[tuple[str, int | None]] = deque()
        """What the manager had no room to hear yet: a copy of what is to be held, or None: hold none."""
        self._waits = False
        self._paused = False
        self._names: Counter[str] = Counter()
        """Of what is held, how often."""
        self._full = False
        for name, fd in found:
            self._found[name].append(fd)
            self._names[name] += 1
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def of(cls, environment: MutableMapping[str, str], notifier: Notifier) -> Self:
        """As the environment says."""
        return cls(notifier, given(environment))

    @property
    def is_managed(self) -> bool:
        """Whether there is a manager."""
        return self._notifier.is_managed

    def take(self, kind: Kind, key: str) -> int | None:
        """The descriptor that an earlier life had held for `key`; it is the caller's. Starts that failed may
        have left several, of which one goes on to be held."""
        return self._take(name_of(kind, key))

    def take_of_others(self, kind: Kind, key: str) -> list[tuple[str, int]]:
        """What arrangements of other versions had held for `key`, with the names; it is the caller's, and is
        held on until those names are dropped."""
        ours = name_of(kind, key)
        names = [it for it in self._found if it != ours and _VERSIONED.sub(_VERSION, it) == ours]
        return [(name, fd) for name in names for fd in self._found.pop(name)]

    def take_all(self, kind: Kind) -> list[tuple[str, int]]:
        """All of a kind, with their names; they are the caller's."""
        names = [name for name in self._found if name.startswith(_beginning(kind))]
        return [(name, fd) for name in names if (fd := self._take(name)) is not None]

    def given(self, name: str) -> list[int]:
        """Descriptors of a socket unit with that FileDescriptorName=, which were never held; they are the
        caller's."""
        found = self._found.pop(name, [])
        del self._names[name]
        return found

    def drop_unknown(self) -> list[str]:
        """Close what an arrangement of another version has, before it is in the way of what is opened; the
        names. What has images kept is in the way of nothing, and is to `let_go` of."""
        known = tuple(map(_beginning, Kind))
        unknown = sorted(it for it in self._found if not (it.startswith(known) or _is_of(Kind.IMAGES, it)))
        for name in unknown:
            close_all(self._found.pop(name))
            self.drop(name)
        return unknown

    def drop(self, name: str) -> None:
        """Have nothing held under that name any more, at once: waits until the manager hears it, if that is
        within a second."""
        del self._names[name]
        for _ in range(_PATIENCE):
            if self._sent(name, None):
                return
            time.sleep(timing.STORE_POLL_S)

    def _take(self, name: str) -> int | None:
        found = self._found.pop(name, None)
        if found is None:
            return None
        fd, *others = found
        if others:
            self._tell(name, None)
            self._keep(name, fd)
            close_all(others)
        return fd

    def let_go(self, kind: Kind) -> None:
        """Close what earlier lives, of whatever version, had held of a kind, and have it held no more."""
        for name in [it for it in self._found if _is_of(kind, it)]:
            close_all(self._found.pop(name))
            self._tell(name, None)

    def leave(self) -> list[str]:
        """Close what was not asked for, and have it held no more; the names."""
        left = sorted(self._found)
        for name in left:
            close_all(self._found.pop(name))
            self._tell(name, None)
        return left

    def keep(self, kind: Kind, key: str, fd: int) -> None:
        """Have an open file held for the next life, also when it hangs up or fails. Of stores and addresses
        only so many are held that there is room for the rest. Any thread may call."""
        if self._notifier.is_managed and self._has_room(kind):
            self._keep(name_of(kind, key), fd)

    def _has_room(self, kind: Kind) -> bool:
        many = kind in (Kind.STORE, Kind.ADDRESS)
        if self._names.total() < limits.HELD_MAX - (limits.HELD_RESERVED if many else 0):
            return True
        if not self._full:
            self._full = True
            log.warning(
                "the service manager holds %d descriptors at most: a restart opens the others anew",
                limits.HELD_MAX,
            )
        return False

    def _keep(self, name: str, fd: int) -> None:
        self._names[name] += 1
        self._tell(name, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0))

    def forget(self, kind: Kind, key: str) -> None:
        """Have nothing held for `key` any more. Any thread may call."""
        self._tell(name_of(kind, key), None)

    def pause(self) -> None:
        """What the manager is to hear waits until it is to `go_on`: there is something more urgent."""
        self._paused = True

    def go_on(self) -> None:
        """Tell it now."""
        self._paused = False
        self._begin()

    async def settled(self) -> None:
        """Wait until the manager was told everything."""
        self.go_on()
        while self._unsent:
            await asyncio.sleep(timing.STORE_POLL_S)

    def close(self) -> None:
        """Say nothing more."""
        close_all(fd for _, fd in self._unsent if fd is not None)
        self._unsent.clear()

    # Inside

    def _tell(self, name: str, fd: int | None) -> None:
        if fd is None:
            del self._names[name]
        if not self._notifier.is_managed:
            return
        self._unsent.append((name, fd))
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # another thread, or there is no loop yet
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._begin)
        else:
            self._begin()

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        if not self._waits and not self._paused:
            self._send()

    def _send(self) -> None:
        """In the order in which it was asked for; what does not fit goes later."""
        self._waits = False
        while self._unsent and self._sent(*self._unsent[0]):
            _, fd = self._unsent.popleft()
            if fd is not None:
                os.close(fd)
        if self._unsent:
            self._waits = True
            self._notifier.when_room(self._send)

    def _sent(self, name: str, fd: int | None) -> bool:
        if fd is None:
            return self._notifier.say(f"FDSTOREREMOVE=1\nFDNAME={name}")
        return self._notifier.say(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", fd)


def name_of(kind: Kind, key: str) -> str:
    """No colon is in it: all names are one string in the environment."""
    hashed = hashlib.blake2s(os.fsencode(key), digest_size=limits.HELD_HASH_BYTES).digest()
    name = _beginning(kind) + base64.urlsafe_b64encode(hashed).decode().rstrip("=")
    assert len(name) <= limits.HELD_NAME_MAX
    return name


def _is_of(kind: Kind, name: str) -> bool:
    """Also by the arrangement of another version."""
    return _VERSIONED.sub(_VERSION, name).startswith(_beginning(kind))


def _beginning(kind: Kind) -> str:
    return f"{_VERSION}-{kind}-"
