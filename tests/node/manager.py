"""A stand-in for systemd as a service sees it: NOTIFY_SOCKET, and a store of descriptors that outlives the
process (sd_notify(3), sd_listen_fds(3), as systemd 252 has it).

What the real one does, this does as well: the store has a bound; with each descriptor it keeps a name, and
whether it is polled. What hangs up leaves it unless FDPOLL=0; one open file is held once. They come back in
another order; starts that fail keep them, and a stop empties it.
"""

import array
import ctypes
import fcntl
import os
import random
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.support.waiting import wait_for

NAME_MAX = 255
_FIRST = 3
"""Number of the first descriptor that a service is given."""
_ABOVE = 4096
"""Ours are above those that a service is given, so that none is in the way of another."""
_MESSAGE_MAX = 1 << 16
_LOOK_S = 0.005
_DESCRIPTORS_MAX = 253  # of one message, SCM_MAX_FD
_LAUNCH = 'eval "$0"; exec "$@"'
_KCMP_FILE = 0
_SYS_KCMP = 312

_libc = ctypes.CDLL(None)


class Stored(NamedTuple):
    """A descriptor in the store."""

    name: str
    fd: int
    polled: bool
    inode: tuple[int, int]
    """Two with different ones are not one open file: of thousands only these few are compared."""


class Manager:
    """Runs one service. `start` it, end its process with `kill`, `stop` it; what it said is in `said`."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        *,
        holds: int = 4096,
        environment: Mapping[str, str] | None = None,
        seed: int = 1,
    ) -> None:
        self._command = list(command)
        self._environment = dict(os.environ if environment is None else environment)
        self._holds = holds
        self._rng = random.Random(seed)
        self._path = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(os.fspath(self._path))
        self._lock = threading.Lock()
        self._ended, self._ending = os.pipe2(os.O_CLOEXEC)
        self.stored: list[Stored] = []
        self.said: dict[str, str] = {}
        """The last of each: READY, STATUS, STOPPING, WATCHDOG, RELOADING, MAINPID."""
        self.refused = 0
        """Descriptors for which the store had no room."""
        self.process: subprocess.Popen[bytes] | None = None
        self._reader = threading.Thread(target=self._read, name="manager")

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        os.write(self._ending, b".")
        self._reader.join()
        for fd in (self._ended, self._ending):
            os.close(fd)
        self._socket.close()

    # The service

    def start(self, *, ready_s: float | None = 20.0) -> None:
        """Start its process with what is stored, and wait until it says that it is ready."""
        assert self.process is None or self.process.poll() is not None, "it runs"
        self._let_go()
        given = self._given()
        self._rng.shuffle(given)
        moves = "export LISTEN_PID=$$; exec " + " ".join(
            f"{_FIRST + at}<&{one.fd}-" for at, one in enumerate(given)
        )
        environment = {**self._environment, "NOTIFY_SOCKET": os.fspath(self._path)}
        if given:
            names = ":".join(one.name for one in given)
            environment |= {"LISTEN_FDS": str(len(given)), "LISTEN_FDNAMES": names}
        self.process = subprocess.Popen(
            ["bash", "-c", _LAUNCH, moves if given else ":", *self._command],
            env=environment,
            stdin=subprocess.PIPE,
            pass_fds=[one.fd for one in given],
        )
        if ready_s is not None:
            wait_for(lambda: self.said.get("READY") == "1" or self._is_over(), ready_s)
            assert self.said.get("READY") == "1", f"ended with {self.process.returncode} before it was ready"

    def _given(self) -> list[Stored]:
        """What is stored once all is heard that the last process said."""
        while True:
            with self._lock:
                if not select.select([self._socket], [], [], 0)[0]:
                    self.said.clear()
                    return list(self.stored)
            time.sleep(_LOOK_S)

    def kill(self, number: int = signal.SIGKILL, *, patience_s: float = 20.0) -> int:
        """Signal it and wait for its end; its status. The store keeps what it has."""
        assert self.process is not None
        over = os.pidfd_open(self.process.pid)  # to wait without looking from time to time
        try:
            self.process.send_signal(number)
            select.select([over], [], [], patience_s)
        finally:
            os.close(over)
        return self.process.wait(0)

    def stop(self) -> None:
        """End it as `systemctl stop` does: the store is emptied."""
        if self.process is not None and self.process.poll() is None:
            try:
                self.kill(signal.SIGTERM)
            except subprocess.TimeoutExpired:
                self.kill()
        self._let_go()
        with self._lock:
            self._drop(list(self.stored))

    def hear(self) -> None:
        """All that was said until now."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"LAST=1", os.fspath(self._path))
        wait_for(lambda: self.said.pop("LAST", ""))

    @contextmanager
    def deaf(self) -> Iterator[None]:
        """It hears nothing meanwhile, and there is no room for what it is told."""
        with self._lock, ExitStack() as others:
            while _fills(others.enter_context(_speaker()), self._path):
                pass
            yield

    def names(self) -> list[str]:
        """Of all that is stored."""
        with self._lock:
            return sorted(one.name for one in self.stored)

    def hold(self, name: str, fd: int, *, polled: bool) -> None:
        """Store a copy of it."""
        kept = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
        self.stored.append(Stored(name, kept, polled, _inode(fd)))

    def _let_go(self) -> None:
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    def _is_over(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    # What it says

    def _read(self) -> None:
        while True:
            with self._lock:
                polled = [one for one in self.stored if one.polled]
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            poll.register(self._ended, select.POLLIN)
            for one in polled:
                poll.register(one.fd, 0)  # it hangs up, or fails
            found = {fd for fd, _ in poll.poll(100)}
            if self._ended in found:
                return
            with self._lock:
                self._drop([one for one in polled if one.fd in found and one in self.stored])
            if self._socket.fileno() in found:
                self._receive()

    def _receive(self) -> None:
        room = socket.CMSG_SPACE(_DESCRIPTORS_MAX * array.array("i").itemsize)
        with self._lock:
            text, ancillary, flags, _ = self._socket.recvmsg(_MESSAGE_MAX, room, socket.MSG_CMSG_CLOEXEC)
            assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC), "more than systemd would take"
            descriptors = list(_descriptors(ancillary))
            words = dict(line.partition("=")[::2] for line in text.decode().splitlines() if "=" in line)
            if words.get("FDSTORE") == "1":
                self._store(words.get("FDNAME", "stored"), descriptors, polled=words.get("FDPOLL") != "0")
            elif words.get("FDSTOREREMOVE") == "1":
                self._drop([one for one in self.stored if one.name == words["FDNAME"]])
            self.said |= words
        for fd in descriptors:
            os.close(fd)

    def _store(self, name: str, descriptors: Sequence[int], *, polled: bool) -> None:
        valid = 0 < len(name) <= NAME_MAX and name.isascii() and name.isprintable() and ":" not in name
        for fd in descriptors:
            inode = _inode(fd)
            if any(one.inode == inode and one_file(fd, one.fd) for one in self.stored):
                continue
            if len(self.stored) >= self._holds:
                self.refused += 1
                continue
            self.hold(name if valid else "stored", fd, polled=polled)

    def _drop(self, them: Sequence[Stored]) -> None:
        for one in them:
            self.stored.remove(one)
            os.close(one.fd)


def _speaker() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)


def _fills(one: socket.socket, path: Path) -> bool:
    """Whether there was room for a word of it, which there is not any more."""
    for said in count():
        try:
            one.sendto(b"FILLED=1", os.fspath(path))
        except BlockingIOError:
            return said > 0
    raise AssertionError


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found = array.array("i")
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
            yield from found


def _inode(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def one_file(one: int, other: int) -> bool:
    """Whether two descriptors are of one open file (kcmp(2))."""
    return bool(_libc.syscall(_SYS_KCMP, os.getpid(), os.getpid(), _KCMP_FILE, one, other) == 0)
