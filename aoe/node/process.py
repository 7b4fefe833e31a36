"""This process as metrics tell of it: what has to be open before it gives up its rights is opened first."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_STARTED_AT, _RESIDENT_AT = 19, 1
"""Of the fields behind the name in /proc/PID/stat, and of /proc/PID/statm (proc(5))."""
_ENOUGH = 256


class Use(NamedTuple):
    """Since 1970 and of CPU time in seconds, memory in bytes; None where /proc does not tell."""

    started_s: float
    cpu_s: float
    resident: int | None


class Process:
    """Looks at itself, as often as it is asked."""

    def __init__(self) -> None:
        self._started_s = _started_s()
        self._statm = -1
        with suppress(OSError):
            self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def use(self) -> Use:
        """Now."""
        return Use(self._started_s, time.process_time(), self._resident())

    def _resident(self) -> int | None:
        try:
            said = os.pread(self._statm, _ENOUGH, 0).split()
        except OSError:
            return None
        return int(said[_RESIDENT_AT]) * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """Look no more."""
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1


def _started_s() -> float:
    """Now, where /proc does not tell: we are at the start."""
    ago_s = 0.0
    with suppress(OSError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[_STARTED_AT])
        ago_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - ago_s
