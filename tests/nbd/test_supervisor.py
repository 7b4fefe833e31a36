"""The supervisor of a door in all that the kernel may do meanwhile: the test is the kernel."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.nbd.test_left import Estate
from tests.support.labs.scripted_kernel import PATIENCE_S, Kernel, Supervisor, linked, scripted, supervised
from tests.support.tools import need, need_root
from tests.support.waiting import wait_for

DOOR = Path(__file__).with_name("scripted_door.py")
SIZE = 1 << 20


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted(tmp_path_factory.mktemp("supervisor"))


@contextmanager
def supervisor(program: Path, place: Path, *options: str, **streams: Any) -> Iterator[Supervisor]:
    """Of a door that serves `place` (scripted_door.py)."""
    (place / "size").write_text(str(SIZE))
    door = ["/usr/bin/env", sys.executable, "-S", "-E", str(DOOR), str(place)]
    with supervised(Kernel(place), [program, *options, "/dev/nbd0", *door], **streams) as made:
        yield made


@pytest.fixture
def there(program: Path, tmp_path: Path) -> Iterator[Supervisor]:
    with supervisor(program, tmp_path, "--foreground") as made:
        made.kernel.attach()
        made.says("is there")
        yield made


def test_a_door_that_dies_is_followed_by_another(there: Supervisor) -> None:
    kernel = there.kernel
    kernel.kill_door()
    kernel.until("read")
    kernel.until("reconnect")
    kernel.says()
    kernel.brings()
    there.says("I/O goes on after")


def test_how_long_it_waited_for_what_was_under_way_is_told_apart(there: Supervisor) -> None:
    kernel = there.kernel
    with there.estate() as memory:
        os.pwrite(memory, (7_340_000_000).to_bytes(8, sys.byteorder), Estate.fence_ns.offset)
    kernel.kill_door()
    kernel.until("read")
    kernel.until("reconnect")
    kernel.says()
    kernel.brings()
    there.says(" s, 7.3 s of them until what was under way before was over\n")


@pytest.mark.parametrize("how", ["dies", "hangs up"])
def test_what_was_answered_before_the_next_death_is_no_sign_of_life(there: Supervisor, how: str) -> None:
    """The connection is lost again before it is seen that a read had passed: another read is to pass."""
    kernel = there.kernel
    kernel.kill_door()
    kernel.until("read")
    kernel.until("reconnect")
    kernel.says()
    os.kill(there.process.pid, signal.SIGSTOP)
    kernel.brings()
    if how == "dies":
        kernel.kill_door()
    else:
        assert kernel.socket is not None
        kernel.socket.shutdown(socket.SHUT_RDWR)
    os.kill(there.process.pid, signal.SIGCONT)
    kernel.until("read", "reconnect")
    kernel.until("reconnect")
    kernel.says()
    kernel.brings()
    there.says("goes on")
    assert kernel.seen.count("read") == 2


def test_a_door_that_dies_as_the_device_is_opened(program: Path, tmp_path: Path) -> None:
    """That was asked of the first one, whatever became of it: it goes on when the second one answers."""
    with supervisor(program, tmp_path, "--foreground") as made:
        kernel = made.kernel
        assert kernel.asked().startswith("connect")
        kernel.says()
        kernel.until("set")
        kernel.until("open")
        kernel.kill_door()
        kernel.until("reconnect")
        kernel.says()
        kernel.brings()
        kernel.until("read", "reconnect")
        kernel.brings()
        made.says("goes on")


def test_doors_that_find_another_disk_come_later_each_time(there: Supervisor) -> None:
    """And their reason is told now and then. One that was used for a while is followed at once."""
    kernel, place = there.kernel, there.kernel.place
    (place / "says").write_text("@nbdkit: error: another disk is there\n")
    (place / "refuses").touch()
    kernel.passes(2000)
    kernel.kill_door()
    kernel.until("read")
    for wait_ms in (250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000):
        kernel.door_ends()
        starts = kernel.starts()
        kernel.passes(wait_ms - 1)
        assert kernel.starts() == starts
        kernel.passes(1)
        assert kernel.starts() == starts + 1
    kernel.door_ends()
    assert _reasons(there) == 2, "in 92 s"
    (place / "refuses").unlink()
    kernel.passes(30000)
    kernel.until("reconnect")
    kernel.says()
    kernel.brings()
    there.says("goes on")
    (place / "refuses").touch()
    kernel.passes(2000)
    kernel.kill_door()
    kernel.until("read")
    kernel.door_ends()
    assert _reasons(there) == 2 + 1, "it is news again"


def _reasons(there: Supervisor) -> int:
    return there.said.read_text().count("another disk is there\n")


def test_a_socket_that_is_not_taken_is_offered_again(there: Supervisor) -> None:
    kernel = there.kernel
    kernel.kill_door()
    kernel.until("read")
    for _ in range(3):
        kernel.until("reconnect")
        kernel.says()
    kernel.brings()
    there.says("goes on")


def test_a_disk_that_grew_meanwhile_is_told_when_it_is_back(there: Supervisor) -> None:
    kernel = there.kernel
    (kernel.place / "size").write_text(str(2 * SIZE))
    kernel.kill_door()
    kernel.until("read")
    kernel.until("reconnect")
    kernel.says()
    kernel.brings()
    kernel.until("resize", "reconnect")
    kernel.says()
    assert kernel.seen[-1] == f"resize {2 * SIZE}"


def test_a_disk_that_shrank_meanwhile_is_not_used(there: Supervisor) -> None:
    kernel = there.kernel
    (kernel.place / "size").write_text(str(SIZE // 2))
    kernel.kill_door()
    kernel.until("read")
    there.says(f"the disk has only {SIZE // 2} bytes now, and had {SIZE}; it is not used")
    time.sleep(0.6)
    (kernel.place / "size").write_text(str(SIZE))
    kernel.until("reconnect")
    assert there.said.read_text().count("bytes now") == 1, "it is tried again, and not told again"


def test_a_signal_ends_what_is_not_in_use(there: Supervisor) -> None:
    kernel = there.kernel
    there.process.terminate()
    kernel.until("end")
    kernel.brings(16)
    there.says("is in use")
    there.process.terminate()
    kernel.until("end")
    kernel.brings()
    kernel.until("disconnect")
    kernel.says()
    assert there.process.wait(PATIENCE_S) == 0


def test_each_write_to_the_kernels_log_is_a_line(program: Path, tmp_path: Path) -> None:
    """Also what a door does not end before it dies, or before it is ended."""
    (tmp_path / "says").write_text("@nbdkit: error: a line\nand half of")
    with supervisor(program, tmp_path, "--foreground", "--kernel-log") as made:
        kernel = made.kernel
        kernel.attach()
        kernel.kill_door()
        kernel.until("read")
        kernel.until("reconnect")
        kernel.says()
        wait_for(kernel.doors)
        kernel.brings()
        made.process.terminate()
        kernel.until("end", "reconnect")
        kernel.brings()
        kernel.until("disconnect")
        kernel.says()
        assert made.process.wait(PATIENCE_S) == 0
        lines = kernel.logged()
    killed = lines.index("nbd0: the door was killed by signal 9; another one is started")
    assert lines[killed - 1] == "and half of"
    assert lines[-2:] == ["and half of", "/dev/nbd0 is detached"]
    assert lines.count("a line") == 2


@pytest.mark.parametrize("stream", ["pipe", "socket"])
def test_a_log_that_is_not_read_holds_up_nothing(program: Path, tmp_path: Path, stream: str) -> None:
    """However many doors die meanwhile."""
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    with ours, theirs:
        full = write if stream == "pipe" else theirs.fileno()
        os.set_blocking(full, False)
        stuffed(full)
        os.set_blocking(full, True)
        with supervisor(program, tmp_path, "--foreground", stderr=full) as made:
            kernel = made.kernel
            kernel.attach()
            for _ in range(3):
                kernel.kill_door()
                kernel.until("read", "reconnect")
                kernel.until("reconnect")
                kernel.says()
                kernel.brings()
    os.close(read)
    os.close(write)


def stuffed(fd: int) -> None:
    for size in (4096, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(fd, bytes(size))


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- >&- 2>&-", "2>&-"])
def test_it_needs_no_streams(program: Path, tmp_path: Path, closed: str) -> None:
    """What it opens takes no place that it gives up later."""
    launch = tmp_path / "launch"
    launch.write_text(f'#!/bin/sh\nexec {program} "$@" {closed}\n')
    launch.chmod(0o755)
    with supervisor(launch, tmp_path, stderr=subprocess.DEVNULL) as made:
        kernel = made.kernel
        kernel.attach()
        assert made.process.wait(PATIENCE_S) == 0, "it stays behind"
        kernel.kill_door()
        kernel.until("read")
        kernel.until("reconnect")
        kernel.says()
        kernel.brings()
        names = [Path(f"/proc/{kernel.pid}/fd/{fd}").readlink() for fd in range(3)]
        assert names == [Path("/dev/null")] * 3


def test_once_the_device_is_there_only_the_door_opens_files(program: Path, tmp_path: Path) -> None:
    """And not before it is in its root. `/` is one here."""
    need_root()
    need("strace")
    with supervisor(program, tmp_path, "--root", "/") as made:
        kernel = made.kernel
        kernel.attach()
        assert made.process.wait(PATIENCE_S) == 0
        opened = tmp_path / "opened"
        words = ["strace", "-f", "-qq", "-e", "trace=file", "-o", opened, "-p", str(kernel.pid)]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as strace:
            status = Path(f"/proc/{kernel.pid}/status")
            wait_for(lambda: f"TracerPid:\t{strace.pid}\n" in status.read_text(), PATIENCE_S)
            kernel.kill_door()
            kernel.until("read")
            kernel.until("reconnect")
            kernel.says()
            kernel.brings()
            strace.terminate()
        first, *others = opened.read_text().splitlines()
        assert 'chroot(".")' in first
        assert not [line for line in (first, *others) if int(line.split()[0]) == kernel.pid]
        assert "execve(" in others[0]


def test_no_handshake_lasts_for_ever(tmp_path: Path) -> None:
    """However often a byte comes."""
    library, export = linked(tmp_path), ctypes.create_string_buffer(16)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for patience_s in (0.0, 0.3):
            until_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(patience_s * 1e9)
            dribble = subprocess.Popen(
                [sys.executable, "-c", DRIBBLE, str(ours.fileno())], pass_fds=[ours.fileno()]
            )
            try:
                assert library.handshake(theirs.fileno(), export, ctypes.c_int64(until_ns)) == -110
                assert dribble.poll() is None, "bytes came all the time"
            finally:
                dribble.kill()
                dribble.wait()


DRIBBLE = """
import os, sys, time
while True:
    os.write(int(sys.argv[1]), b"N")
    time.sleep(.05)
"""
