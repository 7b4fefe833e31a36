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

Answering = Callable[[Request], Awaitable[Answer]]

_TOO_LONG = Failure(
    "message", f"a line is longer than {limits.CONTROL_REQUEST_MAX} bytes; the connection ends"
)
_TOO_MUCH = Failure("message", f"the answer is longer than {limits.CONTROL_ANSWER_MAX} bytes")


class Connection:
    """What it keeps of a client is a line, and a piece of what comes after it."""

    def __init__(self, accepted: socket.socket) -> None:
        self._socket = accepted
        self._lines = Lines(limits.CONTROL_REQUEST_MAX)
        self._reading: asyncio.Task[bytes] | None = None
        self._ending = False

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
        async with asyncio.timeout(timing.CONTROL_IDLE_S):
            loop = asyncio.get_running_loop()
            return await loop.sock_recv(self._socket, limits.CONTROL_CHUNK)

    async def _take(self, data: bytes, answering: Answering) -> None:
        try:
            lines = self._lines.feed(data)
        except TooLong:
            await self._send(Answer(None, _TOO_LONG))
            self._ending = True
            return
        for line in lines:
            if not self._ending and line.strip():
                request = decode_request(line)
                await self._send(await answering(request) if isinstance(request, Request) else request)

    async def _send(self, answer: Answer) -> None:
        line = encode_answer(answer)
        if len(line) > limits.CONTROL_ANSWER_MAX:
            line = encode_answer(Answer(answer.id, _TOO_MUCH))
        async with asyncio.timeout(timing.CONTROL_TAKEN_S):
            await asyncio.get_running_loop().sock_sendall(self._socket, line)
