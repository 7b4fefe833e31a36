"""Zeroes in a part of a thin volume, by giving back its room where that can be had."""

import os
from contextlib import suppress

from aoe import limits
from aoe.disk import syscalls


def clear(fd: int, start: int, end: int, chunk: int) -> None:
    """Let a device have zeroes from `start` to `end`: whole chunks are given back, of which a thin volume has
    zeroes then, and the rest is written. All is where the thin pool ignores discards. OSError."""
    first, last = -(-start // chunk) * chunk, end // chunk * chunk
    if first < last and _given_back(fd, first, last):
        _write(fd, start, first)
        _write(fd, last, end)
    else:
        _write(fd, start, end)
    os.fsync(fd)


def _given_back(fd: int, start: int, end: int) -> bool:
    with suppress(OSError):
        syscalls.discard(fd, start, end - start)
        return True
    return False


def _write(fd: int, start: int, end: int) -> None:
    zeroes = bytes(min(limits.POOL_CLEARED_AT_ONCE, end - start)) if start < end else b""
    while start < end:
        start += os.pwrite(fd, zeroes[: end - start], start)
