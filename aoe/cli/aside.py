"""Standard streams that may block for ever."""

import io
import sys
from typing import cast

from aoe.disk.threads import aside


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
