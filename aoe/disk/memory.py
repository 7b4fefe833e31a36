"""A disk in memory, for tests."""

from aoe.disk.base import Disk


class MemoryDisk(Disk):
    """`size` zero bytes. Writes are as durable as the process."""

    trims = True
    trim_zeroes = True

    def __init__(self, size: int, *, read_only: bool = False) -> None:
        self.size = size
        self.read_only = read_only
        self.data = bytearray(size)

    def try_read(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])

    async def read(self, offset: int, length: int) -> bytes:
        return self.try_read(offset, length)

    async def write(self, offset: int, data: bytes, fua: bool = False) -> None:
        self.data[offset : offset + len(data)] = data

    async def flush(self) -> None:
        pass

    async def trim(self, offset: int, length: int) -> None:
        await self.write_zeroes(offset, length)

    async def write_zeroes(self, offset: int, length: int) -> None:
        self.data[offset : offset + length] = bytes(length)

    def refresh(self) -> None:
        self.size = len(self.data)

    def close(self) -> None:
        pass
