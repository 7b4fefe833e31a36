"""A file that gets its name when it is whole."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aoe.disk import syscalls
from aoe.errors import ConfigurationError, PoolError
from aoe.pool import handles
from aoe.printable import plain

_LACKING = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT)


class Unnamed:
    """Such a file, open as `fd`, and its owner's alone: a disk has secrets of its users. It bears a name of
    its own where the file system has none without: then a process that is killed leaves it there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._within = handles.open_directory(str(path.parent))
        self._other = ""
        try:
            self.fd = self._open()
        except BaseException:
            os.close(self._within)
            raise

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            return os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=self._within)
        except OSError as error:
            if error.errno not in _LACKING:
                raise
        other = f".{self._path.name}.{os.getpid()}.part"
        fd = os.open(other, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._within)
        self._other = other
        return fd

    def name(self) -> None:
        """For good when this returns. OSError; FileExistsError where another has got it meanwhile."""
        if not self._other:
            handles.link(self.fd, self._within, self._path.name)
            return
        os.fsync(self.fd)
        at = Path(f"/proc/self/fd/{self._within}")
        syscalls.rename_new(at / self._other, at / self._path.name)
        self._other = ""
        handles.sync_new(self._within, self._path.name)

    def close(self) -> None:
        """What has no name is gone then."""
        if self._other:
            with suppress(OSError):
                handles.remove(self._within, self._other)
        os.close(self.fd)
        os.close(self._within)


@contextmanager
def unnamed(path: Path) -> Iterator[Unnamed]:
    """A file for a path that nothing has yet. ConfigurationError where it has, PoolError where it cannot be
    made or written."""
    said = plain(str(path))
    try:
        if os.path.lexists(path):
            raise FileExistsError
        file = Unnamed(path)
        try:
            yield file
        finally:
            file.close()
    except FileExistsError as error:
        raise ConfigurationError(f"{said} is there already; choose another name, or remove it") from error
    except OSError as error:
        raise PoolError(f"{said}: {error.strerror or error}; nothing is left there") from error
