"""Disks that fail below the system call: errors in time, in the right place, and no more than that."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.wire.ata import AtaReply
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import need_direct, noise
from tests.engine.setups import BUFFERED, DEVICE, DIRECT, WRITTEN_BACK, Setup, in_python
from tests.support.labs.engine_target import LAUNCH, counted, prefix
from tests.support.labs.fault_disk import FuseDisk, abort, loop_device, small_ext4, small_tmpfs
from tests.support.labs.load import DATA, PIECE, read_request, repeated, replies, write_request
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.raw_client import FLUSH_EXT, READ_EXT, WRITE_EXT, WRITE_FUA_EXT, Client, sectors_of
from tests.support.tools import need_engine
from tests.support.waiting import wait_for

SECTORS = 2048
PAGE = 8
"""Sectors in a page: what the page cache reads at a time."""
BURST_S = 0.3
LIMIT = 20
ANSWER_S = 2.5
"""A disk error reaches the client within a second, at the first attempt."""

GOOD = (0x40, 0)
UNREADABLE = (0x41, 0x40)
ABORTED = (0x41, 0x04)
OUTSIDE = (0x41, 0x10)
FAULT = (0x61, 0x04)


class Sick(NamedTuple):
    """A target, the disk that it serves as 1.1, and a client that asks once."""

    target: AoeTarget
    disk: FuseDisk
    client: Client


@contextmanager
def sick(lab: Lab, work: Path, setup: Setup) -> Iterator[Sick]:
    with ExitStack() as stack:
        disk = stack.enter_context(FuseDisk(work / "sick", SECTORS))
        disk.store.write_bytes(noise(SECTORS))
        path = stack.enter_context(loop_device(disk.path)) if setup.device else disk.path
        target = stack.enter_context(served_as(setup, lab, work, path))
        yield Sick(target, disk, impatient(lab))


def served_as(setup: Setup, lab: Lab, work: Path, path: Path) -> AoeTarget:
    if setup.engine == "c":
        need_engine()
    words = (f"{path}=1.1", "--engine", setup.engine, *setup.options)
    return AoeTarget(lab, work, *words, launcher=(LAUNCH, "patient-search", "--"))


def impatient(lab: Lab, slot: int = 1) -> Client:
    """A client that asks again only where what it asked was too old when it came."""
    return lab.client(1, slot, timeout=ANSWER_S, retries=8)


def result(reply: AtaReply) -> tuple[int, int]:
    return reply.status, reply.error


def served(target: AoeTarget, **least: int) -> None:
    """The counters of its engine, named without a prefix, are at least so high; and the target is well."""
    numbers = counted(target)
    assert all(numbers[f"{prefix(target)}{name}"] >= number for name, number in least.items()), numbers
    assert bool(numbers["engine_handed_up"]) == bool(prefix(target))
    assert target.alive
    assert "Traceback" not in target.errors
    assert "defect" not in target.errors


# Sectors that fail


@pytest.mark.parametrize(
    "setup",
    [WRITTEN_BACK, DIRECT, DEVICE, *map(in_python, (WRITTEN_BACK, DEVICE))],
    ids=lambda setup: setup.name,
)
def test_a_bad_sector_is_named_and_costs_no_other(setup: Setup, lab: Lab, tmp_path: Path) -> None:
    with sick(lab, tmp_path, setup) as it:
        it.disk.fail("read", 35, 1)
        bad = it.client.ata(READ_EXT, 32, 2 * PAGE)
        first = 35 if setup.direct else 32  # through the page cache, a page fails
        assert (result(bad), bad.lba) == (UNREADABLE, first)
        assert it.client.read(16, 16) == noise(SECTORS)[16 * SECTOR : 32 * SECTOR]
        it.disk.heal("read")
        assert it.client.read(32, PAGE) == noise(SECTORS)[32 * SECTOR : 40 * SECTOR]

        it.disk.fail("write", 100, 1)
        bad = it.client.ata(WRITE_EXT, 96, PAGE, DATA)
        assert (result(bad), bad.lba) == (ABORTED, 100)
        it.client.write(104, DATA)
        it.disk.heal("write")
        it.client.write(96, DATA)
        it.client.flush()
        assert it.disk.store.read_bytes()[96 * SECTOR : 112 * SECTOR] == 2 * DATA
        served(it.target, reads=2, writes=2, flushes=1, disk_errors=2)


@pytest.mark.parametrize("setup", [WRITTEN_BACK, DIRECT, in_python(DIRECT)], ids=lambda setup: setup.name)
def test_after_a_failed_sync_nothing_is_promised_until_a_restart(
    setup: Setup, lab: Lab, tmp_path: Path
) -> None:
    with sick(lab, tmp_path, setup) as it:
        it.client.write(0, DATA)
        it.disk.fail("flush")
        assert result(it.client.ata(FLUSH_EXT)) == FAULT
        it.disk.heal("flush")
        for command, data in ((WRITE_EXT, DATA), (WRITE_FUA_EXT, DATA), (FLUSH_EXT, b"")):
            assert result(it.client.ata(command, PAGE, len(data) // SECTOR, data)) == FAULT
        assert it.client.read(0, PIECE) == DATA
        assert it.client.read(PAGE, PIECE) == noise(SECTORS)[PAGE * SECTOR : 2 * PAGE * SECTOR]
        served(it.target, reads=2, writes=1, disk_errors=1)
        it.target.restart()
        it.client.write(PAGE, DATA)
        it.client.flush()
        assert it.disk.store.read_bytes()[: 2 * PAGE * SECTOR] == 2 * DATA
        served(it.target, writes=1, flushes=1)


def limited(setup: Setup) -> Setup:
    """To so many requests a second, one after the other."""
    words = ("--limit-iops", str(LIMIT), "--limit-burst", f"{0.5 / LIMIT:g}")
    return setup._replace(options=(*setup.options, *words))


@pytest.mark.parametrize(
    "setup", [WRITTEN_BACK, DIRECT, in_python(WRITTEN_BACK)], ids=lambda setup: setup.name
)
@pytest.mark.parametrize(("lba", "sectors"), [(PAGE, PAGE), (1, 1)])
def test_a_limit_holds_for_what_a_failed_disk_refuses(
    setup: Setup, lba: int, sectors: int, lab: Lab, tmp_path: Path
) -> None:
    with sick(lab, tmp_path, limited(setup)) as it:
        it.disk.fail("flush")
        assert result(it.client.ata(FLUSH_EXT)) == FAULT
        began_s = time.monotonic()
        for _ in range(LIMIT // 2):
            assert result(it.client.ata(WRITE_EXT, lba, sectors, bytes(sectors * SECTOR))) == FAULT
        assert time.monotonic() - began_s > (LIMIT // 2 - 2) / LIMIT


@pytest.mark.parametrize(
    "setup", [BUFFERED, DIRECT, DEVICE, in_python(BUFFERED)], ids=lambda setup: setup.name
)
def test_a_write_is_not_acknowledged_when_its_sync_fails(setup: Setup, lab: Lab, tmp_path: Path) -> None:
    """Neither of two at a time, as they may share a sync; and then nothing until a restart."""
    with sick(lab, tmp_path, setup) as it:
        it.client.write(0, DATA)
        it.disk.fail("flush")
        for lba in (PAGE, 2 * PAGE):
            it.client.send(write_request(it.client, lba))
        for _ in range(2):
            raw = it.client.receive(30)
            assert raw is not None
            assert raw[27] & 0x01, "acknowledged, although it was never synced"
        it.disk.heal("flush")
        assert result(it.client.ata(WRITE_EXT, 3 * PAGE, PIECE, DATA)) == FAULT
        assert it.client.read(0, PIECE) == DATA
        served(it.target, reads=1, writes=1, disk_errors=1)


# Stores that are full, end early or must not be changed


@contextmanager
def place(kind: str, directory: Path, size: int) -> Iterator[Path]:
    """A directory on a file system of `size` bytes, or just one on a disk."""
    if kind == "disk":
        directory.mkdir()
        need_direct(directory)
        yield directory
        return
    make = small_tmpfs if kind == "tmpfs" else small_ext4
    with make(directory, size) as made:
        yield made


@contextmanager
def small(
    lab: Lab, kind: str, work: Path, size: int, setup: Setup = BUFFERED
) -> Iterator[tuple[AoeTarget, Path]]:
    """A target with a sparse disk of 4 MiB in such a place; "whole" is a tmpfs, and nothing is sparse."""
    with place("tmpfs" if kind == "whole" else kind, work / kind, size) as directory:
        disk = image(directory / "disk", 8192)
        if kind == "whole":
            disk.write_bytes(bytes(8192 * SECTOR))
        with served_as(setup, lab, work, disk) as target:
            yield target, disk


@pytest.mark.parametrize(
    ("kind", "size", "setup"),
    [("tmpfs", 1 << 20, BUFFERED), ("ext4", 2 << 20, BUFFERED), ("tmpfs", 1 << 20, in_python(BUFFERED))],
    ids=["tmpfs", "ext4", "tmpfs-python"],
)
def test_a_full_store_refuses_writes_until_there_is_room(
    kind: str, size: int, setup: Setup, lab: Lab, tmp_path: Path
) -> None:
    with small(lab, kind, tmp_path, size, setup) as (target, disk):
        ballast = disk.with_name("ballast")
        ballast.write_bytes(bytes(256 << 10))
        client = impatient(lab)
        full = next(
            lba for lba in range(0, 8192, 16) if result(client.ata(WRITE_EXT, lba, 16, 2 * DATA)) != GOOD
        )
        assert result(client.ata(WRITE_EXT, full, 16, 2 * DATA)) == ABORTED
        assert full > 16
        assert client.read(full - 16, 16) == 2 * DATA
        assert client.read(8176, 16) == bytes(16 * SECTOR), "a hole cannot be read when there is no room"
        ballast.unlink()
        wait_for(lambda: written(client, full) == GOOD)
        served(target, reads=2, writes=full // 16, disk_errors=1)


def written(client: Client, lba: int) -> tuple[int, int]:
    return result(client.ata(WRITE_EXT, lba, 16, 2 * DATA))


def test_reading_holes_needs_no_room(lab: Lab, tmp_path: Path) -> None:
    """Who only reads must not be able to fill the memory of the target's host."""
    with small(lab, "tmpfs", tmp_path, 8 << 20) as (target, disk):
        client = impatient(lab)
        for lba in range(0, 8192, 16):
            assert client.read(lba, 16) == bytes(16 * SECTOR)
        served(target, reads=512)
        assert disk.stat().st_blocks < 100


SETUPS_TO_CUT = [
    ("tmpfs", BUFFERED),
    ("whole", BUFFERED),
    ("disk", BUFFERED),
    ("disk", DIRECT),
    ("disk", in_python(BUFFERED)),
    ("disk", in_python(DIRECT)),
]
CUT_IDS = ["memory", "mapped", "buffered", "direct", "buffered-python", "direct-python"]


@pytest.mark.parametrize(("kind", "setup"), SETUPS_TO_CUT, ids=CUT_IDS)
def test_a_store_that_is_cut_gives_errors_and_no_signal(
    kind: str, setup: Setup, lab: Lab, tmp_path: Path
) -> None:
    with small(lab, kind, tmp_path, 16 << 20, setup) as (target, disk):
        client, busy = impatient(lab), lab.client(mac=b"\2\0\0\0\0\1")
        for lba in range(0, 1024, PIECE):
            client.write(lba, DATA)
        with repeated(lambda: burst(busy)):
            for _ in range(30):
                os.truncate(disk, 512 * SECTOR)
                assert result(client.ata(READ_EXT, 1000, PIECE)) == UNREADABLE
                os.truncate(disk, 8192 * SECTOR)
                assert client.read(1000, PIECE) == bytes(PIECE * SECTOR)
        os.truncate(disk, 512 * SECTOR)
        assert client.read(504, PIECE) == DATA
        across = client.ata(READ_EXT, 504, 2 * PIECE)
        assert (result(across), across.lba) == (UNREADABLE, 512)
        served(target, reads=32, writes=128, disk_errors=31)


def burst(client: Client) -> None:
    """Reads from a part that stays and from one that comes and goes, and a write; and as many answers: the
    target need not drop what others ask."""
    places = range(256, 512 + 256, PIECE)
    for lba in places:
        client.send(read_request(client, lba))
    client.send(write_request(client, 0))
    for _ in islice(replies(client, BURST_S), len(places) + 1):
        pass


@pytest.mark.parametrize(("kind", "setup"), SETUPS_TO_CUT, ids=CUT_IDS)
def test_a_store_that_ends_within_a_page(kind: str, setup: Setup, lab: Lab, tmp_path: Path) -> None:
    with small(lab, kind, tmp_path, 16 << 20, setup) as (target, disk):
        client = impatient(lab)
        client.write(0, DATA)
        os.truncate(disk, 3 * SECTOR)
        assert client.read(2) == DATA[:SECTOR]
        cut = client.ata(READ_EXT, 3, 1)
        assert (result(cut), cut.lba) == (UNREADABLE, 3), "zeroes that nobody wrote"
        served(target, reads=1, disk_errors=1)


def test_writes_to_a_map_that_was_cut_are_not_lost(lab: Lab, tmp_path: Path) -> None:
    """Neither in pages that are gone nor in what is left of one; the file grows, as with any write."""
    for first in (64, 64 + 3):
        directory = tmp_path / str(first)
        directory.mkdir()
        with small(lab, "whole", directory, 16 << 20) as (target, disk):
            client = lab.client(timeout=ANSWER_S)
            client.write(0, DATA)
            assert is_mapped(target, disk)
            os.truncate(disk, first * SECTOR)
            client.write(first, DATA[:SECTOR])
            client.write(first + PIECE, DATA)
            assert disk.stat().st_size == (first + 2 * PIECE) * SECTOR
            assert client.read(first, 1) == DATA[:SECTOR]
            assert client.read(first + PIECE, PIECE) == DATA
            assert not is_mapped(target, disk)
            served(target, reads=2, writes=3)


def test_a_full_tmpfs_under_a_map_is_an_error(lab: Lab, tmp_path: Path) -> None:
    """The page of a hole that was punched cannot be had again."""
    with small(lab, "whole", tmp_path, 5 << 20) as (target, disk):
        client = impatient(lab)
        client.write(0, DATA)
        assert is_mapped(target, disk)
        punch_hole(disk, 64 * SECTOR, 64 * SECTOR)
        ballast = disk.with_name("ballast")
        ballast.write_bytes(bytes((1 << 20) + 64 * SECTOR))
        assert result(client.ata(WRITE_EXT, 64, PIECE, DATA)) == ABORTED
        ballast.unlink()
        wait_for(lambda: result(client.ata(WRITE_EXT, 64, PIECE, DATA)) == GOOD)
        assert client.read(64, PIECE) == DATA
        served(target, reads=1, writes=2, disk_errors=1)


def is_mapped(target: AoeTarget, disk: Path) -> bool:
    """Whether the target reads and writes the file through a map (proc(5), `maps`)."""
    return str(disk) in Path(f"/proc/{target.pid}/maps").read_text()


def punch_hole(disk: Path, offset: int, length: int) -> None:
    """Free a part of a file (fallocate(1))."""
    subprocess.run(["fallocate", "--punch-hole", "-o", str(offset), "-l", str(length), disk], check=True)


@pytest.mark.parametrize(
    ("kind", "setup"),
    [("tmpfs", BUFFERED), ("whole", BUFFERED), ("disk", BUFFERED), ("disk", in_python(BUFFERED))],
    ids=["tmpfs", "whole", "disk", "disk-python"],
)
def test_a_store_that_shrank_is_served_smaller_after_sighup(
    kind: str, setup: Setup, lab: Lab, tmp_path: Path
) -> None:
    with small(lab, kind, tmp_path, 16 << 20, setup) as (target, disk):
        client = impatient(lab)
        client.write(0, DATA)
        os.truncate(disk, 64 * SECTOR)
        os.kill(target.pid, signal.SIGHUP)
        wait_for(lambda: sectors_of(client.identify()) == 64)
        assert result(client.ata(READ_EXT, 64, 1)) == OUTSIDE
        assert result(client.ata(WRITE_EXT, 63, 2, DATA[: 2 * SECTOR])) == OUTSIDE
        assert client.read(0, PIECE) == DATA
        client.write(56, DATA)
        os.truncate(disk, 128 * SECTOR)
        os.kill(target.pid, signal.SIGHUP)
        wait_for(lambda: sectors_of(client.identify()) == 128)
        assert client.read(56, 2 * PIECE) == DATA + bytes(PIECE * SECTOR)
        client.write(120, DATA)
        assert disk.read_bytes() == b"".join((DATA, bytes(48 * SECTOR), DATA, bytes(56 * SECTOR), DATA))
        served(target, reads=2, writes=3)


@pytest.mark.parametrize("setup", [BUFFERED, DIRECT, in_python(DIRECT)], ids=lambda setup: setup.name)
def test_a_file_system_that_turns_read_only(setup: Setup, lab: Lab, tmp_path: Path) -> None:
    with small(lab, "ext4", tmp_path, 8 << 20, setup) as (target, disk):
        client = impatient(lab)
        client.write(0, DATA)
        abort(disk.parent)
        for _ in range(2):
            refused = client.ata(WRITE_EXT, PIECE, PIECE, DATA)
            assert result(refused) in (ABORTED, FAULT)
        assert client.read(0, PIECE) == DATA
        served(target, reads=1, writes=1, disk_errors=1)
