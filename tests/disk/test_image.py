"""A disk in an image goes on with the next process that serves it, and owes that one all that no process has
synced yet (order rule T6). Here a process is a file of its own, and the next one another copy."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from aoe.disk import syscalls
from aoe.disk.image import ImageDisk
from aoe.disk.opened import Beneath, Opened, Store
from aoe.drive.command import Extent, Kind, Operation
from aoe.drive.identify import Identity
from aoe.target.export import Export
from aoe.target.served import Served
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import filled, noise

SECTORS = 64
NEW = noise(8, seed=1)


class Lives:
    """Two processes that serve an image. The first ends as soon as it has done what `ends_with` says, and a
    read finds that out before anything else happens."""

    def __init__(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths = [work / "first", work / "second"]
        for path in self.paths:
            filled(path, SECTORS)
        self._fds = [os.open(path, os.O_RDWR) for path in self.paths]
        self._ended = False
        self._patch = monkeypatch
        store = Store(self._fds[0], 0, SECTORS * SECTOR, SECTOR, False, False, False, False)
        self.disk = ImageDisk(Opened(store, Beneath("", 8), remote=True, image="image:0"))
        for name in ("preadv", "pwritev", "fdatasync"):
            self._dies(os, name)
        self._dies(syscalls, "punch_hole")

    def _dies(self, where: object, name: str) -> None:
        real = getattr(where, name)

        def call(fd: int, *rest: object) -> object:
            if self._ended and fd == self._fds[0]:
                raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
            return real(fd, *rest)

        self._patch.setattr(where, name, call)

    def ends_with(self, where: object, name: str) -> None:
        real = getattr(where, name)

        def call(fd: int, *rest: object) -> object:
            done = real(fd, *rest)
            if not self._ended:
                self._ended = True
                asyncio.run_coroutine_threadsafe(self.disk.read(0, SECTOR), self._loop).result()
            return done

        self._patch.setattr(where, name, call)

    def run(self, *operations: Operation) -> None:
        """All of them, one after the other, as a target has them done."""

        async def scenario() -> None:
            self._loop = asyncio.get_running_loop()
            self.disk.serve(lambda _: ("image:1", self._fds[1]), lambda: None)
            served = Served(Export(0, 0, Identity(SECTORS, "serial")), self.disk)
            for operation in operations:
                await served.carry_out(operation, durable=True)
            self.disk.close()

        asyncio.run(scenario())


@pytest.fixture
def lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lives:
    return Lives(tmp_path, monkeypatch)


def write(lba: int, data: bytes) -> Operation:
    return Operation(Kind.WRITE, (Extent(lba, len(data) // SECTOR),), data)


def test_the_sync_of_the_next_process_is_not_that_of_a_write(lives: Lives) -> None:
    lives.ends_with(os, "pwritev")
    lives.run(write(8, NEW))
    assert lives.paths[1].read_bytes()[8 * SECTOR : 16 * SECTOR] == NEW


def test_the_sync_of_the_next_process_is_not_that_of_a_trim(lives: Lives) -> None:
    lives.ends_with(syscalls, "punch_hole")
    lives.run(Operation(Kind.TRIM, (Extent(8, 8), Extent(32, 8))))
    left = lives.paths[1].read_bytes()
    assert left[8 * SECTOR : 16 * SECTOR] == left[32 * SECTOR : 40 * SECTOR] == bytes(8 * SECTOR)
