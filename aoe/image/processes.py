"""Processes that serve or read images: whether one works, and how one ends that may wait for a disk."""

import os
import signal
import subprocess
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from aoe import timing
from aoe.disk.syscalls import is_readable

_AT_WORK = ("R", "D")
"""States of a thread that runs, and of one that waits for a disk (proc_pid_stat(5))."""


class Process(Protocol):
    """A child of this one, such as `subprocess.Popen`."""

    @property
    def pid(self) -> int:
        """Its number."""

    def kill(self) -> None:
        """Have it end at once (SIGKILL)."""

    def poll(self) -> object:
        """None while it has not ended."""


class Forked:
    """One that fork(2) made, as `subprocess` has it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def kill(self) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)

    def poll(self) -> int | None:
        """Its exit status, or minus the signal that ended it; None while it has not ended."""
        if self._status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if ended else None
        return self._status

    def wait(self, timeout: float) -> int:
        """The same, once it has ended. subprocess.TimeoutExpired after so many seconds."""
        until_s = time.monotonic() + timeout
        while (status := self.poll()) is None:
            fd = os.pidfd_open(self.pid)
            try:
                if not is_readable(fd, max(until_s - time.monotonic(), 0.0)):
                    raise subprocess.TimeoutExpired(str(self.pid), timeout)
            finally:
                os.close(fd)
        return status


_left: dict[int, tuple[Process, tuple[str, ...]]] = {}
"""Those that were killed and have not ended, with the files that they may write, by number."""


def end(process: Process, files: Collection[str] = ()) -> None:
    """Kill it, and wait for its end; not for long where a disk keeps it: then it is left, with the `files`
    that it may write, and ends later."""
    reap()
    process.kill()
    until_s, wait_s = time.monotonic() + timing.IMAGE_KILLED_S, 0.0005
    while process.poll() is None:
        if time.monotonic() > until_s:
            _left[process.pid] = process, tuple(files)
            return
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, timing.IMAGE_LOOK_S)


def reap() -> None:
    """Those that were left and have ended by now."""
    for number, (process, _) in list(_left.items()):
        if process.poll() is not None:
            del _left[number]


def left_with(files: Collection[str]) -> int:
    """The number of one that was left and may write one of these files; 0: there is none."""
    reap()
    return next((number for number, (_, its) in _left.items() if not set(its).isdisjoint(files)), 0)


def is_at_work(process: int) -> bool:
    """Whether a thread of it runs, or waits for a disk. Such a one cannot be ended before that is over."""
    for thread in Path(f"/proc/{process}/task").glob("*/stat"):
        with suppress(OSError):  # it has ended
            if thread.read_text().rpartition(")")[2].split()[0] in _AT_WORK:
                return True
    return False
