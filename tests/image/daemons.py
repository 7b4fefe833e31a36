"""Which process serves an image."""

from contextlib import suppress
from pathlib import Path


def daemon_of(path: Path) -> int:
    """The number of the qemu-storage-daemon that has a file open; 0: none."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_one = (process / "comm").read_text().startswith("qemu-storage")
            if is_one and any(it.samefile(path) for it in (process / "fd").iterdir() if it.exists()):
                return int(process.name)
    return 0
