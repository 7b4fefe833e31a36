"""Metrics of a daemon: sockets that listen, opened before it gives up its rights, and the endpoint there."""

import os
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import aoe
from aoe.errors import ConfigurationError
from aoe.limits import METRICS_CONNECTIONS_MAX
from aoe.node.endpoint import Endpoint
from aoe.node.exposed import Exposed
from aoe.node.listening import listening
from aoe.node.node import Node
from aoe.node.pages import Pages
from aoe.node.process import Process

NAME = "metrics"
"""FileDescriptorName= of what a socket unit listens at."""
DESCRIPTORS = METRICS_CONNECTIONS_MAX + 3
"""That it needs: of connections, one more that is refused, a socket that listens, and /proc."""


class Exposing:
    """`given` are descriptors that the service manager opened for it."""

    def __init__(self, given: Iterable[int]) -> None:
        self._process = Process()
        self._version = ""
        self._listeners = [_checked(fd) for fd in given]

    def open(self, address: str | None) -> None:
        """Listen there, unless the manager does so for us. ConfigurationError."""
        if address is not None and address not in map(_address, self._listeners):
            self._listeners.append(listening(address))
        if self._listeners:
            self._version = aoe.__version__  # later it may not be read

    def close(self) -> None:
        """What was opened, where nothing is served after all."""
        for it in self._listeners:
            it.close()
        self._process.close()

    @asynccontextmanager
    async def serve(self, node: Node) -> AsyncIterator[None]:
        """Answer meanwhile."""
        exposed = Exposed(node, self._process, self._version)
        pages = Pages(exposed.slices)
        try:
            async with Endpoint(self._listeners, pages.page):
                yield
        finally:
            await pages.close()
            exposed.close()


def _checked(fd: int) -> socket.socket:
    """What a manager gave. ConfigurationError where nothing can be accepted there."""
    try:
        made = socket.socket(fileno=fd)
    except OSError as error:
        os.close(fd)
        raise _unusable() from error
    if made.type != socket.SOCK_STREAM or not made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        made.close()
        raise _unusable()
    return made


def _unusable() -> ConfigurationError:
    return ConfigurationError(
        f"what the service manager gave under the name {NAME} does not listen; "
        "say ListenStream=127.0.0.1:9882 in aoe-target-metrics.socket"
    )


def _address(listener: socket.socket) -> str:
    """As it is written in the file."""
    if listener.family == socket.AF_INET6:
        host, port, *_ = listener.getsockname()
        return f"[{host}]:{port}"
    if listener.family == socket.AF_INET:
        return "{}:{}".format(*listener.getsockname())
    return ""
