"""Calls that may block for ever, on threads that are not waited for at the end."""

import asyncio
import io
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

T = TypeVar("T")


async def aside(call: Callable[[], T]) -> T:
    """What it returns or raises. A task that is cancelled leaves the call behind: its thread ends with it, or
    with the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, failure = None, None
        try:
            result = call()
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed already
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="aside", daemon=True).start()
    return await future


async def read_full(length: int) -> bytes:
    """So many bytes of standard input, fewer only at its end."""
    raw = cast(io.BufferedReader, sys.stdin.buffer).raw  # its lock would be held at the end

    def call() -> bytes:
        data = memoryview(bytearray(length))
        at = 0
        while at < length and (got := raw.readinto(data[at:])):
            at += got
        return bytes(data[:at])

    return await aside(call)


async def write_full(data: bytes) -> None:
    """All of it to standard output."""
    raw = cast(io.BufferedWriter, sys.stdout.buffer).raw

    def call() -> None:
        left = memoryview(data)
        while left:
            left = left[raw.write(left) or 0 :]

    await aside(call)
