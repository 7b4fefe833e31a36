"""Where metrics are asked for: HTTP on sockets that listen (asyncio). It waits for no client: each connection
has a task, a bounded buffer, and times in which it has to ask, to take the answer, and to go."""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Self

from aoe import limits, timing
from aoe.metrics import http
from aoe.metrics.exposition import CONTENT_TYPE
from aoe.target.repeated import Repeated

log = logging.getLogger("aoe.node")

_DEFECT = http.Verdict(500, "Internal Server Error", "defect in the target: see its log")


class Endpoint:
    """Answers `GET /metrics` on `listeners` with what `page` returns, inside the running event loop."""

    def __init__(
        self, listeners: Sequence[socket.socket], page: Callable[[], Awaitable[Sequence[bytes]]]
    ) -> None:
        self._listeners = listeners
        self._page = page
        self._since: dict[asyncio.Task[None], float] = {}
        """When the connections that are open began, the first one first (CLOCK_MONOTONIC, s)."""
        self._repeated = Repeated(log)
        self._closing = False
        for it in listeners:
            it.setblocking(False)
            self._listen(it)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Answer nothing more."""
        self._closing = True
        tasks = list(self._since)
        for it in self._listeners:
            asyncio.get_running_loop().remove_reader(it)
            it.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._repeated.finish()

    def _listen(self, listener: socket.socket) -> None:
        if not self._closing:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """One; the loop comes again for the next. Without a descriptor for it, it waits."""
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            said = "no connection for metrics is accepted: %s; Prometheus tries again"
            self._repeated.say("accept", logging.ERROR, said, error.strerror)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(timing.CONTROL_AGAIN_S, self._listen, listener)
            return
        accepted.setblocking(False)
        self._welcome(accepted)

    def _welcome(self, accepted: socket.socket) -> None:
        if len(self._since) >= limits.METRICS_CONNECTIONS_MAX and not self._made_room():
            said = "%d connections ask for metrics; another one is refused"
            self._repeated.say("busy", logging.WARNING, said, len(self._since))
            with suppress(OSError):
                accepted.send(http.refusal(http.TOO_MANY))
            accepted.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(accepted))
        self._since[task] = time.monotonic()
        task.add_done_callback(self._over)

    def _made_room(self) -> bool:
        """End the connection that is open for longest, unless it may still be about to ask."""
        task, since_s = next(iter(self._since.items()))
        if time.monotonic() - since_s < timing.METRICS_TURN_S:
            return False
        del self._since[task]
        task.cancel()
        return True

    def _over(self, task: "asyncio.Task[None]") -> None:
        self._since.pop(task, None)

    # One connection

    async def _serve(self, accepted: socket.socket) -> None:
        """Nothing that a client does is an error here."""
        try:
            with suppress(OSError, TimeoutError):
                answer = await self._answer(await _asked(accepted))
                async with asyncio.timeout(timing.METRICS_TAKEN_S):
                    await _give(accepted, answer)
                async with asyncio.timeout(timing.METRICS_PARTING_S):
                    await _part(accepted)
        finally:
            accepted.close()

    async def _answer(self, verdict: http.Verdict | None) -> Sequence[bytes]:
        if verdict is None:
            return ()
        if verdict is not http.PAGE:
            return (http.refusal(verdict),)
        try:
            page = await self._page()
        except Exception as error:
            log.critical("defect: the metrics could not be written: %r", error, exc_info=error)
            return (http.refusal(_DEFECT),)
        return http.head(verdict, CONTENT_TYPE, sum(map(len, page))), *page


async def _asked(accepted: socket.socket) -> http.Verdict | None:
    """What it asks for; None if it ends before that."""
    received = bytearray()
    try:
        async with asyncio.timeout(timing.METRICS_ASK_S):
            while (verdict := http.judged(received)) is None:
                piece = await asyncio.get_running_loop().sock_recv(accepted, limits.METRICS_HEAD_MAX)
                if not piece:
                    return None
                received += piece
    except TimeoutError:
        return http.TOO_SLOW
    return verdict


async def _give(accepted: socket.socket, answer: Sequence[bytes]) -> None:
    for piece in answer:
        await asyncio.get_running_loop().sock_sendall(accepted, piece)
        await asyncio.sleep(0)


async def _part(accepted: socket.socket) -> None:
    """Until the client has closed: what it sent and was not read would take the answer from it."""
    accepted.shutdown(socket.SHUT_WR)
    ignored = 0
    while ignored < limits.METRICS_IGNORED_MAX:
        piece = await asyncio.get_running_loop().sock_recv(accepted, limits.METRICS_IGNORED_MAX)
        if not piece:
            return
        ignored += len(piece)
