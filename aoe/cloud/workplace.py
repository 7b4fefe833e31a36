"""A directory in which an image is built, of which nothing is left."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_PREFIX = ".aoe-cloud-"


@contextmanager
def workplace(beside: Path) -> Iterator[Path]:
    """A directory in `beside`, which is made where there is none. What a process that was killed has left
    there is removed. OSError."""
    beside.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with _locked(beside):
            for left in beside.glob(f"{_PREFIX}*"):
                _remove_unused(left)
            made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=beside))
            held.callback(shutil.rmtree, made)
            held.enter_context(_locked(made))
        yield made


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fd = _opened(directory)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove_unused(left: Path) -> None:
    """A build that is under way has it locked."""
    with suppress(OSError):
        fd = _opened(left)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
        finally:
            os.close(fd)


def _opened(directory: Path) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
