"""One connection of a daemon: a line is read, answered, and taken, then comes the next."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aoe import limits, timing
from aoe.control.messages import (
    Answer,
    Failure,
    Lines,
    Request,
    TooLong,
    decode_request,
    encode_answer,
)
from aoe.control.unread import Unread

Answering = Callable[[Request, Unread | None], Awaitable[Answer]]

_TOO_LONG = Failure(
    "message", f"a line is longer than {limits.CONTROL_REQUEST_MAX} bytes; the connection ends"
)
_TOO_MUCH = Failure("message", f"the answer is longer than {limits.CONTROL_ANSWER_MAX} bytes")


class Connection:
    """What it keeps of a client is a line."""

    def __init__(self, accepted: socket.socket, stays: Callable[[Request], bool] = lambda _: False) -> None:
        """A request that `stays` is read when it is answered: another process looks which one wrote it."""
        self._socket = accepted
        self._stays = stays
        self._lines = Lines(limits.CONTROL_REQUEST_MAX)
        self._reading: asyncio.Task[bytes] | None = None
        self._ending = False
        self._unread: Unread | None = None
        """Of the line that was seen last."""

    def refuse(self, answer: Answer) -> None:
        """Say that without waiting, and close."""
        with suppress(OSError):
            self._socket.send(encode_answer(answer))
        self._socket.close()

    def end(self) -> None:
        """Close it, but let what is under way be answered."""
        self._ending = True
        if self._reading is not None:
            self._reading.cancel()

    async def serve(self, answering: Answering) -> None:
        """Until the client ends it, is silent for too long, or does not take its answers. Nothing that a
        client does is an error here."""
        try:
            with suppress(OSError, TimeoutError):
                while data := await self._read():
                    await self._take(data, answering)
        finally:
            self._socket.close()

    async def _read(self) -> bytes:
        """Empty at the end, or when it is to end."""
        if self._ending:
            return b""
        loop = asyncio.get_running_loop()
        self._reading = loop.create_task(self._receive())
        try:
            return await self._reading
        except asyncio.CancelledError:
            if not self._ending:
                self._reading.cancel()
                raise
            return b""
        finally:
            self._reading = None

    async def _receive(self) -> bytes:
        """Up to the end of a line, which is still to be read if it is one that stays."""
        async with asyncio.timeout(timing.CONTROL_IDLE_S):
            seen = await self._peeked()
        length = seen.find(b"\n") + 1
        if length and not self._lines.is_cut and self._is_to_stay(seen[:length]):
            return seen[:length]
        return self._socket.recv(length or len(seen)) if seen else b""

    async def _peeked(self) -> bytes:
        while True:
            try:
                return self._socket.recv(limits.CONTROL_CHUNK, socket.MSG_PEEK)
            except BlockingIOError:
                await self._readable()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._socket, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            loop.remove_reader(self._socket)

    def _is_to_stay(self, line: bytes) -> bool:
        request = decode_request(line)
        stays = isinstance(request, Request) and self._stays(request)
        self._unread = Unread(self._socket, len(line)) if stays else None
        return self._unread is not None

    async def _take(self, data: bytes, answering: Answering) -> None:
        unread, self._unread = self._unread, None
        try:
            lines = self._lines.feed(data)
        except TooLong:
            await self._send(Answer(None, _TOO_LONG))
            self._ending = True
            return
        for line in lines:
            if not self._ending and line.strip():
                await self._answer(decode_request(line), answering, unread)

    async def _answer(self, request: Request | Answer, answering: Answering, unread: Unread | None) -> None:
        answer = await answering(request, unread) if isinstance(request, Request) else request
        if unread is not None:
            unread.drop()
            self._ending |= unread.taken is None  # it may be there still, and must not be done again
        await self._send(answer)

    async def _send(self, answer: Answer) -> None:
        line = encode_answer(answer)
        if len(line) > limits.CONTROL_ANSWER_MAX:
            line = encode_answer(Answer(answer.id, _TOO_MUCH))
        async with asyncio.timeout(timing.CONTROL_TAKEN_S):
            await asyncio.get_running_loop().sock_sendall(self._socket, line)
