"""What the disk tests share: files with known content, and a medium that fails where it is told to."""

import asyncio
import errno
import os
import random
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aoe.disk.file import FileDisk
from aoe.disk.identity import HERE, Host
from aoe.disk.open import Opening, open_disk
from aoe.errors import ConfigurationError, DiskError
from aoe.wire.protocol import SECTOR
from tests.support.tools import unavailable

Buffers = Sequence[bytearray | memoryview]


def is_taken(path: Path, **how: Any) -> bool:
    """Whether another program could not have it."""
    try:
        open_disk(path, Opening(lock_wait_s=0, **how)).close()
    except ConfigurationError:
        return True
    return False


def noise(sectors: int, seed: int = 0) -> bytes:
    """Sectors that cannot be mistaken for others."""
    return random.Random(seed).randbytes(sectors * SECTOR)


def filled(path: Path, sectors: int, seed: int = 0) -> bytes:
    """Make a file of noise, on the disk; returns the noise."""
    data = noise(sectors, seed)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return data


def sparse(path: Path, sectors: int) -> Path:
    """Make a file of zeroes that holds no blocks."""
    with path.open("wb") as file:
        file.truncate(sectors * SECTOR)
    return path


@contextmanager
def opened(path: Path, how: Opening = Opening(), host: Host = HERE) -> Iterator[FileDisk]:  # noqa: B008
    """A disk that is closed in the end."""
    disk = open_disk(path, how, host)
    try:
        yield disk
    finally:
        disk.close()


def need_direct(directory: Path) -> None:
    """Skip where the file system has no direct I/O."""
    probe = directory / "direct-probe"
    probe.touch()
    try:
        os.close(os.open(probe, os.O_RDWR | os.O_DIRECT))
    except OSError as error:
        unavailable(f"no direct I/O below {directory} ({error.strerror}): set TMPDIR to another file system")
    finally:
        probe.unlink()


def read(disk: FileDisk, lba: int, sectors: int) -> bytes:
    return asyncio.run(disk.read(lba * SECTOR, sectors * SECTOR))


def write(disk: FileDisk, lba: int, data: bytes, fua: bool = False) -> None:
    asyncio.run(disk.write(lba * SECTOR, data, fua))


def failure(work: Coroutine[Any, Any, object]) -> DiskError:
    """The error that a request ends with."""
    with pytest.raises(DiskError) as caught:
        asyncio.run(work)
    return caught.value


def open_descriptors() -> set[str]:
    """Numbers and meanings of this process's file descriptors."""
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{link.name} -> {link.readlink()}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return found


class Write(NamedTuple):
    """One pwritev(2)."""

    offset: int
    length: int
    flags: int


class Medium:
    """Stands in for preadv(2) and pwritev(2).

    A transfer that touches a sector in `bad` fails. Before that, one of at most `alone` bytes that
    touches a sector in `hanging` waits for `released`; `waiting` tells that somebody does.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bad: set[int] = set()
        self.hanging: set[int] = set()
        self.alone = SECTOR
        self.code = errno.EIO
        self.released = threading.Event()
        self.waiting = threading.Event()
        self.writes: list[Write] = []
        self._preadv, self._pwritev = os.preadv, os.pwritev
        monkeypatch.setattr(os, "preadv", self._read)
        monkeypatch.setattr(os, "pwritev", self._write)

    def _read(self, fd: int, buffers: Buffers, offset: int, flags: int = 0) -> int:
        self._suffer(offset, sum(map(len, buffers)))
        return self._preadv(fd, buffers, offset, flags)

    def _write(self, fd: int, buffers: Buffers, offset: int, flags: int = 0) -> int:
        length = sum(map(len, buffers))
        self.writes.append(Write(offset, length, flags))
        self._suffer(offset, length)
        return self._pwritev(fd, buffers, offset, flags)

    def _suffer(self, offset: int, length: int) -> None:
        touched = set(range(offset // SECTOR, -(-(offset + length) // SECTOR)))
        if length <= self.alone and touched & self.hanging:
            self.waiting.set()
            self.released.wait(60)
        if touched & self.bad:
            raise OSError(self.code, os.strerror(self.code))


def failing(code: int) -> Callable[..., int]:
    """A system call that always fails."""

    def call(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return call
