"""Starts our target in a world that lacks something: `fault_launch.py WHAT... -- ARGUMENTS`.

Runs as a script of its own, between the interpreter and the arguments of `aoe-target`.
"""

import ctypes
import errno
import resource
import struct
import sys
import threading
import time
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2
_SECCOMP_RET_ERRNO = 0x00050000
_SECCOMP_RET_ALLOW = 0x7FFF0000
_IO_URING_SETUP = 425
"""The same number on every architecture (as is the way since Linux 5.1)."""

_libc = ctypes.CDLL(None, use_errno=True)


def no_uring() -> None:
    """io_uring_setup(2) fails with EPERM, as in most containers (seccomp(2), BPF)."""
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (0x20, 0, 0, 0),  # load the number of the system call
            (0x15, 0, 1, _IO_URING_SETUP),  # go on if equal, else skip one
            (0x06, 0, 0, _SECCOMP_RET_ERRNO | errno.EPERM),
            (0x06, 0, 0, _SECCOMP_RET_ALLOW),
        )
    )
    code = ctypes.create_string_buffer(program)
    filters = ctypes.create_string_buffer(struct.pack("HP", len(program) // 8, ctypes.addressof(code)))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filters, 0, 0
    ):
        raise OSError(ctypes.get_errno(), "prctl")


def no_locked_memory() -> None:
    """RLIMIT_MEMLOCK is 0."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))


def few_descriptors() -> None:
    """The soft limit of open files is 1,024, as it is nearly everywhere."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))


def no_engine() -> None:
    """The compiled engine cannot be imported."""
    sys.modules["aoe.engine._engine"] = None  # type: ignore[assignment]


def stall() -> None:
    """While the file named by the next argument is there, Python stands still: the GIL is held."""
    flag = Path(_arguments.pop(0))
    holding = ctypes.PyDLL(None)  # a PyDLL keeps the lock during a call

    def hold() -> None:
        while not flag.exists():
            time.sleep(0.01)
        sys.setswitchinterval(1000)  # and gives it to no one between two
        flag.with_suffix(".held").touch()
        while not holding.access(bytes(flag), 0):
            holding.usleep(10_000)
        sys.setswitchinterval(0.005)

    threading.Thread(target=hold, daemon=True).start()


SLOW_TRIM_S = 1.0


def slow_trim() -> None:
    """To give back a range takes long, as on a disk that erases. Python does it, whatever the engine."""
    from aoe.disk import syscalls

    quick = syscalls.punch_hole

    def slow(fd: int, offset: int, length: int) -> None:
        time.sleep(SLOW_TRIM_S)
        quick(fd, offset, length)

    syscalls.punch_hole = slow


def patient_search() -> None:
    """A bad sector is looked for until it is found: each try may start a program, on a busy machine."""
    from aoe import timing

    timing.BAD_SECTOR_SEARCH_S = 30.0


WAYS = {
    "no-uring": no_uring,
    "no-locked-memory": no_locked_memory,
    "few-descriptors": few_descriptors,
    "no-engine": no_engine,
    "stall": stall,
    "slow-trim": slow_trim,
    "patient-search": patient_search,
}

if __name__ == "__main__":
    _arguments = sys.argv[1:]
    while (what := _arguments.pop(0)) != "--":
        WAYS[what]()
    from aoe.cli.target import main

    sys.exit(main(_arguments))
