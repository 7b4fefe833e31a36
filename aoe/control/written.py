"""The changes beside the file, where commands of the daemon's owner write them down before they ask."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aoe import limits, timing
from aoe.config import changes
from aoe.config.changes import Change
from aoe.control.place import make
from aoe.disk import whole
from aoe.errors import ConfigurationError


class Written:
    """The list at `path`, which is there from the first change on. Other users can read it only."""

    def __init__(self, path: Path, opened: Callable[[], int] | None = None) -> None:
        """`opened` opens it for a process that may not. OSError."""
        self.path = path
        self.open = opened or self._open
        """Open it, to be read. OSError."""
        self._held = -1

    def _open(self) -> int:
        return os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)

    def read(self) -> tuple[Change, ...]:
        """All of them. ConfigurationError for what is a link, cannot be read, or is damaged."""
        try:
            fd = self.open()
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._cannot(error) from error
        with os.fdopen(fd, "rb") as file:
            return changes.load(file.read(limits.CHANGES_BYTES_MAX + 1), str(self.path))

    def write(self, now: tuple[Change, ...]) -> None:
        """Replace it; with none it goes. ConfigurationError where that cannot be."""
        assert self._held >= 0, "one command at a time"
        text = changes.dump(now)
        fresh = self.path.with_name(f"{self.path.name}.new")
        try:
            if not now:
                self.path.unlink(missing_ok=True)
                return
            whole.replace(self.path, text.encode(), fresh, lambda fd: os.fchmod(fd, 0o644))
        except OSError as error:
            raise self._cannot(error) from error

    @contextmanager
    def held(self, patience_s: float = timing.CONTROL_TURN_S) -> Iterator[None]:
        """Inside, no other command changes it. ConfigurationError names the one that does after `patience_s`
        (seconds), and where the list can be none of this user's alone."""
        self._held = self._lock(time.monotonic() + patience_s)
        try:
            yield
        finally:
            with suppress(OSError):
                if not self.path.exists():
                    self._lock_file.unlink()
            os.close(self._held)
            self._held = -1

    @property
    def _lock_file(self) -> Path:
        """It goes with the list: a command that waited for one that is gone takes the next."""
        return self.path.with_name(f"{self.path.name}.lock")

    def _lock(self, deadline: float) -> int:
        while (fd := self._locked(deadline)) is None:
            pass
        return fd

    def _locked(self, deadline: float) -> int | None:
        """None if the file went meanwhile."""
        try:
            self._make_directory()
            fd = os.open(self._lock_file, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._cannot(error) from error
        try:
            while not _is_locked(fd):
                if time.monotonic() > deadline:
                    pid = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
                    raise ConfigurationError(f"process {pid} changes this target; wait for it, or end it")
                time.sleep(timing.CONTROL_RETRY_S)
            if not os.fstat(fd).st_nlink:
                os.close(fd)
                return None
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _make_directory(self) -> None:
        place = self.path.parent
        make(place)
        found = place.lstat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise ConfigurationError(
                f"{place} can be changed by others than uid {os.geteuid()}; give it to that user, mode 0755"
            )

    def _cannot(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"{self.path}: {error.strerror}; without it no change can be written down, so none is made"
        )


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
