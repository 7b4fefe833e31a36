"""Files in a directory that is held open: by their names in it, never through a link, nor by a path twice."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW = ".new"
"""Behind the name of a file that is not whole, or not wanted yet."""


def open_directory(name: str, within: int | None = None) -> int:
    """A directory, by its path or by its name in another one; a link is followed in a path only. OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    return os.open(name, flags if within is None else flags | os.O_NOFOLLOW, dir_fd=within)


@contextmanager
def opened(within: int, name: str, flags: int) -> Iterator[int]:
    """A regular file; new ones are their owner's. OSError for anything else."""
    fd = os.open(name, flags | _FLAGS, 0o600, dir_fd=within)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", name)
        yield fd
    finally:
        os.close(fd)


def listed(within: int) -> dict[str, os.stat_result]:
    """Every name in a directory, and what it is itself."""
    found = {}
    fd = open_directory(".", within)  # one of our own, as a descriptor has a place in the list
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    found[entry.name] = entry.stat(follow_symlinks=False)
    finally:
        os.close(fd)
    return found


def read(within: int, name: str, most: int) -> bytes:
    """What a file has, one byte more than `most` at most. OSError."""
    with opened(within, name, os.O_RDONLY) as fd, os.fdopen(fd, "rb", closefd=False) as file:
        return file.read(most + 1)


def replace(within: int, name: str, data: bytes) -> None:
    """Another file under a name, whole and on stable storage when this returns. OSError: then it is as it
    was, but where the directory could not be synced either may be there."""
    remove(within, name + NEW)
    try:
        with opened(within, name + NEW, os.O_CREAT | os.O_EXCL | os.O_WRONLY) as fd:
            with os.fdopen(fd, "wb", closefd=False) as file:
                file.write(data)
            os.fsync(fd)
        os.rename(name + NEW, name, src_dir_fd=within, dst_dir_fd=within)
    except OSError:
        with suppress(OSError):
            remove(within, name + NEW)
        raise
    os.fsync(within)


def rename(within: int, old: str, new: str) -> None:
    """For good when this returns; also where that was done before, and could not be synced. OSError."""
    try:
        os.rename(old, new, src_dir_fd=within, dst_dir_fd=within)
    except FileNotFoundError:
        os.stat(new, dir_fd=within, follow_symlinks=False)
    os.fsync(within)


def link(fd: int, within: int, name: str) -> None:
    """A file that was opened without a name gets one, for good when this returns. OSError: then it has
    none."""
    os.fsync(fd)
    os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=within, follow_symlinks=True)
    sync_new(within, name)


def sync_new(within: int, name: str) -> None:
    """What has got a name is there for good when this returns. OSError: then it is removed."""
    try:
        os.fsync(within)
    except OSError:
        with suppress(OSError):
            remove(within, name)
        raise


def remove(within: int, name: str) -> None:
    """A file that is not there is removed. OSError."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=within)
