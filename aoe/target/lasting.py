"""Files in a directory that others may write into, too: whole or not at all, and on stable storage."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from aoe.disk import whole
from aoe.disk.syscalls import sync_directory

IRREGULAR = "it is not a regular file"


def open_regular(file: Path, flags: int) -> int:
    """A descriptor of a regular file, readable for its owner only if it is new; OSError for anything else."""
    if file.is_symlink():
        raise OSError(errno.ELOOP, IRREGULAR, str(file))
    fd = os.open(file, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, IRREGULAR, str(file))


def read(file: Path, most: int) -> bytes:
    """What a regular file has. OSError, ValueError for more than `most` bytes."""
    with os.fdopen(open_regular(file, os.O_RDONLY), "rb") as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most} bytes")
    return content


Put = Callable[[Path, str], None]
"""Replaces a file by one with a text in it. OSError."""


def put(file: Path, text: str) -> None:
    """As `Put`; it is on stable storage when this returns."""
    whole.replace(file, text.encode(), _fresh(file))


class Puts:
    """Many files, which are on stable storage from `sync` on: a directory is synced once for all in it."""

    def __init__(self) -> None:
        self._directories: set[Path] = set()

    def put(self, file: Path, text: str) -> None:
        """As `Put`; until `sync` it may be the old one after a crash, which is as whole."""
        self._directories.add(file.parent)
        whole.exchange(file, text.encode(), _fresh(file))

    def sync(self) -> None:
        """OSError."""
        while self._directories:
            sync_directory(self._directories.pop())


def _fresh(file: Path) -> Path:
    return file.with_suffix(".new")


def remove(file: Path) -> None:
    """Remove a file, for good when this returns. OSError."""
    file.unlink(missing_ok=True)
    sync_directory(file.parent)
