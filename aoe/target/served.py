"""An export with what is behind it: what that is asked to do, and how it is closed."""

from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from aoe import limits
from aoe.disk.base import Disk
from aoe.disk.threads import begin
from aoe.drive.command import Kind, Operation, joined
from aoe.errors import DiskError, NoThread
from aoe.link.base import Link
from aoe.target.export import Export
from aoe.target.notices import not_closed
from aoe.target.records import Record
from aoe.wire import protocol


class Served(NamedTuple):
    """An export, the disk behind it and, if it is to survive a restart, its record."""

    export: Export
    disk: Disk
    record: Record | None = None

    async def carry_out(self, operation: Operation, *, durable: bool) -> bytes:
        """Have the disk do it; what was read. DiskError."""
        disk = self.disk
        if operation.kind in (Kind.READ, Kind.WRITE):
            (extent,) = operation.extents
            offset = extent.lba * protocol.SECTOR
            if operation.kind is Kind.READ:
                return await disk.read(offset, extent.sectors * protocol.SECTOR)
            await disk.write(offset, operation.data, durable)
            return b""
        life = -1
        while life != disk.life:  # a sync says nothing of what an earlier life was asked for (order rule T6)
            life = disk.life
            await self._by_range(operation)
            if operation.kind is not Kind.VERIFY:
                await disk.flush()
        return b""

    async def _by_range(self, operation: Operation) -> None:
        disk = self.disk
        for lba, sectors in joined(operation.extents):
            offset, length = lba * protocol.SECTOR, sectors * protocol.SECTOR
            if operation.kind is Kind.TRIM:
                await disk.trim(offset, length)
            else:
                for at in range(offset, offset + length, limits.VERIFY_CHUNK):
                    await disk.read(at, min(limits.VERIFY_CHUNK, offset + length - at))

    def close(self, *, may_hang: bool = False) -> None:
        """Give disk and record back. Where requests hang in the disk, closing it may hang, too."""
        if may_hang:
            with suppress(NoThread):  # the process ends, and with it what the disk has
                begin(self._close_disk, "close")
        else:
            self._close_disk()
        if self.record is not None:
            self.record.close()

    def _close_disk(self) -> None:
        try:
            self.disk.close()
        except DiskError as error:
            not_closed(self.export, error)


def release(disks: Iterable[Disk], links: Iterable[Link]) -> None:
    """Close what was opened for nothing, whatever it says to that."""
    for disk in disks:
        with suppress(DiskError):
            disk.close()
    for link in links:
        link.close()
