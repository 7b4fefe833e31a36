"""A disk on a block device, and what sysfs knows about it."""

import os

from aoe.disk import syscalls
from aoe.disk.file import FileDisk, Store
from aoe.disk.identity import HERE, Host, device_name, number_of, shown_id
from aoe.errors import DiskError


class BlockDisk(FileDisk):
    """A block device. TRIM unmaps with guaranteed zeroes where the device offers that, else discards."""

    def __init__(self, store: Store, host: Host = HERE) -> None:
        super().__init__(store)
        fd = store.fd
        self._logical = syscalls.logical_block(fd)
        self.physical_block = max(syscalls.physical_block(fd), self._logical)
        off_grid = syscalls.alignment_offset(fd)
        self.alignment = (store.base - off_grid) // 512 % (self.physical_block // 512)
        device = os.fstat(fd).st_rdev
        queue = host.whole(device)[0] / "queue"
        self.trim_zeroes = number_of(queue / "write_zeroes_max_bytes") > 0
        self.trims = not store.read_only and number_of(queue / "discard_max_bytes") > 0
        self.identity = shown_id(device, host)
        self.store_name = device_name(device, host)

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
