"""Faults as a wrapper around any disk, for tests."""

import asyncio
import errno
import os
from collections.abc import Container

from aoe.disk.base import Disk
from aoe.errors import DiskError, DiskFailed


class FaultyDisk(Disk):
    """Behaves like `disk` but for the named faults, each of which may be switched at any time.

    `delay_s` slows every request, `bad_offsets` are byte offsets of 512-byte sectors that fail with
    `code`, `hang` (an event that is clear) holds requests back, `sync_fails` makes flush fail.
    """

    def __init__(self, disk: Disk, *, delay_s: float = 0.0, bad_offsets: Container[int] = ()) -> None:
        self._disk = disk
        self.delay_s = delay_s
        self.bad_offsets = bad_offsets
        self.code = errno.EIO
        self.sync_fails = False
        self.hang = asyncio.Event()
        self.hang.set()
        self.size = disk.size
        self.block = disk.block
        self.physical_block = disk.physical_block
        self.alignment = disk.alignment
        self.identity = disk.identity
        self.store_name = disk.store_name
        self.read_only = disk.read_only
        self.trims = disk.trims
        self.alone = disk.alone
        self.trim_zeroes = disk.trim_zeroes

    async def _suffer(self, offset: int, length: int) -> None:
        await self.hang.wait()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        for at in range(offset, offset + length, 512):
            if at in self.bad_offsets:
                raise DiskError(os.strerror(self.code), at, self.code)

    async def read(self, offset: int, length: int) -> bytes:
        await self._suffer(offset, length)
        return await self._disk.read(offset, length)

    async def write(self, offset: int, data: bytes, fua: bool = False) -> None:
        await self._suffer(offset, len(data))
        await self._disk.write(offset, data, fua)

    async def flush(self) -> None:
        await self._suffer(0, 0)
        if self.sync_fails:
            raise DiskFailed("sync failed", 0, self.code)
        await self._disk.flush()

    async def trim(self, offset: int, length: int) -> None:
        await self._suffer(offset, length)
        await self._disk.trim(offset, length)

    async def write_zeroes(self, offset: int, length: int) -> None:
        await self._suffer(offset, length)
        await self._disk.write_zeroes(offset, length)

    def refresh(self) -> None:
        self._disk.refresh()
        self.size = self._disk.size

    async def measure(self) -> None:
        await self._suffer(0, 0)
        await self._disk.measure()
        self.size = self._disk.size

    def close(self) -> None:
        self._disk.close()
