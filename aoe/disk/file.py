"""A disk on a file descriptor: regular files, and what block devices share with them."""

import asyncio
import errno
import functools
import mmap
import os
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Protocol, TypeVar

from aoe import limits, timing
from aoe.disk import syscalls
from aoe.disk.base import Disk
from aoe.disk.device import device_of
from aoe.disk.found import token_of
from aoe.disk.opened import Opened
from aoe.disk.threads import Workers
from aoe.errors import DiskError, DiskFailed, NoThread

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)


class Transfer(Protocol[R_co]):
    """Moves some bytes at an offset of the disk, blocking; both in bytes."""

    def __call__(self, offset: int, length: int, /) -> R_co: ...


class Search:
    """Repeats a failed transfer block by block. `at` is where it has come to: once it ended or was
    stopped, the first byte of the block that fails, or hangs."""

    def __init__(self, transfer: Transfer[object], start: int, end: int, block: int) -> None:
        self.at = start
        self.stopped = False
        self._start = start
        self._end = end
        self._block = block
        self._transfer = transfer

    def run(self) -> None:
        """Blocks; stops at the first failure, or back at the start if there is none any more."""
        while self.at < self._end and not self.stopped:
            step = min(self._block - self.at % self._block, self._end - self.at)
            try:
                self._transfer(self.at, step)
            except DiskError:
                return
            self.at += step
        if self.at >= self._end:
            self.at = self._start


class FileDisk(Disk):
    """A disk on an open file.

    With direct I/O, transfers go through aligned buffers, and odd ends are read, patched and written
    back, which the caller keeps from overlapping by ordering whole blocks. On a shared store odd ends
    are refused: another host may be writing the same block.
    """

    def __init__(self, opened: Opened) -> None:
        self.store = store = opened.store
        self._fd = store.fd
        self.token: Hashable = opened.image or token_of(os.fstat(store.fd))
        """What is the same for all parts of one store."""
        self._base = store.base
        self.direct = store.direct
        self.size = store.size
        self.block = store.block
        self.protected = opened.protected
        """Whether the kernel has it read-only."""
        self.read_only = store.read_only or opened.protected
        self.alone = not (self.read_only or store.shared or opened.remote)
        self.physical_block, self.alignment = opened.physical_block, opened.alignment
        self.trims, self.trim_zeroes = opened.trims, opened.trim_zeroes
        self.identity, self.store_name = opened.identity, opened.store_name
        self.in_memory, self.remote = opened.in_memory, opened.remote
        self.device = device_of(opened.beneath)
        """The disk beneath, which others may use, too."""
        self.failed = False
        self.trust = 0
        """How often it was trusted again."""
        self._instant = not store.direct
        self._searches = 0
        self._syncing = threading.Lock()
        self._counting = threading.Lock()
        self._users = 0
        self._closed = False
        self._local = threading.local()
        self.tail = self._rest() - store.size if store.grows else 0
        """Bytes at the end of the store that make no whole block, and are not served."""
        self._workers = Workers(2 * limits.DISK_WORKERS, "disk")

    # The interface

    def try_read(self, offset: int, length: int) -> bytes | None:
        if not self._instant or not (self.in_memory or self.device.answers):
            return None
        try:
            if self.in_memory:
                data = os.pread(self._fd, length, self._base + offset)
            else:
                buffer = bytearray(length)
                got = os.preadv(self._fd, [buffer], self._base + offset, os.RWF_NOWAIT)
                data = bytes(buffer) if got == length else b""
        except BlockingIOError:
            return None
        except OSError as error:
            self._instant = error.errno != errno.EOPNOTSUPP
            return None
        return data if len(data) == length else None

    async def read(self, offset: int, length: int) -> bytes:
        return await self._located(self._read, offset, length, abandon=True)

    async def write(self, offset: int, data: bytes, fua: bool = False) -> None:
        whole = memoryview(data)

        def write_there(at: int, length: int) -> None:
            self._write(at, whole[at - offset : at - offset + length], fua)

        await self._located(write_there, offset, len(data), abandon=False)

    async def flush(self) -> None:
        await self._run(self._sync)

    async def reopen(self) -> None:
        await self._run(self._trust)

    async def trim(self, offset: int, length: int) -> None:
        await self._run(functools.partial(self._trim, offset, length))

    async def write_zeroes(self, offset: int, length: int) -> None:
        await self._run(functools.partial(self._zero, offset, length))

    def refresh(self) -> None:
        self._resize(self._look())

    async def measure(self) -> None:
        self._resize(await self._run(self._look))

    def allow(self, most: int) -> None:
        """From now on the record of its store says that it has so many bytes: `refresh` takes them up."""
        if self.store.most:
            self.store = self.store._replace(most=max(0, most - self._base))

    @property
    def is_behind(self) -> bool:
        """Whether it has less than its record says."""
        return self.store.grows and self.size + self.tail < self.store.most

    def _look(self) -> int:
        try:
            return self._rest()
        except OSError as error:
            raise DiskError(f"size: {error.strerror}", 0, error.errno or 0) from error

    def _resize(self, rest: int) -> None:
        whole = rest // self.block * self.block
        self.size = whole if self.store.grows else min(self.size, whole)
        self.tail = rest - whole if self.store.grows else 0

    def _rest(self) -> int:
        """Bytes that the store has from where we begin."""
        rest = max(0, os.lseek(self._fd, 0, os.SEEK_END) - self._base)
        return min(rest, self.store.most) if self.store.most else rest

    async def look(self, call: Callable[[int], T]) -> T:
        """What a call returns or raises, on a thread, that has the descriptor of the store to look at it."""
        return await self._run(lambda: call(self._fd))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._workers.close()
        self._release()

    # Where it fails

    async def _run(self, call: Callable[[], T]) -> T:
        self.device.begin()
        return await self._workers.run(functools.partial(self._use, call), self.device.end)

    def _use(self, call: Callable[[], T]) -> T:
        """On a thread: call, but not on a disk that is closed, and keep the descriptor until it is done."""
        with self._counting:
            if self._closed:
                raise DiskError("closed", 0)
            self._users += 1
        try:
            return call()
        finally:
            with self._counting:
                self._users -= 1
            if self._closed:
                with suppress(DiskError):  # what was called for has its own result
                    self._release()

    def _release(self) -> None:
        """The number of a descriptor that a thread still uses must not come to mean another file."""
        with self._counting:
            if self._users or self._fd < 0:
                return
            fd, self._fd = self._fd, -1
        try:
            os.close(fd)
        except OSError as error:
            raise DiskError(f"close: {error.strerror}", 0, error.errno or 0) from error

    async def _located(self, transfer: Transfer[T], offset: int, length: int, *, abandon: bool) -> T:
        """Run a transfer; if it fails within several blocks, find the first block that does.

        Repeating is harmless: the same bytes again, under the same place in the export's order. So a
        write's search is waited for; a read's is abandoned, with its thread, if a block hangs.
        """
        try:
            return await self._run(functools.partial(transfer, offset, length))
        except DiskError as error:
            hopeless = error.errno != errno.EIO or length <= self.block or isinstance(error, DiskFailed)
            if hopeless or self._searches >= limits.DISK_WORKERS:
                error.offset = max(offset, error.offset)
                raise
            search = Search(transfer, max(offset, error.offset), offset + length, self.block)
            self._searches += 1
            running = asyncio.ensure_future(self._look_for(search))
            running.add_done_callback(self._search_ended)
            await asyncio.wait([running], timeout=timing.BAD_SECTOR_SEARCH_S)
            search.stopped = True
            if not abandon:
                await running
            raise DiskError(str(error), search.at, error.errno) from error

    async def _look_for(self, search: Search) -> None:
        """Where no thread can be started for it, the start of the request counts as what fails."""
        with suppress(NoThread):
            await self._run(search.run)

    def _search_ended(self, _: object) -> None:
        self._searches -= 1

    # System calls, on a thread of the pool

    def _read(self, offset: int, length: int) -> bytes:
        if not self.direct:
            buffer = bytearray(length)
            self._read_into(memoryview(buffer), offset, length)
            return bytes(buffer)
        start, end = self._rounded(offset, length)
        aligned = self._aligned(end - start)
        self._read_into(aligned, start, offset + length - start)
        return bytes(aligned[offset - start : offset - start + length])

    def _read_into(self, buffer: memoryview, offset: int, needed: int) -> None:
        done = 0
        while done < needed:
            try:
                got = os.preadv(self._fd, [buffer[done:]], self._base + offset + done)
            except OSError as error:
                raise DiskError(f"read: {error.strerror}", offset + done, error.errno or 0) from error
            if not got:
                raise DiskError("read: the store ends early", offset + done)
            done += got

    def _write(self, offset: int, data: memoryview, durable: bool) -> None:
        self._check_failed(offset)
        if not self.direct:
            self._write_from(data, offset, durable)
            return
        start, end = self._rounded(offset, len(data))
        aligned = self._aligned(end - start)
        if end - start != len(data):
            if self.store.shared:
                raise DiskError("write: smaller than a block of a shared store", offset)
            self._read_into(aligned, start, end - start)
        aligned[offset - start : offset - start + len(data)] = data
        self._write_from(aligned, start, durable)

    def _write_from(self, buffer: memoryview, offset: int, durable: bool) -> None:
        done = 0
        flags = os.RWF_DSYNC if durable and not self.remote else 0
        while done < len(buffer):
            try:
                got = os.pwritev(self._fd, [buffer[done:]], self._base + offset + done, flags)
            except OSError as error:
                # A buffered durable write that fails leaves the page cache in doubt (order rule T6).
                self.failed |= durable and not self.direct and error.errno == errno.EIO
                raise DiskError(f"write: {error.strerror}", offset + done, error.errno or 0) from error
            if not got:
                raise DiskError("write: nothing was stored", offset + done)
            done += got
        if durable and self.remote:  # FUSE syncs no write to a file that its server has opened for direct I/O
            self._sync()
        elif durable and not self.direct:
            # The kernel tells a lost write once: another sync at the same time may have been told instead.
            with self._syncing:
                self._check_failed(offset)

    def _sync(self) -> None:
        with self._syncing:
            self._check_failed(0)
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                if not self._is_fatal(error):
                    raise DiskError(f"sync: {error.strerror}", 0, error.errno or 0) from error
                self.failed = True
                raise DiskFailed(f"sync: {error.strerror}", 0, error.errno or 0) from error

    def _is_fatal(self, error: OSError) -> bool:
        """Whether a sync that failed so leaves it unknown what is stored (order rule T6)."""
        return True

    def _trust(self) -> None:
        """What the page cache has and the store has not is forgotten: the kernel takes it for written."""
        with self._syncing:
            try:
                os.fdatasync(self._fd)
                os.posix_fadvise(self._fd, self._base, self.size, os.POSIX_FADV_DONTNEED)
            except OSError as error:
                raise DiskFailed(f"sync: {error.strerror}", 0, error.errno or 0) from error
            self.trust += 1
            self.failed = False

    def _trim(self, offset: int, length: int) -> None:
        self._check_failed(offset)
        self._give_back(offset, length)

    def _give_back(self, offset: int, length: int) -> None:
        try:
            syscalls.punch_hole(self._fd, self._base + offset, length)
        except OSError as error:
            raise DiskError(f"trim: {error.strerror}", offset, error.errno or 0) from error

    def _zero(self, offset: int, length: int) -> None:
        for at in range(offset, offset + length, limits.ZEROES_CHUNK):
            self._write(at, memoryview(bytes(min(limits.ZEROES_CHUNK, offset + length - at))), False)

    def _check_failed(self, offset: int) -> None:
        if self.failed:
            raise DiskFailed(
                "an earlier sync failed: repair the disk, then reopen it, or stop the target and start it",
                offset,
            )

    def _rounded(self, offset: int, length: int) -> tuple[int, int]:
        return offset // self.block * self.block, -(-(offset + length) // self.block) * self.block

    def _aligned(self, length: int) -> memoryview:
        """A page-aligned buffer of this thread's own."""
        buffer: mmap.mmap | None = getattr(self._local, "buffer", None)
        if buffer is None or len(buffer) < length:
            buffer = self._local.buffer = mmap.mmap(-1, length)
        return memoryview(buffer)[:length]
