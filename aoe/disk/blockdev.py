"""A disk on a block device."""

from aoe.disk import syscalls
from aoe.disk.file import FileDisk
from aoe.disk.opened import Opened
from aoe.errors import DiskError


class BlockDisk(FileDisk):
    """A block device. TRIM unmaps with guaranteed zeroes where the device offers that, else discards."""

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        self._logical = opened.logical

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
