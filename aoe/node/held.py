"""Descriptors that the service manager holds from one life of the service to the next (sd_notify(3)).

A name is what a descriptor is for, what it is, and the version of this arrangement: `aoe1-link-` and a hash.
So the next life asks for what it wants. What has another name, as after a downgrade, is closed.
"""

import asyncio
import fcntl
import hashlib
import os
from collections import defaultdict, deque
from collections.abc import Iterable, MutableMapping
from enum import StrEnum
from typing import Self

from aoe import limits, timing
from aoe.disk.syscalls import close_all
from aoe.node.notify import Notifier, given

_VERSION = "aoe1"


class Kind(StrEnum):
    """What a descriptor is."""

    LINK = "link"
    """A packet socket, with its ring."""
    STORE = "store"
    """It holds a disk, and is not used for I/O."""
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
        self._timer: asyncio.TimerHandle | None = None
        for name, fd in found:
            self._found[name].append(fd)

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
        found = self._found.pop(name_of(kind, key), None)
        if found is None:
            return None
        fd, *others = found
        if others:
            self.forget(kind, key)
            self.keep(kind, key, fd)
            close_all(others)
        return fd

    def leave(self) -> list[str]:
        """Close what was not asked for, and have it held no more; the names."""
        left = sorted(self._found)
        for name in left:
            close_all(self._found.pop(name))
            self._tell(name, None)
        return left

    def keep(self, kind: Kind, key: str, fd: int) -> None:
        """Have an open file held for the next life, also when it hangs up or fails."""
        if self._notifier.is_managed:
            self._tell(name_of(kind, key), fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0))

    def forget(self, kind: Kind, key: str) -> None:
        """Have nothing held for `key` any more."""
        self._tell(name_of(kind, key), None)

    async def settled(self) -> None:
        """Wait until the manager was told everything."""
        while self._unsent:
            await asyncio.sleep(timing.STORE_POLL_S)

    def close(self) -> None:
        """Say nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        close_all(fd for _, fd in self._unsent if fd is not None)
        self._unsent.clear()

    # Inside

    def _tell(self, name: str, fd: int | None) -> None:
        if self._notifier.is_managed:
            self._unsent.append((name, fd))
            if self._timer is None:
                self._send()

    def _send(self) -> None:
        """In the order in which it was asked for; what does not fit goes later."""
        self._timer = None
        while self._unsent and self._sent(*self._unsent[0]):
            _, fd = self._unsent.popleft()
            if fd is not None:
                os.close(fd)
        if self._unsent:
            self._timer = asyncio.get_running_loop().call_later(timing.STORE_POLL_S, self._send)

    def _sent(self, name: str, fd: int | None) -> bool:
        if fd is None:
            return self._notifier.say(f"FDSTOREREMOVE=1\nFDNAME={name}")
        return self._notifier.say(f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}", fd)


def name_of(kind: Kind, key: str) -> str:
    """No colon is in it: all names are one string in the environment."""
    hashed = hashlib.blake2s(os.fsencode(key), digest_size=limits.HELD_HASH_BYTES).hexdigest()
    name = f"{_VERSION}-{kind}-{hashed}"
    assert len(name) <= limits.HELD_NAME_MAX
    return name
