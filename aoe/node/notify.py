"""What a service says to its manager (sd_notify(3)), and the descriptors that the manager gave it
(sd_listen_fds(3))."""

import array
import asyncio
import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator, MutableMapping
from typing import Self

from aoe import timing
from aoe.printable import one_line

FIRST_GIVEN = 3
"""Number of the first descriptor that a manager gives (SD_LISTEN_FDS_START)."""
_UNNAMED = "unknown"
_NO_ROOM = (errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS)


class Notifier:
    """To the manager, if there is one. Nothing here waits for it."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        self.watchdog_s = watchdog_s
        """How often it wants to hear `alive`, in seconds; 0 if it does not."""
        self._socket: socket.socket | None = None
        self._is_full = False
        self._waiting: list[Callable[[], object]] = []
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            self._socket.connect("\0" + address[1:] if address.startswith("@") else address)

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Self:
        """As the environment says, from which its words are taken away: they are not meant for children."""
        address = environment.pop("NOTIFY_SOCKET", "")
        period_us = environment.pop("WATCHDOG_USEC", "0")
        meant = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog_s = int(period_us) / 2e6 if meant and period_us.isdecimal() else 0.0
        return cls(address, watchdog_s)

    @property
    def is_managed(self) -> bool:
        """Whether there is a manager."""
        return self._socket is not None

    def ready(self) -> None:
        """It serves. Where there is no room to say so, the event loop says it later: else the start would end
        with an error."""
        if not self.say("READY=1"):
            self.when_room(self.ready)

    def when_room(self, call: Callable[[], object]) -> None:
        """After `say` found none: call once when there may be some, from the event loop. Some managers have a
        queue of ten words (net.unix.max_dgram_qlen), so that to look for room from time to time takes seconds
        for what a thousand exports have held."""
        loop = asyncio.get_running_loop()
        if self._socket is None or not self._is_full:
            loop.call_later(timing.STORE_POLL_S, call)
            return
        self._waiting.append(call)
        loop.add_writer(self._socket.fileno(), self._has_room, loop)

    def _has_room(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._socket is not None
        loop.remove_writer(self._socket.fileno())
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    def status(self, text: str) -> None:
        """What `systemctl status` shows: one line."""
        self.say("STATUS=" + one_line(text))

    def stopping(self) -> None:
        """It begins to end."""
        self.say("STOPPING=1")

    def alive(self) -> None:
        """For the watchdog."""
        self.say("WATCHDOG=1")

    def say(self, text: str, *descriptors: int) -> bool:
        """Some assignments, a line each, with descriptors for it; false if there is no room for it now. To
        one that is gone nothing is said."""
        if self._socket is None:
            return True
        rights = array.array("i", descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if descriptors else []
        try:
            self._socket.sendmsg([text.encode("utf-8", "backslashreplace")], ancillary)
        except OSError as error:
            self._is_full = error.errno == errno.EAGAIN
            return error.errno not in _NO_ROOM
        return True

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is None:
            return
        if self._waiting:
            self._waiting.clear()
            asyncio.get_running_loop().remove_writer(self._socket.fileno())
        self._socket.close()
        self._socket = None


def given(environment: MutableMapping[str, str]) -> list[tuple[str, int]]:
    """The descriptors that this process was started with, by name, in any order; names may come twice. They
    are closed when it executes something. The words for them are taken from the environment."""
    count = environment.pop("LISTEN_FDS", "0")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    meant = environment.pop("LISTEN_PID", "") == str(os.getpid())
    if not (meant and count.isdecimal()):
        return []
    return list(_named(int(count), names))


def _named(count: int, names: list[str]) -> Iterator[tuple[str, int]]:
    for at, fd in enumerate(range(FIRST_GIVEN, FIRST_GIVEN + count)):
        fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        yield names[at] if at < len(names) and names[at] else _UNNAMED, fd
