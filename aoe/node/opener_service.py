"""The opener as a service of its own: whichever process may connect to its socket has a process of it."""

import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from aoe import limits
from aoe.node.desk import Desk
from aoe.node.opener_messages import Given, Misunderstood, Request
from aoe.node.opener_process import run


class Versioned(Desk):
    """Opens only for a service of its own release. For another one it ends, if it is not of the release that
    is `installed` any more: the next opener is."""

    def __init__(
        self, release: str, installed: Callable[[], str], end: Callable[[], NoReturn], *desk: Any
    ) -> None:
        """`end` ends this process, and the service that it is of."""
        super().__init__(*desk)
        self._own = release
        self._installed = installed
        self._end = end
        self._is_known = False

    def do(self, request: Request, descriptors: Sequence[int]) -> Given:
        """As `Desk` does, from a greeting on."""
        if request.verb == "hello":
            return self._hello(request.arguments)
        if not self._is_known:
            raise Misunderstood("a service of this release says hello first")
        return super().do(request, descriptors)

    def _hello(self, said: dict[str, Any]) -> Given:
        self._is_known = said.get("release") == self._own
        if not self._is_known and self._installed() != self._own:
            self._end()
        return Given({"release": self._own})


def _nothing() -> None: ...


def serve(listener: socket.socket, desk: Callable[[], Desk], after: Callable[[], None] = _nothing) -> None:
    """For good: a process for each connection, which does `after` that what is left to do."""
    children = 0
    while True:
        connection, _ = listener.accept()
        children -= _ended(children)
        if children >= limits.OPENER_CONNECTIONS_MAX:
            connection.close()
            continue
        if not os.fork():
            listener.close()
            run(connection, desk, after=after)
        connection.close()
        children += 1


def _ended(children: int) -> int:
    """How many of them have since the last look."""
    ended = 0
    while ended < children and os.waitpid(-1, os.WNOHANG)[0]:
        ended += 1
    return ended
