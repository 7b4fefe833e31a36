"""FaultyDisk: transparent without faults, and each fault does what its name says."""

import asyncio
import errno
import time
from pathlib import Path

import pytest

from aoe.disk.base import Disk
from aoe.disk.faulty import FaultyDisk
from aoe.disk.memory import MemoryDisk
from aoe.disk.open import Opening
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import failure, noise, opened, sparse

FACTS = list(Disk.__annotations__)


def test_without_faults_it_is_what_it_wraps(tmp_path: Path) -> None:
    with opened(sparse(tmp_path / "disk", 64), Opening(offset=3)) as inner:
        inner.identity = "own-id"
        disk = FaultyDisk(inner)
        assert {name: getattr(disk, name) for name in FACTS} == {name: getattr(inner, name) for name in FACTS}
        asyncio.run(disk.write(5 * SECTOR, noise(3)))
        asyncio.run(disk.trim(6 * SECTOR, SECTOR))
        asyncio.run(disk.write_zeroes(5 * SECTOR, SECTOR))
        asyncio.run(disk.flush())
        expected = bytes(2 * SECTOR) + noise(3)[2 * SECTOR :]
        assert asyncio.run(disk.read(5 * SECTOR, 3 * SECTOR)) == expected


def test_it_grows_with_what_it_wraps() -> None:
    inner = MemoryDisk(SECTOR)
    disk = FaultyDisk(inner)
    inner.data.extend(bytes(SECTOR))
    disk.refresh()
    assert disk.size == 2 * SECTOR


@pytest.mark.parametrize("verb", ["read", "write", "trim", "write_zeroes"])
def test_a_bad_sector_fails_every_request_that_touches_it(verb: str) -> None:
    inner = MemoryDisk(64 * SECTOR)
    disk = FaultyDisk(inner, bad_offsets={9 * SECTOR, 12 * SECTOR})
    disk.code = errno.ENOSPC
    work = (
        disk.write(8 * SECTOR, noise(8)) if verb == "write" else getattr(disk, verb)(8 * SECTOR, 8 * SECTOR)
    )
    error = failure(work)
    assert (error.offset, error.errno) == (9 * SECTOR, errno.ENOSPC)
    assert inner.data == bytes(64 * SECTOR)
    asyncio.run(disk.write(10 * SECTOR, noise(2)))


def test_a_delay_is_waited_for() -> None:
    began = time.monotonic()
    asyncio.run(FaultyDisk(MemoryDisk(SECTOR), delay_s=0.05).read(0, SECTOR))
    assert time.monotonic() - began >= 0.05


def test_a_hang_ends_when_it_is_let_go() -> None:
    async def hung() -> bytes:
        disk = FaultyDisk(MemoryDisk(SECTOR))
        disk.hang.clear()
        reading = asyncio.ensure_future(disk.read(0, SECTOR))
        assert not (await asyncio.wait([reading], timeout=0.05))[0]
        disk.hang.set()
        return await reading

    assert asyncio.run(hung()) == bytes(SECTOR)


def test_a_sync_fails_while_it_is_told_to() -> None:
    disk = FaultyDisk(MemoryDisk(SECTOR))
    disk.sync_fails = True
    assert failure(disk.flush()).errno == errno.EIO
    assert asyncio.run(disk.read(0, SECTOR)) == bytes(SECTOR)
    disk.sync_fails = False
    asyncio.run(disk.flush())
