"""Where the parts of an image are: beside each other, under one name."""

import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aoe.disk.syscalls import rename_new, sync_directory
from aoe.errors import ConfigurationError
from aoe.pool.names import VolumeName
from aoe.printable import plain

LIBRARY = Path("/var/lib/aoe-cloud")
"""Where kernels and initramfs of images are whose roots are volumes."""
RECORD = ".record"


@dataclass(frozen=True, slots=True)
class Place:
    """A path: that of the root where it is a file, and the others with a suffix."""

    base: Path

    @property
    def kernel(self) -> Path:
        """The kernel, as a boot loader takes it."""
        return self._with(".kernel")

    @property
    def initramfs(self) -> Path:
        """What belongs to it."""
        return self._with(".initramfs")

    @property
    def record(self) -> Path:
        """What is written down of it; the last that is made."""
        return self._with(RECORD)

    def _with(self, suffix: str) -> Path:
        return self.base.with_name(self.base.name + suffix)

    def check_free(self, *, with_root: bool) -> None:
        """ConfigurationError where something is there: machines may run from it."""
        paths = (self.kernel, self.initramfs, self.record, *([self.base] if with_root else []))
        for path in paths:
            if os.path.lexists(path):
                raise taken(path)


def of_volume(library: Path, name: VolumeName) -> Place:
    """That of an image whose root is a volume."""
    return Place(library / name.pool / name.volume)


def taken(path: Path) -> ConfigurationError:
    """What is wrong where a name is not free."""
    remedy = "an image is never replaced; choose another name, or remove it"
    return ConfigurationError(f"{plain(str(path))} is there already: {remedy}")


def publish(part: Path, path: Path, done: list[Path]) -> None:
    """Give a file another name, for good, and add that to `done`: no signal comes in between.
    ConfigurationError where it is taken; OSError."""
    _sync(part)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        rename_new(part, path)
        done.append(path)
    except FileExistsError as error:
        raise taken(path) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    sync_directory(path.parent)


def remove(paths: Iterable[Path]) -> None:
    """What an image that is not to be had left; the last first."""
    for path in reversed(list(paths)):
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as opened:
        os.fsync(opened.fileno())
