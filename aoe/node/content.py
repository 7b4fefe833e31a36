"""What is in a configuration file. Whatever else has its name is refused, and nothing is waited for: a pipe
would be, for ever."""

import os
import stat
from pathlib import Path

from aoe import limits
from aoe.errors import ConfigurationError

FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
"""How it is opened."""


def content(file: Path) -> bytes:
    """Of a file up to one byte more than it may have. ConfigurationError, OSError."""
    fd = os.open(file, FLAGS)
    try:
        return content_of(fd, file)
    finally:
        os.close(fd)


def content_of(fd: int, file: Path) -> bytes:
    """The same of one that is open."""
    check_file(fd, file)
    most, pieces = limits.CONFIG_BYTES_MAX + 1, list[bytes]()
    while (room := most - sum(map(len, pieces))) > 0:
        piece = os.pread(fd, room, most - room)
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces)


def check_file(fd: int, file: Path) -> None:
    """ConfigurationError for a directory, a device, a pipe."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise ConfigurationError(f"{file} is not a file; name a configuration file")
