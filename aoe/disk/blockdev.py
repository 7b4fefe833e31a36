"""A disk on a block device, and what sysfs knows about it."""

import os
from pathlib import Path

from aoe.disk import syscalls
from aoe.disk.file import FileDisk, Store
from aoe.errors import DiskError


class BlockDisk(FileDisk):
    """A block device. TRIM unmaps with guaranteed zeroes where the device offers that, else discards."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        fd = store.fd
        self._logical = syscalls.logical_block(fd)
        self.physical_block = max(syscalls.physical_block(fd), self._logical)
        off_grid = syscalls.alignment_offset(fd)
        self.alignment = (store.base - off_grid) // 512 % (self.physical_block // 512)
        queue = _queue(fd)
        self.trim_zeroes = _number(queue / "write_zeroes_max_bytes") > 0
        self.trims = not store.read_only and _number(queue / "discard_max_bytes") > 0
        self.identity = _identity(fd)

    def _give_back(self, offset: int, length: int) -> None:
        start = -(-(self._base + offset) // self._logical) * self._logical
        end = (self._base + offset + length) // self._logical * self._logical
        if not self.trim_zeroes:
            if start < end:
                self._unmap(start, end)
            return
        if start >= end:
            self._zero(offset, length)
            return
        self._unmap(start, end)
        self._zero(offset, start - self._base - offset)
        self._zero(end - self._base, self._base + offset + length - end)

    def _unmap(self, start: int, end: int) -> None:
        call = syscalls.punch_hole if self.trim_zeroes else syscalls.discard
        try:
            call(self._fd, start, end - start)
        except OSError as error:
            raise DiskError(f"trim: {error.strerror}", start - self._base, error.errno or 0) from error


def _sysfs(fd: int) -> Path:
    device = os.fstat(fd).st_rdev
    return Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()


def _queue(fd: int) -> Path:
    """The queue directory: a partition has its disk's."""
    node = _sysfs(fd)
    return node / "queue" if (node / "queue").is_dir() else node.parent / "queue"


def _identity(fd: int) -> str | None:
    """The device's own id: device-mapper and md know a UUID, disks a WWID or a serial."""
    node = _sysfs(fd)
    part = _text(node / "partition")
    disk = node.parent if part else node
    for name in ("dm/uuid", "md/uuid", "wwid", "device/wwid", "serial", "device/serial"):
        found = _text(disk / name)
        if found:
            return f"{found}-{part}" if part else found
    return None


def _text(path: Path) -> str:
    try:
        return " ".join(path.read_text().split())
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdigit() else 0
