"""The process and the event loop that something belongs to. Used from another one it would hang, or take what
is its owner's: sockets, rings and epoll sets are shared with a child that was forked."""

import asyncio
import os
from asyncio import _get_running_loop
from threading import get_ident
from typing import NoReturn

from aoe.errors import MisuseError


class _Life:
    """Another one in every process that was forked."""


_life = [_Life()]
os.register_at_fork(after_in_child=lambda: _life.__setitem__(0, _Life()))


class Home:
    """Where `what` was made: in this process, inside the running event loop unless it has none. `remedy` is
    what to do elsewhere."""

    def __init__(self, what: str, remedy: str = "make another one here", *, loop: bool = True) -> None:
        self._what = what
        self._remedy = remedy
        self._life = _life[0]
        self._thread = get_ident()
        self._loop = asyncio.get_running_loop() if loop else None

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that it belongs to."""
        return self._life is not _life[0]

    def check_process(self) -> None:
        """MisuseError in a child."""
        if self.forked:
            raise MisuseError(
                f"{self._what} belongs to the process that this one was forked from; {self._remedy}"
            )

    def check(self) -> None:
        """MisuseError in a child, in another event loop, or in another thread."""
        here = get_ident() == self._thread
        loop = self._loop
        if here and self._life is _life[0] and loop is not None and loop.is_running():
            return  # asking which loop runs would cost a system call
        self.check_process()
        running = _get_running_loop()
        if running is loop:
            return
        if running is None and here:
            return
        where = "event loop" if here else "thread"
        raise MisuseError(f"{self._what} belongs to another {where}; {self._remedy}")


class Rooted:
    """Cannot be sent to another process, as multiprocessing would do with an argument."""

    def __reduce__(self) -> NoReturn:
        raise MisuseError(
            f"a {type(self).__name__} cannot be sent to another process; make another one there"
        )
