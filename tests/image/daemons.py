"""Which process serves an image."""

import os
import signal
from contextlib import suppress
from pathlib import Path

from tests.support.waiting import wait_for


def daemon_of(path: Path) -> int:
    """The number of the qemu-storage-daemon that has a file open; 0: none."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_one = (process / "comm").read_text().startswith("qemu-storage")
            if is_one and any(_is_of(it, path) for it in (process / "fd").iterdir()):
                return int(process.name)
    return 0


def _is_of(fd: Path, path: Path) -> bool:
    with suppress(OSError):  # it was closed meanwhile
        return fd.samefile(path)
    return False


def kill_daemon(path: Path) -> int:
    """Of an image; its number."""
    killed = wait_for(lambda: daemon_of(path))
    os.kill(killed, signal.SIGKILL)
    return killed
