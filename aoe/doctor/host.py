"""Looks at the host: io_uring, the clock, sysctls, and the aoe driver of the kernel."""

import ctypes
import os
import struct
import time

from aoe.disk.identity import HERE, Host, number_of, raw_text
from aoe.doctor.of_host import Clock, Uring

_IO_URING_SETUP = 425
"""The same number on every architecture."""
_STRUCT = 512
"""For struct io_uring_params, and for struct timex."""
_STATUS = struct.Struct("@I4xqqqqi")
"""The beginning of struct timex: modes, offset, frequency, errors, status (adjtimex(2))."""
_STA_UNSYNC = 0x0040
_ETHERD = "etherd!"

_libc = ctypes.CDLL(None, use_errno=True)


def uring(host: Host = HERE) -> Uring:
    """Try it, with a ring of one entry."""
    fd = _libc.syscall(_IO_URING_SETUP, 1, ctypes.create_string_buffer(_STRUCT))
    number = 0
    if fd < 0:
        number = ctypes.get_errno()
    else:
        os.close(fd)
    disabled = number_of(host.proc / "sys/kernel/io_uring_disabled")
    return Uring(number, disabled, _line(host, "self/status", "Seccomp:") not in ("", "0"))


def _line(host: Host, file: str, begin: str) -> str:
    """What stands in a line of a file of proc(5) behind its name."""
    found = (it for it in raw_text(host.proc / file).splitlines() if it.startswith(begin))
    return next(found, "").removeprefix(begin).strip()


def synchronised() -> bool:
    """Whether some program keeps the clock right (adjtimex(2))."""
    room = ctypes.create_string_buffer(_STRUCT)
    if _libc.adjtimex(room) < 0:
        return False
    *_, status = _STATUS.unpack_from(room)
    return not status & _STA_UNSYNC


def clock(steps: int, began_ns: int) -> Clock:
    """`began_ns` is what `ahead_ns` was when it began to look."""
    return Clock(synchronised(), steps, ahead_ns() - began_ns)


def ahead_ns() -> int:
    """The clock of the day minus the time since boot: it is the same for ever, unless the clock jumps."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def driver(host: Host = HERE) -> tuple[str, ...] | None:
    """The addresses that the kernel's aoe driver has disks of; None where it is not loaded."""
    if not (host.sys / "module/aoe").is_dir():
        return None
    names = sorted(it.name for it in (host.sys / "block").glob(f"{_ETHERD}e*"))
    return tuple(name.removeprefix(_ETHERD) for name in names)


def watches(host: Host = HERE) -> int:
    """How many inotify watches a user may have; 0 where that is not known."""
    return number_of(host.proc / "sys/fs/inotify/max_user_watches")
