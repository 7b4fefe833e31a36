"""The lock that says whether an earlier process can still change a store."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aoe.disk.locks import LifeLock, described_anew, life_byte, take
from tests.disk.helpers import sparse
from tests.support.labs.fault_disk import FuseDisk, loop_device
from tests.support.waiting import wait_for

DATA = b"from the process before" + bytes(4096 - 23)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return sparse(tmp_path / "disk.img", 2048)


@contextmanager
def described(path: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def test_one_description_has_it_until_it_is_closed(path: Path) -> None:
    with described(path) as later:
        with described(path) as first:
            assert LifeLock(first).take()
            assert LifeLock(first).take()  # it has it already
            assert not LifeLock(later).take()
        assert LifeLock(later).take()


def test_a_descriptor_that_was_passed_on_keeps_it(path: Path) -> None:
    with described(path) as later:
        with described(path) as first:
            assert LifeLock(first).take()
            copy = os.dup(first)
        assert not LifeLock(later).take()
        os.close(copy)
        assert LifeLock(later).take()


def test_it_excludes_none_of_the_locks_that_hold_the_store(path: Path) -> None:
    with described(path) as held:
        take(held, path, read_only=False, is_block=False)
        anew = described_anew(held, os.O_RDWR)
        try:
            assert LifeLock(anew).take()
        finally:
            os.close(anew)


def test_what_only_reads_cannot_have_it(path: Path) -> None:
    with described(path, os.O_RDONLY) as fd, pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        LifeLock(fd).take()


def test_it_is_of_the_file_that_was_opened_whatever_has_its_path_now(path: Path) -> None:
    with described(path) as held:
        sparse(path.with_name("other"), 2048).rename(path)
        anew = described_anew(held, os.O_RDWR | os.O_EXCL)
        try:
            assert os.path.samestat(os.fstat(anew), os.fstat(held))
            assert LifeLock(anew).take()
            assert not LifeLock(held).take()
        finally:
            os.close(anew)


def test_each_host_has_its_own_on_a_shared_store(tmp_path: Path, path: Path) -> None:
    ids = [tmp_path / "one", tmp_path / "other"]
    for number, it in enumerate(ids):
        it.write_text(f"{number:032x}\n")
    own, others = (life_byte(shared=True, machine_id=it) for it in ids)
    assert life_byte(shared=False) == 1 << 40
    assert min(own, others) > 1 << 40
    with described(path) as first, described(path) as second, described(path) as third:
        assert LifeLock(first, shared=True, machine_id=ids[0]).take()
        assert LifeLock(second, shared=True, machine_id=ids[1]).take()
        assert not LifeLock(third, shared=True, machine_id=ids[0]).take()


def test_a_host_without_an_id_is_told_by_its_name(tmp_path: Path) -> None:
    assert life_byte(shared=True, machine_id=tmp_path / "none") > 1 << 40


@contextmanager
def killed_at_work(disk: FuseDisk, path: Path) -> Iterator[None]:
    """A process has ended by signal 9, and its write has not."""
    disk.hang()
    try:
        command = [sys.executable, "-m", "tests.disk.last_words", str(path), DATA.hex()]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "under way\n"
            process.kill()
            assert process.wait(30) == -signal.SIGKILL
        yield
    finally:
        disk.resume()


def stands(path: Path) -> bytes:
    with described(path, os.O_RDONLY) as fd:
        return os.pread(fd, len(DATA), 0)


def test_a_killed_process_has_it_until_its_last_write_has_landed(tmp_path: Path) -> None:
    with FuseDisk(tmp_path / "fuse") as disk, described(disk.path) as next_fd:
        lock = LifeLock(next_fd)
        with killed_at_work(disk, disk.path):
            for _ in range(20):
                assert not lock.take()
            assert stands(disk.store) != DATA
        wait_for(lock.take, what="the lock is never free")
        assert stands(disk.store) == DATA


def test_so_it_is_on_a_loop_device(tmp_path: Path) -> None:
    with (
        FuseDisk(tmp_path / "fuse") as disk,
        loop_device(disk.path) as device,
        described(device) as next_fd,
    ):
        lock = LifeLock(next_fd)
        with killed_at_work(disk, device):
            for _ in range(20):
                assert not lock.take()
            assert stands(disk.store) != DATA
        wait_for(lock.take, what="the lock is never free")
        assert stands(disk.store) == DATA
