"""MemoryDisk."""

import asyncio

from aoe.disk.memory import MemoryDisk
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import noise


def test_what_is_written_is_read() -> None:
    disk = MemoryDisk(16 * SECTOR)
    assert asyncio.run(disk.read(0, 16 * SECTOR)) == bytes(16 * SECTOR)
    asyncio.run(disk.write(3 * SECTOR, noise(5), fua=True))
    asyncio.run(disk.flush())
    assert asyncio.run(disk.read(3 * SECTOR, 5 * SECTOR)) == noise(5)
    assert disk.try_read(3 * SECTOR, 5 * SECTOR) == noise(5)
    assert disk.data == bytes(3 * SECTOR) + noise(5) + bytes(8 * SECTOR)


def test_trim_and_write_zeroes_leave_the_neighbours() -> None:
    disk = MemoryDisk(8 * SECTOR)
    asyncio.run(disk.write(0, noise(8)))
    asyncio.run(disk.trim(SECTOR, SECTOR))
    asyncio.run(disk.write_zeroes(4 * SECTOR, 3 * SECTOR))
    data = noise(8)
    assert (
        disk.data
        == data[:SECTOR]
        + bytes(SECTOR)
        + data[2 * SECTOR : 4 * SECTOR]
        + bytes(3 * SECTOR)
        + data[7 * SECTOR :]
    )


def test_a_read_is_a_copy() -> None:
    disk = MemoryDisk(SECTOR)
    before = disk.try_read(0, SECTOR)
    asyncio.run(disk.write(0, noise(1)))
    assert before == bytes(SECTOR)


def test_it_grows_when_it_is_looked_at() -> None:
    disk = MemoryDisk(SECTOR)
    disk.data.extend(bytes(SECTOR))
    assert disk.size == SECTOR
    disk.refresh()
    assert disk.size == 2 * SECTOR
