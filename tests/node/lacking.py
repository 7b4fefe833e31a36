"""Serves on a kernel, or a machine, that lacks what a sandbox needs: `lacking.py WHAT -- ARGUMENTS`."""

import ctypes
import errno
import platform
import sys
from typing import Any


class _Old:
    """A C library whose kernel knows no landlock."""

    def syscall(self, *_: object) -> int:
        ctypes.set_errno(errno.ENOSYS)
        return -1

    def __getattr__(self, name: str) -> Any:
        return getattr(ctypes.CDLL(None, use_errno=True), name)


def _landlock() -> None:
    from aoe.sandbox import landlock

    landlock._libc = _Old()  # type: ignore[assignment]


def _machine() -> None:
    platform.machine = lambda: "s390x"


if __name__ == "__main__":
    {"landlock": _landlock, "machine": _machine}[sys.argv[1]]()
    from aoe.cli.target import main

    sys.exit(main(sys.argv[3:]))
