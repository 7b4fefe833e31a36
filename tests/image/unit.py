"""What has images served as a service, and what holds descriptors for a target: as systemd does both."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import aoe
from aoe.disk.syscalls import is_readable
from tests.support.waiting import PATIENCE_S

STARTED = """
import os, sys
import aoe
if sys.argv[1:]:  # a manager starts it, and this is not what it executes later
    os.dup2(int(sys.argv[1]), 3)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[2]])
from aoe.image import carried
if carried.WORD not in os.environ:
    aoe.__version__ = os.environ.get("STARTED_AS", aoe.__version__)
from aoe.cli.target import main
sys.exit(main(["images"]))
"""


class Unit:
    """A socket, and the service that a manager starts whenever somebody connects and there is none."""

    def __init__(self, at: Path) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self.release = aoe.__version__
        """Of the next one that is started."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(at))
        self._listener.listen()
        self._ending, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._manage)

    def __enter__(self) -> "Unit":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """It is told to end, and does."""
        os.close(self._ended)
        self._thread.join()
        for it in self.started:
            if it.poll() is None:
                it.terminate()
            assert it.wait(PATIENCE_S) in (0, -signal.SIGKILL)
        self._listener.close()
        os.close(self._ending)

    def _manage(self) -> None:
        while not is_readable(self._ending, 0.02):
            if is_readable(self._listener) and all(it.poll() is not None for it in self.started):
                self.started.append(self._start())

    def _start(self) -> "subprocess.Popen[bytes]":
        words = [sys.executable, "-c", STARTED, str(self._listener.fileno()), STARTED]
        environment = os.environ | {"STARTED_AS": self.release}
        return subprocess.Popen(words, pass_fds=[self._listener.fileno()], env=environment)


class Holding(list[int]):
    """What holds a descriptor for a target until that is stopped."""

    def hold(self, _: str, fd: int) -> None:
        self.append(os.dup(fd))

    def stop(self) -> None:
        while self:
            os.close(self.pop())
