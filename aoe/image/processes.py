"""Processes that serve or read images: whether one works, and how one ends that may wait for a disk."""

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from aoe import timing

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
    """One that fork(2) made."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: int | None = None

    def kill(self) -> None:
        if self._status is None:
            os.kill(self.pid, 9)

    def poll(self) -> int | None:
        if self._status is None and os.waitpid(self.pid, os.WNOHANG)[0]:
            self._status = 0
        return self._status


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
