"""The socket on which a daemon is asked: one that a dead process left is replaced, one in use is not."""

import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

from aoe.control import place
from aoe.control.peers import holder
from aoe.errors import ConfigurationError
from aoe.limits import CONTROL_BACKLOG

_ANY_MAY_CONNECT = 0o666
"""Which process may ask for what is judged by the kernel's word for it; so a refusal has a message."""


class Seat:
    """A listening socket at `path`. As long as there is one, its lock keeps other processes from the path."""

    def __init__(self, path: Path) -> None:
        """ConfigurationError where another daemon listens, where something else is in the way, or where there
        can be no socket."""
        place.check(path)
        self._path = path
        try:
            place.make(path.parent)
            self._lock = _lock(path)
        except OSError as error:
            raise _cannot(path, error) from error
        try:
            self.socket = _listen(path)
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Listen no more; the path is free. What may not be removed from here is left to `clear`."""
        self.socket.close()
        with suppress(OSError):
            _remove(self._path)
        os.close(self._lock)


def clear(path: Path) -> None:
    """Remove what a daemon left at `path` that has ended, and may not do so itself."""
    with suppress(OSError):
        fd = os.open(_lock_of(path), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), _lock_of(path).lstat()):
                _remove(path)
        finally:
            os.close(fd)


def _remove(path: Path) -> None:
    """By what has the lock, which goes last: a daemon that waited for it takes another one. OSError."""
    if stat.S_ISSOCK(path.lstat().st_mode):
        path.unlink()
    _lock_of(path).unlink()


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _lock(path: Path) -> int:
    """A descriptor whose lock says that the path is ours; it goes with the process."""
    while (fd := _locked(path)) is None:
        pass
    return fd


def _locked(path: Path) -> int | None:
    """None if the file went meanwhile."""
    fd = os.open(_lock_of(path), os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise _taken(path, _listener_of(path)) from error
    except BaseException:
        os.close(fd)
        raise
    if os.fstat(fd).st_nlink:
        return fd
    os.close(fd)
    return None


def _listen(path: Path) -> socket.socket:
    """We have the lock; so what stands there was left behind, unless it was made by another program."""
    pid = _listener_of(path)
    if pid:
        raise _taken(path, pid)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        listener.bind(str(path))
        path.chmod(_ANY_MAY_CONNECT)
        listener.listen(CONTROL_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise _cannot(path, error) from error
    except BaseException:
        listener.close()
        raise
    return listener


def _clear(path: Path) -> None:
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigurationError(
            f"{path} is in the way and is no socket; remove it, or name another --socket"
        )
    path.unlink()


def _listener_of(path: Path) -> int:
    """The pid of the process that does; 0 where none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(str(path))
        except BlockingIOError:  # its backlog is full
            return _unknown_holder(path)
        except OSError:
            return 0
        return holder(asking)


def _unknown_holder(path: Path) -> int:
    raise ConfigurationError(
        f"another daemon listens at {path} and is too busy to say which; look with ss -xlp"
    )


def _taken(path: Path, pid: int) -> ConfigurationError:
    which = f"process {pid}" if pid else "another process"
    return ConfigurationError(f"{which} is a daemon at {path} already; stop it, or name another --socket")


def _cannot(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"no control socket at {path}: {error.strerror}; name another --socket")
