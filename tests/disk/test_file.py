"""FileDisk on real files: what is stored where, what is durable, and what an error says."""

import asyncio
import errno
import itertools
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe import timing
from aoe.disk.file import FileDisk
from aoe.disk.open import Opening, open_disk
from aoe.errors import DiskError, DiskFailed
from aoe.wire.protocol import SECTOR
from tests.disk.conftest import SECTORS
from tests.disk.helpers import Medium, failing, failure, filled, noise, opened, read, sparse, write
from tests.support.tools import need, need_root, which
from tests.support.waiting import PROMPT_S

RANGES = [(0, 1), (1, 3), (7, 2), (9, 16), (5, 33), (100, 1), (SECTORS - 1, 1), (0, SECTORS)]
ODD_RANGES = [(0, 8), (3, 10), (8, 16), (13, 1), (SECTORS - 3, 3)]


def patched(content: bytes, lba: int, data: bytes) -> bytes:
    return content[: lba * SECTOR] + data + content[lba * SECTOR + len(data) :]


# What is stored where


def test_odd_ranges_are_stored_and_read_back(disk: FileDisk, tmp_path: Path) -> None:
    expected = bytes(SECTORS * SECTOR)
    for seed, (lba, sectors) in enumerate(RANGES):
        data = noise(sectors, seed)
        write(disk, lba, data, fua=bool(seed % 2))
        expected = patched(expected, lba, data)
        assert (tmp_path / "disk").read_bytes() == expected
    for lba, sectors in RANGES:
        assert read(disk, lba, sectors) == expected[lba * SECTOR : (lba + sectors) * SECTOR]


def test_neighbouring_sectors_are_written_one_by_one(disk: FileDisk, tmp_path: Path) -> None:
    data = noise(64)
    for lba in random.Random(1).sample(range(64), 64):
        write(disk, lba, data[lba * SECTOR :][:SECTOR])
    assert (tmp_path / "disk").read_bytes()[: len(data)] == data


def test_neighbouring_blocks_are_written_in_parallel(disk: FileDisk, tmp_path: Path) -> None:
    data = noise(SECTORS)

    async def all_at_once() -> None:
        pieces = range(0, len(data), disk.block)
        await asyncio.gather(*(disk.write(at, data[at : at + disk.block], True) for at in pieces))

    asyncio.run(all_at_once())
    assert (tmp_path / "disk").read_bytes() == data


def test_parallel_reads_do_not_share_a_buffer(how: Opening, tmp_path: Path) -> None:
    data = filled(tmp_path / "disk", SECTORS)
    rng = random.Random(2)
    ranges = [(lba := rng.randrange(SECTORS), rng.randint(1, SECTORS - lba)) for _ in range(200)]

    async def all_at_once(disk: FileDisk) -> list[bytes]:
        return await asyncio.gather(*(disk.read(lba * SECTOR, n * SECTOR) for lba, n in ranges))

    with opened(tmp_path / "disk", how) as disk:
        found = asyncio.run(all_at_once(disk))
    assert found == [data[lba * SECTOR : (lba + sectors) * SECTOR] for lba, sectors in ranges]


@pytest.mark.parametrize("length", [None, 16])
def test_a_slice_never_touches_bytes_outside(how: Opening, length: int | None, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    before = filled(path, 64)
    with opened(path, how._replace(offset=24, length=length)) as disk:
        sectors = disk.size // SECTOR
        assert sectors == (length or 40)
        assert read(disk, 0, sectors) == before[24 * SECTOR : (24 + sectors) * SECTOR]
        write(disk, 0, noise(sectors, 1))
        for lba in (0, sectors - 3):
            asyncio.run(disk.trim(lba * SECTOR, 3 * SECTOR))
        asyncio.run(disk.write_zeroes(4 * SECTOR, 5 * SECTOR))
        write(disk, sectors - 1, noise(1, 2))
    after = path.read_bytes()
    assert (after[: 24 * SECTOR], after[(24 + sectors) * SECTOR :]) == (
        before[: 24 * SECTOR],
        before[(24 + sectors) * SECTOR :],
    )
    inside = after[24 * SECTOR : (24 + sectors) * SECTOR]
    assert inside[-SECTOR:] == noise(1, 2)
    assert inside[4 * SECTOR : 9 * SECTOR] == bytes(5 * SECTOR)
    assert inside[3 * SECTOR : 4 * SECTOR] == noise(sectors, 1)[3 * SECTOR : 4 * SECTOR]


def test_read_only(tmp_path: Path) -> None:
    data = filled(tmp_path / "disk", 8)
    with opened(tmp_path / "disk", Opening(read_only=True)) as disk:
        assert disk.read_only
        assert not disk.trims
        assert read(disk, 0, 8) == data
        assert failure(disk.write(0, noise(1))).errno == errno.EBADF
    assert (tmp_path / "disk").read_bytes() == data


def test_whether_it_is_locked_against_what_others_began(tmp_path: Path) -> None:
    filled(tmp_path / "disk", 8)
    alone = {Opening(): True, Opening(read_only=True): False, Opening(shared=True, direct=True): False}
    for how, expected in alone.items():
        with opened(tmp_path / "disk", how) as disk:
            assert disk.alone is expected, how


# Trim and zeroes


def blocks_of(path: Path) -> int:
    return path.stat().st_blocks


def test_trim_gives_blocks_back_and_leaves_zeroes(how: Opening, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    filled(path, SECTORS)
    with opened(path, how) as disk:
        assert disk.trims
        assert disk.trim_zeroes
        before = blocks_of(path)
        asyncio.run(disk.trim(0, disk.size // 2))
        asyncio.run(disk.flush())
        assert blocks_of(path) <= before // 2 + 16
        assert read(disk, 0, SECTORS // 2) == bytes(disk.size // 2)
        assert path.stat().st_size == SECTORS * SECTOR


@pytest.mark.parametrize("verb", [FileDisk.trim, FileDisk.write_zeroes])
def test_zeroes_end_where_they_were_asked_to(
    verb: Callable[[FileDisk, int, int], Coroutine[Any, Any, None]], how: Opening, tmp_path: Path
) -> None:
    path = tmp_path / "disk"
    expected = filled(path, SECTORS)
    with opened(path, how) as disk:
        for lba, sectors in ODD_RANGES:
            asyncio.run(verb(disk, lba * SECTOR, sectors * SECTOR))
            expected = patched(expected, lba, bytes(sectors * SECTOR))
            assert path.read_bytes() == expected


def test_more_zeroes_than_are_written_at_a_time(how: Opening, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    sectors = (2 << 20) // SECTOR + 64
    expected = filled(path, sectors)
    with opened(path, how) as disk:
        asyncio.run(disk.write_zeroes(3 * SECTOR, (sectors - 10) * SECTOR))
    assert path.read_bytes() == patched(expected, 3, bytes((sectors - 10) * SECTOR))


# Durability


@pytest.mark.parametrize("fua", [False, True])
def test_durable_writes_and_only_they_carry_dsync(disk: FileDisk, medium: Medium, fua: bool) -> None:
    write(disk, 3, noise(7), fua)
    assert medium.writes
    assert {one.flags for one in medium.writes} == {os.RWF_DSYNC if fua else 0}


def test_what_another_program_serves_is_synced_after_the_write(
    disk: FileDisk, medium: Medium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a durable write that FUSE hands on without a sync."""
    monkeypatch.setattr(disk, "remote", True)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda _: synced.append(len(medium.writes)))
    write(disk, 3, noise(7), fua=True)
    assert {one.flags for one in medium.writes} == {0}
    assert synced == [len(medium.writes)]


def test_flush_syncs_the_data(disk: FileDisk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_ino))
    write(disk, 0, noise(1))
    assert synced == []
    asyncio.run(disk.flush())
    assert synced == [(tmp_path / "disk").stat().st_ino]


def changes_of(disk: FileDisk) -> Iterator[DiskError]:
    yield failure(disk.write(0, noise(1)))
    yield failure(disk.write(0, noise(1), True))
    yield failure(disk.trim(0, SECTOR))
    yield failure(disk.write_zeroes(0, SECTOR))
    yield failure(disk.flush())


def test_a_failed_sync_is_the_end_until_the_disk_is_opened_again(
    how: Opening, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Order rule T6."""
    data = filled(tmp_path / "disk", 16)
    with opened(tmp_path / "disk", how) as disk:
        monkeypatch.setattr(os, "fdatasync", failing(errno.EIO))
        failed = failure(disk.flush())
        assert (type(failed), failed.errno) == (DiskFailed, errno.EIO)
        monkeypatch.undo()
        assert [type(error) for error in changes_of(disk)] == [DiskFailed] * 5
        assert read(disk, 0, 16) == data
        assert disk.try_read(0, SECTOR) in (None, data[:SECTOR])
    assert (tmp_path / "disk").read_bytes() == data
    with opened(tmp_path / "disk", how) as disk:
        write(disk, 0, noise(1, 9), fua=True)
        asyncio.run(disk.flush())


def test_a_failed_durable_write_through_the_page_cache_is_a_failed_sync(
    buffered: FileDisk, medium: Medium
) -> None:
    medium.bad = {3}
    assert failure(buffered.write(3 * SECTOR, noise(1), True)).errno == errno.EIO
    medium.bad = set()
    assert [type(error) for error in changes_of(buffered)] == [DiskFailed] * 5


def test_a_failed_plain_write_is_no_failed_sync(disk: FileDisk, medium: Medium) -> None:
    medium.bad = {3}
    failure(disk.write(3 * SECTOR, noise(1)))
    medium.bad = set()
    write(disk, 3, noise(1), fua=True)
    asyncio.run(disk.flush())


def test_a_flush_beside_a_failing_one_promises_nothing(
    disk: FileDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells an open file of a lost write once: the sync that ends second hears nothing of it."""
    turn, second, told = itertools.count(), threading.Event(), threading.Event()

    def fdatasync(fd: int) -> None:
        if next(turn) == 0:
            second.wait(0.3)
            raise OSError(errno.EIO, "lost")
        second.set()
        told.wait(30)

    async def two() -> list[BaseException | None]:
        flushes = [asyncio.ensure_future(disk.flush()) for _ in range(2)]
        await asyncio.wait(flushes, return_when=asyncio.FIRST_COMPLETED)
        told.set()
        return await asyncio.gather(*flushes, return_exceptions=True)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    assert [type(result) for result in asyncio.run(two())] == [DiskFailed] * 2


def test_a_durable_write_beside_a_failing_sync_promises_nothing(
    buffered: FileDisk, monkeypatch: pytest.MonkeyPatch, medium: Medium
) -> None:
    """The same: the sync within the write may be the one that hears nothing."""
    medium.hanging = {5}
    monkeypatch.setattr(os, "fdatasync", failing(errno.EIO))

    async def both() -> BaseException | None:
        durable = asyncio.ensure_future(buffered.write(5 * SECTOR, noise(1), True))
        await asyncio.to_thread(medium.waiting.wait, 30)
        with pytest.raises(DiskFailed):
            await buffered.flush()
        medium.released.set()
        return (await asyncio.gather(durable, return_exceptions=True))[0]

    assert isinstance(asyncio.run(both()), DiskFailed)


# Errors and where they are


@pytest.mark.parametrize("rest", [0, 100], ids=["at-a-sector", "inside-a-sector"])
def test_a_store_that_ends_early_fails_at_its_end(how: Opening, rest: int, tmp_path: Path) -> None:
    data = filled(tmp_path / "disk", 64)
    with opened(tmp_path / "disk", how) as disk:
        os.truncate(tmp_path / "disk", 10 * SECTOR + rest)
        assert disk.try_read(9 * SECTOR, 4 * SECTOR) is None
        assert failure(disk.read(8 * SECTOR, 8 * SECTOR)).offset // SECTOR == 10
        assert failure(disk.read(40 * SECTOR, SECTOR)).offset == 40 * SECTOR
        assert read(disk, 0, 8) == data[: 8 * SECTOR]


@contextmanager
def tmpfs(where: Path, size: int) -> Iterator[Path]:
    need_root()
    need("mount", "umount")
    where.mkdir()
    mount, umount = str(which("mount")), str(which("umount"))
    subprocess.run([mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", where], check=True, timeout=30)
    try:
        yield where
    finally:
        subprocess.run([umount, where], check=True, timeout=30)


def test_a_full_file_system_fails_at_the_first_byte_not_stored(tmp_path: Path) -> None:
    data = noise(256)
    with (
        tmpfs(tmp_path / "small", 64 << 10) as small,
        opened(sparse(small / "disk", 512), Opening(direct=False)) as disk,
    ):
        error = failure(disk.write(0, data))
        assert error.errno == errno.ENOSPC
        assert 0 < error.offset <= 64 << 10
        assert asyncio.run(disk.read(0, error.offset)) == data[: error.offset]
        write(disk, 0, noise(8, 1), fua=True)
        asyncio.run(disk.flush())
        assert read(disk, 0, 8) == noise(8, 1)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_an_error_of_the_whole_store_is_passed_on_at_once(disk: FileDisk, medium: Medium, code: int) -> None:
    medium.bad, medium.code = {20}, code
    error = failure(disk.write(16 * SECTOR, noise(16)))
    assert (error.errno, error.offset) == (code, 16 * SECTOR)
    assert len(medium.writes) == 1
    assert os.strerror(code) in str(error)
    assert not isinstance(error, DiskFailed)


@pytest.mark.parametrize("bad", [16, 21, 31])
@pytest.mark.parametrize("verb", ["read", "write"])
def test_the_first_bad_sector_is_found(disk: FileDisk, medium: Medium, verb: str, bad: int) -> None:
    medium.bad = {bad, 31}
    sixteen = disk.read(16 * SECTOR, 16 * SECTOR) if verb == "read" else disk.write(16 * SECTOR, noise(16))
    error = failure(sixteen)
    assert (error.errno, error.offset) == (errno.EIO, bad * SECTOR // disk.block * disk.block)


def test_sectors_before_the_bad_one_are_written_all_the_same(
    buffered: FileDisk, medium: Medium, tmp_path: Path
) -> None:
    medium.bad = {6}
    assert failure(buffered.write(0, noise(16))).offset == 6 * SECTOR
    assert (tmp_path / "disk").read_bytes()[: 6 * SECTOR] == noise(16)[: 6 * SECTOR]


def test_a_bad_sector_that_hangs_is_named_when_that_took_too_long(
    buffered: FileDisk, medium: Medium, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "BAD_SECTOR_SEARCH_S", 1.5)
    medium.bad = medium.hanging = {24}

    async def timed() -> tuple[DiskError, float]:
        began = time.monotonic()
        with pytest.raises(DiskError) as caught:
            await buffered.read(16 * SECTOR, 16 * SECTOR)
        took = time.monotonic() - began
        medium.released.set()
        return caught.value, took

    error, took = asyncio.run(timed())
    assert (error.errno, error.offset) == (errno.EIO, 24 * SECTOR)
    assert took < PROMPT_S


@pytest.mark.usefixtures("short_search")
def test_reads_go_on_beside_searches_that_hang(disk: FileDisk, medium: Medium) -> None:
    """However many: the threads they keep are bounded, and others are left (promise P6)."""
    medium.bad = medium.hanging = {16}
    medium.alone = disk.block

    async def many() -> list[BaseException | bytes]:
        reads = [disk.read(16 * SECTOR, 16 * SECTOR) for _ in range(20)]
        failed = await asyncio.gather(*reads, return_exceptions=True)
        good = await asyncio.wait_for(disk.read(0, SECTOR), 30)
        medium.released.set()
        return [*failed, good]

    *failed, good = asyncio.run(many())
    assert [type(error) for error in failed] == [DiskError] * 20
    assert good == bytes(SECTOR)


@pytest.mark.usefixtures("short_search")
def test_a_write_is_not_over_while_its_search_is_inside_a_system_call(disk: FileDisk, medium: Medium) -> None:
    """It would come back over newer data of the same sectors (order rule T1, promise P3)."""
    medium.bad = medium.hanging = {16}
    medium.alone = disk.block

    async def searching() -> asyncio.Future[None]:
        """A write, until its search hangs. One that was given up before it came there says nothing."""
        while True:
            work = asyncio.ensure_future(disk.write(16 * SECTOR, noise(16)))
            while not (medium.waiting.is_set() or work.done()):
                await asyncio.sleep(0.001)
            if medium.waiting.is_set():
                return work
            work.exception()

    async def held() -> DiskError:
        work = await searching()
        assert not (await asyncio.wait([work], timeout=0.3))[0]
        medium.released.set()
        with pytest.raises(DiskError) as caught:
            await work
        return caught.value

    assert asyncio.run(held()).offset == 16 * SECTOR


@pytest.mark.usefixtures("short_search")
def test_a_search_that_took_too_long_writes_no_more(disk: FileDisk, medium: Medium, tmp_path: Path) -> None:
    """Once the failure is answered, newer writes of the same sectors run."""
    old, new = noise(32, 1), noise(32, 2)
    medium.bad, medium.hanging, medium.alone = {30}, {0}, disk.block

    async def overtaken() -> None:
        asyncio.get_running_loop().call_later(0.3, medium.released.set)
        with pytest.raises(DiskError):
            await disk.write(0, old)
        medium.bad = set()
        await disk.write(0, new, True)
        await asyncio.sleep(0.1)

    asyncio.run(overtaken())
    assert (tmp_path / "disk").read_bytes()[: 32 * SECTOR] == new


@pytest.mark.parametrize("verb", ["read", "write"])
@pytest.mark.parametrize("sectors", [2, 20])
@pytest.mark.parametrize("how", ["direct-4k"], indirect=True)
def test_an_error_lies_within_the_request(disk: FileDisk, medium: Medium, verb: str, sectors: int) -> None:
    """Also where the bad sector is another one of the request's first block; the second block is good."""
    medium.bad = {17, 35}
    at, length = 19 * SECTOR, sectors * SECTOR
    error = failure(disk.read(at, length) if verb == "read" else disk.write(at, noise(sectors)))
    assert (error.errno, error.offset) == (errno.EIO, at)


def test_a_closed_disk_touches_no_other_file(
    how: Opening, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A request that is inside a system call when its disk is closed must not go on with the number of a
    descriptor that means another file by then."""
    other, size = tmp_path / "other", 2 << 20
    data = filled(other, size // SECTOR)
    inside, released, real = threading.Event(), threading.Event(), os.pwritev

    def pwritev(*arguments: Any) -> int:
        got = real(*arguments)
        if not inside.is_set():
            inside.set()
            released.wait(30)
        return got

    async def closed_meanwhile() -> None:
        disk = open_disk(sparse(tmp_path / "disk", size // SECTOR), how)
        zeroes = asyncio.ensure_future(disk.write_zeroes(0, size))
        await asyncio.to_thread(inside.wait, 30)
        disk.close()
        with opened(other, how):
            released.set()
            await asyncio.gather(zeroes, return_exceptions=True)

    monkeypatch.setattr(os, "pwritev", pwritev)
    asyncio.run(closed_meanwhile())
    assert other.read_bytes() == data


def test_closing_twice_closes_no_other_file(tmp_path: Path) -> None:
    disk = open_disk(sparse(tmp_path / "disk", 8))
    disk.close()
    other = os.open(tmp_path / "disk", os.O_RDONLY)
    disk.close()
    os.close(other)


# Growth


@pytest.mark.parametrize("add", [0, 1, 700, 8 * SECTOR])
def test_growth_is_seen_in_whole_blocks(how: Opening, add: int, tmp_path: Path) -> None:
    with opened(sparse(tmp_path / "disk", 64), how) as disk:
        os.truncate(tmp_path / "disk", 64 * SECTOR + add)
        assert disk.size == 64 * SECTOR
        disk.refresh()
        assert disk.size == (64 * SECTOR + add) // disk.block * disk.block
        if disk.size > 64 * SECTOR:
            write(disk, disk.size // SECTOR - 1, noise(1))


def test_a_slice_of_fixed_length_does_not_grow(tmp_path: Path) -> None:
    with opened(sparse(tmp_path / "disk", 64), Opening(offset=8, length=16)) as disk:
        os.truncate(tmp_path / "disk", 128 * SECTOR)
        disk.refresh()
        assert disk.size == 16 * SECTOR


def test_a_slice_to_the_end_grows_and_shrinks(tmp_path: Path) -> None:
    with opened(sparse(tmp_path / "disk", 64), Opening(offset=8)) as disk:
        for sectors, seen in ((128, 120), (32, 24), (4, 0)):
            os.truncate(tmp_path / "disk", sectors * SECTOR)
            disk.refresh()
            assert disk.size == seen * SECTOR


# Reading without waiting


def test_what_is_cached_is_read_at_once(buffered: FileDisk, tmp_path: Path) -> None:
    data = noise(16)
    write(buffered, 4, data)
    at_once = buffered.try_read(4 * SECTOR, 16 * SECTOR)
    assert at_once in (None, data)  # a file system without RWF_NOWAIT may always refuse
    assert read(buffered, 4, 16) == data


def test_direct_reads_always_wait(tmp_path: Path, how: Opening) -> None:
    filled(tmp_path / "disk", 8)
    with opened(tmp_path / "disk", how) as disk:
        assert disk.try_read(0, SECTOR) is None or not disk.direct


def test_what_is_not_cached_is_not_waited_for(tmp_path: Path) -> None:
    data = filled(tmp_path / "disk", 64)
    with opened(tmp_path / "disk", Opening(direct=False)) as disk:
        fd = os.open(tmp_path / "disk", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)
        assert disk.try_read(0, 64 * SECTOR) in (None, data)
        assert read(disk, 0, 64) == data


@pytest.mark.parametrize(
    ("code", "asked"), [(errno.EAGAIN, 2), (errno.EIO, 2), (errno.EOPNOTSUPP, 1)], ids=errno.errorcode.get
)
def test_a_read_that_would_wait_is_none(
    buffered: FileDisk, monkeypatch: pytest.MonkeyPatch, code: int, asked: int
) -> None:
    """Where the file system has no such thing at all, it is asked only once."""
    flags: list[int] = []

    def preadv(fd: int, buffers: object, offset: int, how: int = 0) -> int:
        flags.append(how)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "preadv", preadv)
    assert [buffered.try_read(0, SECTOR) for _ in range(2)] == [None, None]
    assert flags == [os.RWF_NOWAIT] * asked
    monkeypatch.undo()
    assert read(buffered, 0, 1) == bytes(SECTOR)
