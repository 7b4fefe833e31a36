"""One daemon for a file and for a state directory: a lock on each (flock(2)), which goes with its process."""

import fcntl
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

from aoe.disk.locks import holder
from aoe.errors import ConfigurationError
from aoe.node.content import FLAGS, check_file, content_of

_NAME = "daemon.lock"
"""In the state directory."""


class Alone:
    """What this daemon alone works on. ConfigurationError where another one does."""

    def __init__(self, opened: Callable[[], int] | None = None) -> None:
        """`opened` opens the file for a process that may not. OSError."""
        self._opened = opened
        self._state = self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, file: Path) -> bytes:
        """What is in a file, up to one byte more than it may have; from then on it is ours, and what had its
        name before is not."""
        try:
            opened = self._opened or partial(_open, file, FLAGS)
            fd = _locked(opened(), file, self._file, check_file)
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"{file} does not exist; write it: man aoe-target.toml has an example"
            ) from error
        except OSError as error:
            raise ConfigurationError(f"{file}: {error.strerror}; name a readable file") from error
        if fd != self._file:
            self._release_file()
            self._file = fd
        try:
            return content_of(fd, file)
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error

    def keep(self, state_dir: Path) -> None:
        """From now on the directory, which is made, is ours."""
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._state = _locked(_open(state_dir / _NAME, os.O_CREAT | os.O_RDWR), state_dir)
        except OSError as error:
            raise ConfigurationError(
                f"cannot keep state in {state_dir}: {error.strerror}; give a writable state-dir"
            ) from error

    def close(self) -> None:
        """Let another daemon have it all."""
        self._release_file()
        if self._state >= 0:
            os.close(self._state)
            self._state = -1

    def _release_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _anything(fd: int, path: Path) -> None: ...


def _locked(fd: int, what: Path, known: int = -1, check: Callable[[int, Path], None] = _anything) -> int:
    """The descriptor, with the lock; `known` instead, where that is the same file. `check` raises for what is
    not to be locked."""
    try:
        check(fd, what)
        if known >= 0 and os.path.samestat(os.fstat(fd), os.fstat(known)):
            os.close(fd)
            return known
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        other = holder(fd) or "another process"
        os.close(fd)
        raise ConfigurationError(
            f"{what} is used by {other} already; stop it, or give this one its own file and state-dir"
        ) from error
    except BaseException:
        os.close(fd)
        raise
    return fd
