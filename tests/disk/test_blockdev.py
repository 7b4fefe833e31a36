"""BlockDisk on loop devices, one of them with sectors of 4 KiB, behind a whole target."""

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe import timing
from aoe.disk import syscalls
from aoe.disk.base import StoreName
from aoe.disk.blockdev import BlockDisk
from aoe.disk.open import Opening, open_disk
from aoe.errors import ConfigurationError
from aoe.link.memory import Network
from aoe.target.offer import Offer
from aoe.target.serve import serve
from aoe.target.target import Target
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import Medium, failure, filled, noise, open_descriptors, read, sparse, write
from tests.serve.initiator import AtaFailed, Initiator, mac, word
from tests.support.labs.fault_disk import loop_device, protected
from tests.support.tools import need, tool
from tests.support.waiting import PROMPT_S, own_s

SECTORS = 4096
BLOCK = 4096


@contextmanager
def opened(path: Path, how: Opening = Opening()) -> Iterator[BlockDisk]:  # noqa: B008
    disk = open_disk(path, how)
    assert isinstance(disk, BlockDisk)
    try:
        yield disk
    finally:
        disk.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """What the loop device stands on."""
    return sparse(tmp_path / "file", SECTORS)


@pytest.fixture
def device(file: Path) -> Iterator[Path]:
    """A block device with 4 KiB sectors."""
    with loop_device(file, BLOCK) as made:
        yield made


@pytest.fixture
def disk(device: Path) -> Iterator[BlockDisk]:
    """That device, opened as usual: direct."""
    with opened(device) as made:
        yield made


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ADDRESS_QUERY_S", 0.005)


# Facts


def test_facts_of_a_device_with_4k_sectors(disk: BlockDisk) -> None:
    assert disk.direct
    assert disk.size == SECTORS * SECTOR
    assert (disk.block, disk.physical_block, disk.alignment) == (BLOCK, BLOCK, 0)
    assert (disk.trims, disk.trim_zeroes, disk.read_only) == (True, True, False)
    assert disk.identity is None  # a loop device has no id of its own
    assert disk.store_name == StoreName()


def test_facts_of_a_device_with_512_byte_sectors(file: Path) -> None:
    with loop_device(file) as device, opened(device, Opening(offset=3)) as disk:
        assert (disk.block, disk.physical_block % 512) == (512, 0)
        assert disk.alignment == 3 % (disk.physical_block // 512)


def test_buffered_and_read_only(device: Path) -> None:
    with opened(device, Opening(direct=False, read_only=True)) as disk:
        assert not disk.direct
        assert (disk.block, disk.physical_block) == (SECTOR, BLOCK)
        assert not disk.trims
        assert read(disk, 3, 7) == bytes(7 * SECTOR)


# Parts of blocks


def test_odd_ranges_are_stored_and_read_back(disk: BlockDisk) -> None:
    expected = bytearray(SECTORS * SECTOR)
    for seed, (lba, sectors) in enumerate([(0, 1), (3, 7), (7, 2), (9, 31), (8, 8), (SECTORS - 1, 1)]):
        data = noise(sectors, seed)
        write(disk, lba, data, fua=bool(seed % 2))
        expected[lba * SECTOR : lba * SECTOR + len(data)] = data
        assert read(disk, lba, sectors) == data
    assert read(disk, 0, SECTORS) == bytes(expected[: SECTORS * SECTOR])


async def neighbours(initiator: Initiator, data: bytes, first: int) -> list[int]:
    """Write sectors one by one but at the same time; the numbers of those that were lost."""
    pieces = [data[at : at + SECTOR] for at in range(0, len(data), SECTOR)]
    order = random.Random(3).sample(range(len(pieces)), len(pieces))
    await asyncio.gather(*(initiator.write(first + n, pieces[n], fua=bool(n % 2)) for n in order))
    return [n for n, piece in enumerate(pieces) if await initiator.read(first + n) != piece]


def slow_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Widen the time between reading a block and writing it back."""
    real = os.preadv

    def preadv(*arguments: Any) -> int:
        got = real(*arguments)
        time.sleep(0.002)
        return got

    monkeypatch.setattr(os, "preadv", preadv)


def test_neighbouring_sectors_in_parallel_are_all_kept(
    device: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_read(monkeypatch)
    data = noise(64)

    async def scenario() -> list[int]:
        network = Network()
        async with serve(open_disk(device), network.attach(mac(1))):
            return await neighbours(Initiator(network.attach(mac(2))), data, 3)

    assert asyncio.run(scenario()) == []
    assert file.read_bytes() == bytes(3 * SECTOR) + data + bytes((SECTORS - 67) * SECTOR)


def test_without_the_order_by_blocks_sectors_would_be_lost(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault that the test before this one must be able to find."""
    slow_read(monkeypatch)

    async def scenario() -> list[int]:
        network = Network()
        disk = open_disk(device)
        target = Target.open([network.attach(mac(1))])
        (export,) = await target.add(Offer(disk, 0, 0, "S"), check=False)
        export.queue._block_sectors = 1
        try:
            return await neighbours(Initiator(network.attach(mac(2))), noise(64), 3)
        finally:
            await target.stop()

    assert asyncio.run(scenario())


def test_a_bad_block_is_an_ata_error_within_the_request(device: Path, medium: Medium) -> None:
    medium.bad = {17}

    async def scenario() -> list[tuple[int, int, int]]:
        network = Network()
        async with serve(open_disk(device), network.attach(mac(1), 9000)):
            initiator = Initiator(network.attach(mac(2), 9000))
            replies = [
                await initiator.ata(0x24, 19, 2),
                await initiator.ata(0x34, 19, 2, noise(2)),
                await initiator.ata(0x24, 9, 16),
            ]
            return [(reply.status, reply.error, reply.lba) for reply in replies]

    assert asyncio.run(scenario()) == [(0x41, 0x40, 19), (0x41, 0x04, 19), (0x41, 0x40, 16)]


def test_shared_refuses_parts_of_blocks(device: Path) -> None:
    with opened(device, Opening(shared=True)) as one, opened(device, Opening(shared=True)) as other:
        assert failure(one.write(SECTOR, noise(1))).offset == SECTOR
        write(one, 8, noise(8), fua=True)
        assert read(other, 8, 8) == noise(8)


# IDENTIFY and trim


def test_identify_tells_of_the_blocks_and_of_trim(device: Path) -> None:
    async def scenario() -> bytes:
        network = Network()
        async with serve(open_disk(device), network.attach(mac(1))):
            return await Initiator(network.attach(mac(2))).identify()

    identify = asyncio.run(scenario())
    assert word(identify, 106) == 0x6003
    assert word(identify, 209) == 0x4000
    assert word(identify, 169) == 1
    assert word(identify, 69) == 0x4020
    assert int.from_bytes(identify[200:208], "little") == SECTORS


def test_trim_over_the_wire_leaves_zeroes_and_neighbours(device: Path, file: Path) -> None:
    data = noise(SECTORS)

    async def scenario() -> None:
        network = Network()
        async with serve(open_disk(device), network.attach(mac(1))):
            initiator = Initiator(network.attach(mac(2)))
            await initiator.trim((3, 22), (64, 1024), (2001, 1), (SECTORS - 9, 9))

    with opened(device) as disk:
        write(disk, 0, data, fua=True)
    before = file.stat().st_blocks
    asyncio.run(scenario())
    expected = bytearray(data)
    for lba, sectors in ((3, 22), (64, 1024), (2001, 1), (SECTORS - 9, 9)):
        expected[lba * SECTOR : (lba + sectors) * SECTOR] = bytes(sectors * SECTOR)
    assert file.read_bytes() == expected
    assert file.stat().st_blocks <= before - 1000


@pytest.mark.parametrize("direct", [True, False])
def test_a_device_that_only_discards(device: Path, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole blocks are discarded; what is left of a request stays, as nothing was promised."""
    asked: list[tuple[int, ...]] = []
    monkeypatch.setattr(syscalls, "discard", lambda _, *extent: asked.append(extent))
    with opened(device, Opening(direct=direct, offset=8)) as disk:
        disk.trim_zeroes = False
        write(disk, 0, noise(64))
        for lba, sectors in ((3, 2), (3, 20), (8, 16)):
            asyncio.run(disk.trim(lba * SECTOR, sectors * SECTOR))
        assert read(disk, 0, 64) == noise(64)
    assert asked == [(2 * BLOCK, BLOCK), (2 * BLOCK, 2 * BLOCK)]


def test_a_discard_is_understood_by_the_kernel(device: Path) -> None:
    with opened(device) as disk:
        disk.trim_zeroes = False
        write(disk, 0, noise(64), fua=True)
        asyncio.run(disk.trim(8 * SECTOR, 16 * SECTOR))
        assert read(disk, 0, 8) == noise(64)[: 8 * SECTOR]
        assert read(disk, 24, 40) == noise(64)[24 * SECTOR :]


def test_zeroes_are_written(disk: BlockDisk) -> None:
    write(disk, 0, noise(64))
    asyncio.run(disk.write_zeroes(5 * SECTOR, 30 * SECTOR))
    asyncio.run(disk.flush())
    data = noise(64)
    assert read(disk, 0, 64) == data[: 5 * SECTOR] + bytes(30 * SECTOR) + data[35 * SECTOR :]


# Who else uses it


def in_use(device: Path, how: Opening) -> float:
    """Seconds until it was refused, of our own time."""
    before, began_s = open_descriptors(), own_s()
    with pytest.raises(ConfigurationError, match="in use"):
        open_disk(device, how)
    assert open_descriptors() <= before
    return own_s() - began_s


def test_a_second_opening_is_refused_after_a_while(device: Path) -> None:
    with opened(device):
        assert 0.1 <= in_use(device, Opening(lock_wait_s=0.2)) < PROMPT_S
        assert in_use(device, Opening(lock_wait_s=0, read_only=True)) < 0.5
    with opened(device):
        pass


def test_a_device_that_is_freed_meanwhile_is_waited_for(device: Path) -> None:
    first = open_disk(device)
    timer = threading.Timer(0.3, first.close)
    timer.start()
    with opened(device, Opening(lock_wait_s=5)) as disk:
        assert read(disk, 0, 1) == bytes(SECTOR)
    timer.join()


def test_a_mounted_device_is_refused(device: Path, file: Path, tmp_path: Path) -> None:
    need("mkfs.ext4", "mount", "umount")
    os.truncate(file, 8 << 20)
    tool("losetup", "--set-capacity", device)
    tool("mkfs.ext4", "-q", "-F", "-O", "^has_journal", device)
    (tmp_path / "mnt").mkdir()
    tool("mount", device, tmp_path / "mnt")
    try:
        in_use(device, Opening(lock_wait_s=0))
    finally:
        tool("umount", tmp_path / "mnt")
    with opened(device):
        pass


# Size


def test_a_device_that_grows_is_served_larger(device: Path, file: Path) -> None:
    async def scenario() -> list[int]:
        network = Network()
        async with serve(open_disk(device), network.attach(mac(1))) as server:
            initiator = Initiator(network.attach(mac(2)))
            os.truncate(file, 2 * SECTORS * SECTOR)
            tool("losetup", "--set-capacity", device)
            refused = await initiator.ata(0x24, SECTORS, 1)
            changed = await server.refresh()
            await initiator.write(2 * SECTORS - 1, noise(1))
            size = int.from_bytes((await initiator.identify())[200:208], "little")
            return [refused.status, refused.error, len(changed), size]

    assert asyncio.run(scenario()) == [0x41, 0x10, 1, 2 * SECTORS]
    assert file.read_bytes()[-SECTOR:] == noise(1)


def test_a_slice_of_a_device(device: Path, file: Path) -> None:
    before = filled(file, SECTORS)
    with opened(device, Opening(offset=16, length=32)) as disk:
        write(disk, 0, noise(1, 1))
        write(disk, 31, noise(1, 2), fua=True)
        asyncio.run(disk.trim(4 * SECTOR, 24 * SECTOR))
        disk.refresh()
        assert disk.size == 32 * SECTOR
    with pytest.raises(ConfigurationError, match="steps of 8"):
        open_disk(device, Opening(offset=1))
    after = file.read_bytes()
    inside = before[16 * SECTOR : 48 * SECTOR]
    inside = (
        noise(1, 1) + inside[SECTOR : 4 * SECTOR] + bytes(24 * SECTOR) + inside[28 * SECTOR : 31 * SECTOR]
    )
    assert after == before[: 16 * SECTOR] + inside + noise(1, 2) + before[48 * SECTOR :]


def test_a_device_that_the_kernel_has_read_only_is_served_so(device: Path) -> None:
    with protected(device):
        with opened(device) as disk:
            assert (disk.read_only, disk.protected, disk.store.read_only) == (True, True, False)
        with opened(device, Opening(read_only=True)) as disk:
            assert (disk.read_only, disk.store.read_only) == (True, True)
    with opened(device) as disk:
        assert (disk.read_only, disk.protected) == (False, False)


def test_its_clients_are_told_before_they_write(device: Path) -> None:
    async def run() -> None:
        network = Network()
        async with serve(open_disk(device), network.attach(mac(1)), address="e1.0", check=False):
            host = Initiator(network.attach(mac(2)), 1, 0)
            assert await host.read(0, 2) == bytes(2 * SECTOR)
            with pytest.raises(AtaFailed) as refused:
                await host.write(0, noise(2))
            assert refused.value.reply.error == 4

    with protected(device):
        asyncio.run(run())
