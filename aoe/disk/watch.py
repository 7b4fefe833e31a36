"""Notices when a file that is open loses the name it was opened by (inotify(7))."""

import asyncio
import ctypes
import functools
import os
import stat
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from aoe import limits

_IN_ATTRIB, _IN_MOVE_SELF, _IN_Q_OVERFLOW = 0x4, 0x800, 0x4000
_HEADER = struct.Struct("iIII")
_GONE = " (deleted)"
"""Behind the name of an open file that has lost it (proc_pid_fd(5))."""

_libc = ctypes.CDLL(None, use_errno=True)


class Lost(NamedTuple):
    """The file on `fd` has not the name `path` any more; `removed` if it has none at all."""

    fd: int
    path: str
    removed: bool


def add_watch(inotify: int, fd: int) -> int:
    """Have the file on `fd` watched: the number of the watch, negative where that cannot be."""
    link = f"/proc/self/fd/{fd}".encode()
    return int(_libc.inotify_add_watch(inotify, link, _IN_ATTRIB | _IN_MOVE_SELF))


def add_watches(inotify: int, fds: Sequence[int], then: Callable[[Sequence[int]], None]) -> None:
    """The same for many, and `then` something with the numbers: at once. What asks another process for them
    does so later, in the running event loop."""
    then([add_watch(inotify, fd) for fd in fds])


def _is_nowhere(name: str) -> bool:
    """Not where it cannot be known."""
    try:
        Path(name).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


Add = Callable[[int, Sequence[int], Callable[[Sequence[int]], None]], None]


class NameWatch:
    """Watches regular files by their descriptors, inside the running event loop, and calls `lost` once for
    each that loses its name. What cannot be watched is not."""

    def __init__(self, lost: Callable[[Lost], None], add: Add = add_watches) -> None:
        """`add` is `add_watches`, or asks a process with more rights for it."""
        self._lost = lost
        self._add = add
        self._inotify = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self._names: dict[int, str] = {}
        self._watched: dict[int, set[int]] = {}
        """Descriptors by watch: one file may be open several times."""
        self._asked: dict[int, object] = {}
        """Descriptors of which it is not known whether they can be watched."""
        self._reading = False

    def watch(self, *fds: int) -> None:
        """From now on, and as long as they are open: `forget` them before."""
        for fd in fds:
            if self._inotify >= 0 and stat.S_ISREG(os.fstat(fd).st_mode):
                self._note(fd)
        self._ask([fd for fd in fds if fd in self._names])

    def look_again(self) -> None:
        """Try what could not be watched before."""
        watched = set().union(*self._watched.values())
        self._ask([fd for fd in self._names if fd not in self._asked and fd not in watched])

    def _ask(self, fds: Sequence[int]) -> None:
        mark = object()
        self._asked |= dict.fromkeys(fds, mark)
        if fds:
            self._add(self._inotify, fds, functools.partial(self._added, fds, mark))

    def _note(self, fd: int) -> None:
        name = str(Path(f"/proc/self/fd/{fd}").readlink())
        if name.endswith(_GONE) or not _is_nowhere(name):  # else it was opened in another mount namespace
            self._names[fd] = name.removesuffix(_GONE)

    def _added(self, fds: Sequence[int], mark: object, watches: Sequence[int]) -> None:
        """One that was forgotten meanwhile may be another file's number."""
        for fd, watch in zip(fds, watches, strict=True):
            if self._asked.get(fd) is not mark:
                self._stop(watch)
                continue
            del self._asked[fd]
            if watch >= 0:
                self._begin(fd, watch)

    def _begin(self, fd: int, watch: int) -> None:
        self._watched.setdefault(watch, set()).add(fd)
        if not self._reading:
            self._reading = True
            asyncio.get_running_loop().add_reader(self._inotify, self._readable)
        self._look(fd)  # it may have lost its name before this

    def _stop(self, watch: int) -> None:
        """Unless it is that of others, too."""
        if watch >= 0 and self._inotify >= 0 and not self._watched.get(watch):
            _libc.inotify_rm_watch(self._inotify, watch)

    def forget(self, fd: int) -> None:
        """Watch it no more."""
        self._names.pop(fd, None)
        self._asked.pop(fd, None)
        for watch, fds in list(self._watched.items()):
            fds.discard(fd)
            if not fds:
                self._stop(watch)
                del self._watched[watch]

    def close(self) -> None:
        """Watch nothing more; before the files are closed."""
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._inotify)
        if self._inotify >= 0:
            os.close(self._inotify)
            self._inotify = -1
        self._asked.clear()

    def _readable(self) -> None:
        events, at = os.read(self._inotify, limits.WATCH_BYTES), 0
        suspects: set[int] = set()
        while at < len(events):
            watch, mask, _, length = _HEADER.unpack_from(events, at)
            at += _HEADER.size + length
            suspects.update(self._names if mask & _IN_Q_OVERFLOW else self._watched.get(watch, ()))
        for fd in sorted(suspects & self._names.keys()):
            self._look(fd)

    def _look(self, fd: int) -> None:
        now, path = os.fstat(fd), self._names[fd]
        try:
            if os.path.samestat(now, Path(path).stat()):
                return
        except PermissionError:  # what the kernel says of it instead needs no right
            if str(Path(f"/proc/self/fd/{fd}").readlink()) == path:
                return
        except OSError:
            pass
        del self._names[fd]
        self._lost(Lost(fd, path, not now.st_nlink))
