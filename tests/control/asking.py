"""A server in a thread of its own, and raw connections to it."""

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from aoe.control.listening import Seat
from aoe.control.rights import Rights
from aoe.control.server import ControlServer
from tests.control.fake_node import FakeNode

T = TypeVar("T")
PATIENCE_S = 20.0


class Running:
    """What a test needs of a server that runs."""

    def __init__(
        self, path: Path, loop: asyncio.AbstractEventLoop, server: ControlServer, node: FakeNode
    ) -> None:
        self.path = path
        self.server = server
        self.node = node
        self._loop = loop

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Inside the loop of the server."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def call(self, what: Callable[[], T]) -> T:
        """The same for a function."""

        async def inside() -> T:
            return what()

        return self.do(inside())

    def connect(self) -> socket.socket:
        """A connection on which nothing was said."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE_S)
        connection.connect(str(self.path))
        return connection


def line_of(connection: socket.socket) -> dict[str, Any]:
    """The next answer; an empty one at the end."""
    raw = bytearray()
    while not raw.endswith(b"\n"):
        try:
            piece = connection.recv(1)
        except ConnectionResetError:
            piece = b""
        if not piece:
            assert not raw, "no answer is cut"
            return {}
        raw += piece
    found: dict[str, Any] = json.loads(raw)
    return found


@contextmanager
def served(path: Path, node: FakeNode | None = None, rights: Rights | None = None) -> Iterator[Running]:
    """A server at `path` whose owner is this user."""
    fake = node or FakeNode()
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, ControlServer]] = Future()

    async def serve() -> None:
        ended = asyncio.Event()
        try:
            seat = Seat(path)
        except BaseException as error:
            ready.set_exception(error)
            return
        async with ControlServer(seat, fake, rights or Rights(os.geteuid())) as server:
            ready.set_result((asyncio.get_running_loop(), ended, server))
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        loop, ended, server = ready.result(PATIENCE_S)
        try:
            yield Running(path, loop, server, fake)
        finally:
            loop.call_soon_threadsafe(ended.set)
    finally:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
