"""The marker that makes a directory a pool, and the lock that is on it while a process works there."""

import errno
import fcntl
import os
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from aoe import limits, timing
from aoe.disk import locks
from aoe.errors import ConfigurationError, PoolError
from aoe.pool import handles
from aoe.pool.records import BadRecord, Marker, dump_marker, load_marker
from aoe.printable import plain

MARKER = "aoe-pool.json"
VOLUMES, IMAGES = "volumes", "images"
DIRECTORY = "directory"
"""The kind of pool that is a directory."""


class Marked(NamedTuple):
    """Descriptors of what a pool is made of."""

    top: int
    marker: int
    volumes: int
    images: int

    def close(self) -> None:
        """All of them, and the lock with them."""
        for fd in self:
            os.close(fd)


def init(path: str, *, name: str = "", plain_directory: bool = False) -> None:
    """Make a pool of a directory, in which there may be other things.

    ConfigurationError for what is none, for one that is a pool already, and for one of the root file system
    without `plain_directory`: nothing would tell whether the one that was meant is mounted. PoolError."""
    said = shown(path, name)
    top = _open_top(path, said)
    try:
        fcntl.flock(top, fcntl.LOCK_EX)
        if os.fstat(top).st_dev == _root_device() and not plain_directory:
            raise ConfigurationError(
                f"{said} is on the root file system, so it may be a mount point with nothing mounted; mount "
                "its file system, or say --plain if it is to be there"
            )
        _make(top, said)
    except OSError as error:
        raise PoolError(f"{said}: {error.strerror}; no pool was made") from error
    finally:
        os.close(top)


def _root_device() -> int:
    return Path("/").stat().st_dev


def _make(top: int, said: str) -> None:
    if MARKER in (found := handles.listed(top)):
        raise ConfigurationError(f"{said} is a pool already")
    for part in (VOLUMES, IMAGES):
        if part not in found:
            os.mkdir(part, 0o700, dir_fd=top)
        fd = handles.open_directory(part, top)
        has = handles.listed(fd)
        os.close(fd)
        if has:
            raise ConfigurationError(
                f"{said} has {part}/ with something in it, and no {MARKER}; put that back, or name another "
                "directory"
            )
    os.fsync(top)
    handles.replace(top, MARKER, dump_marker(Marker(uuid=uuid.uuid4().hex, kind=DIRECTORY)))


def shown(path: str, name: str) -> str:
    """A pool in a message."""
    return f"pool {name} ({plain(path)})" if name else plain(path)


def marked(path: str, name: str = "") -> Marked:
    """Open what is a pool. ConfigurationError for what is not."""
    said = shown(path, name)
    fds = [_open_top(path, said)]
    try:
        _check(fds[0], said, name)
        fds.append(os.open(MARKER, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fds[0]))
        fds += (handles.open_directory(part, fds[0]) for part in (VOLUMES, IMAGES))
        return Marked(*fds)
    except BaseException as error:
        for fd in fds:
            os.close(fd)
        if isinstance(error, OSError):
            what = plain(str(error.filename or MARKER))
            raise ConfigurationError(
                f"{said}: {what}: {error.strerror}; run as a user that may use it, or put it back"
            ) from error
        raise


def _open_top(path: str, said: str) -> int:
    try:
        return handles.open_directory(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no path"
        raise ConfigurationError(f"{said}: {reason}; name a directory that this user may use") from error


def _check(top: int, said: str, name: str) -> None:
    try:
        marker = load_marker(handles.read(top, MARKER, limits.POOL_RECORD_BYTES_MAX))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{said} is not marked as a pool; is its file system mounted? To make it one: aoe-target pool "
            f"init {name or 'NAME'}"
        ) from error
    except BadRecord as error:
        raise ConfigurationError(f"{said}: {MARKER}: {error}; put back a copy of it") from error
    if marker.kind != DIRECTORY:
        raise ConfigurationError(f"{said} is a pool of kind {plain(marker.kind)}, not {DIRECTORY}")


def lock(fd: int, said: str, patience_s: float = timing.POOL_TURN_S) -> None:
    """Keep every other process from working on a pool, of which `fd` is what all of them lock. PoolError
    names the one that does after `patience_s` (seconds)."""
    deadline = time.monotonic() + patience_s
    while not _is_locked(fd, said):
        if time.monotonic() >= deadline:
            user = locks.holder(fd) or "another process"
            remedy = (
                "wait for it, or, where it is a daemon, ask that: without --config, or with its --socket, too"
            )
            raise PoolError(f"{said} is in use by {user}; {remedy}")
        time.sleep(timing.CONTROL_RETRY_S)


def _is_locked(fd: int, said: str) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            return False
        raise PoolError(
            f"{said} cannot be locked: {error.strerror}; use a file system that has locks"
        ) from error
    return True
