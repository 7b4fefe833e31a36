"""Files that are whole, or are not there."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aoe.disk.syscalls import sync_directory


def _as_made(_: int) -> None: ...


def make(
    file: Path,
    data: bytes,
    mode: int = 0o600,
    dress: Callable[[int], None] = _as_made,
    *,
    lasting: bool = True,
) -> None:
    """A new file, where there is no such name. `dress` gives it owner and mode, before there is something in
    it; with `lasting` it is on stable storage when this returns. OSError: then it is not there."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(file, flags, mode)
    try:
        with os.fdopen(fd, "wb") as opened:
            dress(fd)
            opened.write(data)
            opened.flush()
            if lasting:
                os.fsync(fd)
    except BaseException:
        with suppress(OSError):
            file.unlink()
        raise


def replace(
    file: Path, data: bytes, fresh: Path, dress: Callable[[int], None] = _as_made, *, lasting: bool = True
) -> None:
    """Another file under its name, by way of `fresh`, which may be left of a process that is dead. A link is
    replaced, and not followed; but for `dress` only its owner can read it. OSError: then it is as it was."""
    exchange(file, data, fresh, dress, lasting=lasting)
    if lasting:
        sync_directory(file.parent)


def exchange(
    file: Path, data: bytes, fresh: Path, dress: Callable[[int], None] = _as_made, *, lasting: bool = True
) -> None:
    """The same, but the name may still mean the old one after a crash, until its directory is synced."""
    fresh.unlink(missing_ok=True)
    make(fresh, data, dress=dress, lasting=lasting)
    try:
        fresh.replace(file)
    except OSError:
        with suppress(OSError):
            fresh.unlink()
        raise
