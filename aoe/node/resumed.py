"""A store that this process holds, opened once more for I/O of its own."""

import logging
import os
from pathlib import Path

from aoe.disk import locks
from aoe.disk.device import Batch
from aoe.disk.open import Opening, lock_store, only_reads, open_store
from aoe.disk.opened import Opened
from aoe.disk.syscalls import close_all
from aoe.errors import ConfigurationError
from aoe.node.holds import Busy, Hold
from aoe.printable import plain

log = logging.getLogger("aoe.node")


def has_lives(fd: int, path: Path) -> bool:
    """Whether what is held can be told apart from what does I/O there."""
    try:
        locks.LifeLock(fd).is_free()
    except OSError as error:
        log.warning("%s: its locks go with this process, as others cannot be had: %s", path, error.strerror)
        return False
    return True


def again(path: Path, how: Opening, hold: Hold, batch: Batch) -> Opened:
    """Open what this process holds, by its descriptor: the name may lead to another store by now. Busy while
    an earlier process writes there, ConfigurationError."""
    descriptor = Path(f"/proc/self/fd/{hold.fd}")
    writes = not only_reads(os.fstat(hold.fd), how)
    if hold.read_only and writes:
        _hold_for_writing(path, how, hold)
    lives = hold.apart and writes
    if lives and not hold.is_free():
        raise _busy(path, hold)
    try:
        opened = open_store(descriptor, how._replace(locked=True), batch=batch)
    except ConfigurationError as error:
        raise ConfigurationError(str(error).replace(str(descriptor), str(path))) from error
    if lives:
        _begin(path, opened, hold)
    return opened


def _busy(path: Path, hold: Hold) -> Busy:
    said = f"writes of an earlier process to {plain(str(path))} have not ended; it is served when they have"
    return Busy(said, hold.place.store)


def _hold_for_writing(path: Path, how: Opening, hold: Hold) -> None:
    try:
        lock_store(hold.fd, path, how._replace(apart=hold.apart))
    except BlockingIOError as error:
        raise ConfigurationError(f"{path} is read by another program; stop it, or say read-only") from error
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be locked for writing: {error.strerror}; stop the service, and start it again"
        ) from error
    hold.read_only = False


def _begin(path: Path, opened: Opened, hold: Hold) -> None:
    """Do I/O there from now on. It is closed after an error."""
    try:
        if not hold.begin(opened.store.fd):
            raise _busy(path, hold)
    except BaseException as error:
        close_all([opened.store.fd])
        if isinstance(error, OSError):
            raise ConfigurationError(f"{path} cannot be locked: {error.strerror}") from error
        raise
