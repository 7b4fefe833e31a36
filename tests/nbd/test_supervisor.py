"""The supervisor of a door in all that the kernel may do meanwhile: the test is the kernel."""

import array
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from csrc.flags import COMPILER, FLAGS
from tests.support.tools import need, need_root
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[2]
INSTEAD = ("netlink.c", "canary.c", "device.c")
DOOR = Path(__file__).with_name("scripted_door.py")
SIZE = 1 << 20
PATIENCE_S = 60


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The supervisor, with the test as its kernel."""
    need("gcc")
    made = tmp_path_factory.mktemp("supervisor") / "aoe-door"
    sources = [path for path in sorted((ROOT / "csrc/door").glob("*.c")) if path.name not in INSTEAD]
    words = [*FLAGS, "-O0", f"-I{ROOT / 'csrc'}", *sources, DOOR.with_name("scripted_kernel.c"), "-o", made]
    subprocess.run([COMPILER.split()[0], *words], check=True, timeout=300)
    return made


class Kernel:
    """What a supervisor asks it, and what it says. `socket` is the connection that it was given last."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.socket: socket.socket | None = None
        self.pid = 0
        self._asked, self.asks = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._done, self.is_done = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asked.settimeout(PATIENCE_S)
        self.seen: list[str] = []

    def asked(self) -> str:
        """The next thing."""
        data, given, *_ = self._asked.recvmsg(256, socket.CMSG_SPACE(4))
        for _, _, raw in given:
            (fd,) = array.array("i", raw[:4])
            self._drop()
            self.socket = socket.socket(fileno=fd)
        self.seen.append(data.decode())
        return self.seen[-1]

    def says(self, error: int = 0) -> None:
        """To what it was asked."""
        self._asked.send(error.to_bytes(4, sys.byteorder, signed=True))

    def brings(self, error: int = 0) -> None:
        """The canary is back."""
        self._done.send(error.to_bytes(4, sys.byteorder))

    def until(self, word: str, *between: str) -> None:
        """It is asked that, after nothing but what else may be asked, to which it says yes."""
        while (asked := self.asked().split()[0]) != word:
            assert asked in between, self.seen
            self.says()

    def serve(self) -> None:
        """Say yes to what it has asked by now."""
        while select.select([self._asked], [], [], 0)[0]:
            if self.asked().split()[0] in ("reconnect", "resize", "disconnect"):
                self.says()

    def attach(self) -> None:
        """Until the device is there."""
        asked = self.asked()
        assert asked.startswith("connect"), asked
        self.pid = int(asked.split()[-1])
        self.says()
        self.until("set")
        self.until("open")
        self.brings()

    def door(self) -> int:
        """The process that serves."""
        wait_for((self.place / "pid").exists)
        return int((self.place / "pid").read_text())

    def kill_door(self) -> None:
        """And the next one is another."""
        pid = self.door()
        (self.place / "pid").unlink()
        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """It is gone, and so is what it has left."""
        self._drop()
        for each in (self._asked, self._done, self.asks, self.is_done):
            each.close()

    def _drop(self) -> None:
        if self.socket is not None:
            self.socket.close()


def killed(pid: int) -> None:
    """If it is there."""
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Supervisor:
    def __init__(self, process: "subprocess.Popen[bytes]", kernel: Kernel, said: Path) -> None:
        self.process = process
        self.kernel = kernel
        self.said = said

    def says(self, words: str) -> None:
        """Wait until it has said that, and say yes to what it asks."""

        def said() -> bool:
            self.kernel.serve()
            return words in self.said.read_text()

        wait_for(said, PATIENCE_S, lambda: f"{self.kernel.seen} {self.said.read_text()}")


@contextmanager
def supervisor(program: Path, place: Path, *options: str, **streams: Any) -> Iterator[Supervisor]:
    kernel = Kernel(place)
    (place / "size").write_text(str(SIZE))
    fds = kernel.asks.fileno(), kernel.is_done.fileno()
    environment = {**os.environ, "AOE_KERNEL": ",".join(map(str, fds))}
    door = ["/usr/bin/env", sys.executable, "-S", "-E", str(DOOR), str(place)]
    words = [program, *options, "/dev/nbd0", *door]
    with ExitStack() as stack:
        stack.callback(kernel.close)
        said = place / "said"
        streams = {"stderr": stack.enter_context(said.open("wb")), **streams}
        process: subprocess.Popen[bytes] = subprocess.Popen(words, env=environment, pass_fds=fds, **streams)
        stack.enter_context(process)
        stack.callback(lambda: killed(kernel.pid))
        stack.callback(process.kill)
        stack.callback(lambda: killed(int((place / "pid").read_text()) if (place / "pid").exists() else 0))
        yield Supervisor(process, kernel, said)


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


def test_no_handshake_lasts_for_ever(program: Path, tmp_path: Path) -> None:
    """However often a byte comes."""
    made = tmp_path / "door.so"
    sources = sorted((ROOT / "csrc/door").glob("*.c"))
    command = [COMPILER.split()[0], *FLAGS, "-O0", "-shared", "-fPIC", f"-I{ROOT / 'csrc'}", *sources]
    subprocess.run([*command, "-o", made], check=True, timeout=300)
    library, export = ctypes.CDLL(str(made)), ctypes.create_string_buffer(16)
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
