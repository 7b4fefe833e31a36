"""The supervisor of a door with another kernel: the test is that."""

import array
import ctypes
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from csrc.flags import COMPILER, FLAGS
from tests.support.tools import need
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[3]
INSTEAD = ("netlink.c", "canary.c", "device.c")
WRAPPED = ("open", "poll", "boottime_ns", "child_start")
PATIENCE_S = 60


_Seen = struct.Struct("=qQQ")


def scripted(place: Path) -> Path:
    """The supervisor, made here, which asks us instead of the kernel."""
    need("gcc")
    made = place / "aoe-door"
    sources = [path for path in sorted((ROOT / "csrc/door").glob("*.c")) if path.name not in INSTEAD]
    kernel = ROOT / "tests/nbd/scripted_kernel.c"
    _compile(*(f"-Wl,--wrap={it}" for it in WRAPPED), *sources, kernel, "-o", made)
    return made


def linked(place: Path) -> ctypes.CDLL:
    """What the supervisor is made of, to be called from here."""
    need("gcc")
    made = place / "door.so"
    _compile("-shared", "-fPIC", *sorted((ROOT / "csrc/door").glob("*.c")), "-o", made)
    return ctypes.CDLL(str(made))


def _compile(*words: str | Path) -> None:
    command = [COMPILER.split()[0], *FLAGS, "-O0", f"-I{ROOT / 'csrc'}", *words]
    subprocess.run(command, check=True, timeout=300)


class Kernel:
    """What a supervisor asks it, and what it says. `socket` is the connection that it was given last. What
    was written at once to the log comes from `log` at once."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.socket: socket.socket | None = None
        self.pid = 0
        self._asked, self.asks = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._done, self.is_done = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log, self.logs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.memory = os.memfd_create("clock")
        os.truncate(self.memory, _Seen.size)
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

    def logged(self) -> list[str]:
        """What stands in the log by now: each time a line, behind its level and our name."""
        found = []
        with suppress(BlockingIOError):
            while True:
                data = self.log.recv(2048, socket.MSG_DONTWAIT)
                whole = re.fullmatch(rb"<5>aoe-door: ([^\n]+)\n", data)
                assert whole, data
                found.append(whole[1].decode())
        return found

    def _counts(self) -> "tuple[int, ...]":
        """The time that we say, rounds of the supervisor's loop, starts of doors."""
        return _Seen.unpack(os.pread(self.memory, _Seen.size, 0))

    def starts(self) -> int:
        """So many doors were started."""
        return self._counts()[2]

    def passes(self, ms: int) -> None:
        """So much time, and the supervisor has done what it does then. Time stands still from now on."""
        now_ns = self._counts()[0] or time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        os.pwrite(self.memory, (now_ns + ms * 10**6).to_bytes(8, sys.byteorder), 0)
        rounds = self._counts()[1]
        wait_for(lambda: self._counts()[1] >= rounds + 2, PATIENCE_S)

    def door_ends(self) -> None:
        """The one that is there does so by itself, and the supervisor knows it."""
        wait_for(self.doors)
        (pid,) = self.doors()
        (self.place / "pid").unlink()
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), PATIENCE_S)
        self.passes(0)

    def until(self, word: str, *between: str) -> None:
        """It is asked that, after nothing but what else may be asked, to which it says yes."""
        while (asked := self.asked().split()[0]) != word:
            assert asked in between, self.seen
            self.says()

    def is_asked(self) -> bool:
        """By now."""
        return bool(select.select([self._asked], [], [], 0)[0])

    def serve(self) -> None:
        """Say yes to what it has asked by now."""
        while self.is_asked():
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

    def doors(self) -> list[int]:
        """The processes that serve: the one that does, if there is one."""
        pid = self.place / "pid"
        return [int(pid.read_text())] if pid.exists() else []

    def kill_door(self) -> None:
        """And the next one is another."""
        wait_for(self.doors)
        (pid,) = self.doors()
        (self.place / "pid").unlink()
        os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """It is gone, and so is what it has left."""
        self._drop()
        for each in (self._asked, self._done, self.asks, self.is_done, self.log, self.logs):
            each.close()
        os.close(self.memory)

    def _drop(self) -> None:
        if self.socket is not None:
            self.socket.close()


def _killed(pid: int, how: signal.Signals = signal.SIGKILL) -> None:
    """If it is there."""
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, how)


class Supervisor:
    """One that runs; what it says is in a file."""

    def __init__(self, process: "subprocess.Popen[bytes]", kernel: Kernel, said: Path) -> None:
        self.process = process
        self.kernel = kernel
        self.said = said

    @contextmanager
    def estate(self) -> Iterator[int]:
        """A descriptor of the memory that it shares with its doors."""
        all_fds = Path(f"/proc/{self.process.pid}/fd").iterdir()
        (estate,) = (fd for fd in all_fds if "memfd:aoe-door" in str(fd.readlink()))
        with estate.open("r+b", buffering=0) as memory:
            yield memory.fileno()

    def says(self, words: str) -> None:
        """Wait until it has said that, and say yes to what it asks."""

        def said() -> bool:
            self.kernel.serve()
            return words in self.said.read_text()

        wait_for(said, PATIENCE_S, lambda: f"{self.kernel.seen} {self.said.read_text()}")


@contextmanager
def supervised(kernel: Kernel, command: Sequence[str | Path], **streams: Any) -> Iterator[Supervisor]:
    """A supervisor of this kernel, and what it starts, until the end of the block."""
    fds = kernel.asks.fileno(), kernel.is_done.fileno(), kernel.logs.fileno(), kernel.memory
    environment = {**os.environ, "AOE_KERNEL": ",".join(map(str, fds))}
    with ExitStack() as stack:
        stack.callback(kernel.close)
        said = kernel.place / "said"
        streams = {"stderr": stack.enter_context(said.open("wb")), **streams}
        process: subprocess.Popen[bytes] = subprocess.Popen(command, env=environment, pass_fds=fds, **streams)
        stack.enter_context(process)
        stack.callback(lambda: _killed(kernel.pid))
        stack.callback(process.kill)
        stack.callback(lambda: [_killed(it) for it in kernel.doors()])
        stack.callback(lambda: _killed(kernel.pid, signal.SIGSTOP))  # or it starts another door
        yield Supervisor(process, kernel, said)
