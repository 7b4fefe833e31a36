"""Answers on a Unix socket for a node (asyncio). It waits for no client: each connection has a task, a
bounded buffer, and a time in which it has to take its answer."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Coroutine
from typing import Self

from aoe import limits, timing
from aoe.control.connection import Connection
from aoe.control.listening import Seat
from aoe.control.messages import Answer, Failure, Request
from aoe.control.peers import peer_of
from aoe.control.rights import Peer, Rights
from aoe.control.unread import Unread
from aoe.control.verbs import Verbs, answer, changes_a_volume
from aoe.target.repeated import Repeated

log = logging.getLogger("aoe.control")

_BUSY = Failure("busy", "as many connections are open as may be; end one (ss -xp shows them)")


class ControlServer:
    """Serves `node` on what `seat` listens at, to processes that `rights` let. Make it inside the running
    event loop; `rights` may be replaced while it serves."""

    def __init__(self, seat: Seat, node: Verbs, rights: Rights) -> None:
        self.rights = rights
        self._seat = seat
        self._node = node
        self._connected: Counter[bool] = Counter()
        """Connections of those that may do all, and of others: neither keeps the other out."""
        self._connections: set[Connection] = set()
        self._repeated = Repeated(log)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._listen()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, timeout_s: float = timing.STOP_TIMEOUT_S) -> None:
        """Accept nothing more and end all connections. Verbs under way have `timeout_s` to end."""
        self._closing = True
        asyncio.get_running_loop().remove_reader(self._seat.socket)
        for connection in self._connections:
            connection.end()
        if self._tasks:
            await asyncio.wait([*self._tasks], timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        self._seat.close()
        self._repeated.finish()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _listen(self) -> None:
        if not self._closing:
            asyncio.get_running_loop().add_reader(self._seat.socket, self._accept)

    def _accept(self) -> None:
        """One; the loop comes again for the next. Without a descriptor for it, it waits."""
        loop = asyncio.get_running_loop()
        try:
            accepted, _ = self._seat.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            said = "no connection is accepted: %s; commands wait"
            self._repeated.say("accept", logging.ERROR, said, error.strerror)
            loop.remove_reader(self._seat.socket)
            loop.call_later(timing.CONTROL_AGAIN_S, self._listen)
            return
        self._welcome(accepted)

    def _welcome(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        try:
            peer = peer_of(accepted)
        except OSError:  # it is gone already
            accepted.close()
            return
        connection = Connection(accepted, changes_a_volume)
        rules = self.rights.rules(peer)
        if self._connected[rules] >= limits.CONTROL_CONNECTIONS_MAX:
            self._repeated.say(("busy", rules), logging.WARNING, "a connection of %s is one too many", peer)
            connection.refuse(Answer(None, _BUSY))
            return
        self._connected[rules] += 1
        self._connections.add(connection)
        self._begin(self._serve(connection, peer, rules))

    async def _serve(self, connection: Connection, peer: Peer, rules: bool) -> None:
        try:
            await connection.serve(lambda request, unread: self._answer(request, unread, peer))
        finally:
            self._connected[rules] -= 1
            self._connections.discard(connection)

    async def _answer(self, request: Request, unread: Unread | None, peer: Peer) -> Answer:
        said = await answer(self._node, request, peer, self.rights, unread)
        if isinstance(said.result, Failure) and said.result.kind == "rights":
            self._repeated.say(("rights", peer.uid), logging.WARNING, "%s: %s", peer, said.result.message)
        return said
