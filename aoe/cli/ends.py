"""The two ends of a copy: disks at addresses, local files and devices, standard input and output.

A text with a `/` is always a path. Another one that looks like an address has to be one.
"""

import errno
import os
import re
import stat
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from aoe.disk import syscalls
from aoe.disk.base import Disk
from aoe.disk.file import FileDisk
from aoe.disk.open import Opening, open_disk
from aoe.errors import ConfigurationError, DiskError
from aoe.wire import protocol
from aoe.wire.address import parse_address

T = TypeVar("T")
_ADDRESS = re.compile(r"e[0-9]+\.[0-9]+")
_NEARLY = re.compile(r"\s*(?:[eE]\s*[0-9]+(?:[.,:;_\s-]+[0-9]*)*|[0-9]+[.,:][0-9]+)\s*")
_PARTIAL = ".partial"
_DEVICES = Path("/dev")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_AT_ONCE = Opening(lock_wait_s=0)


class Addresses(NamedTuple):
    """A disk behind AoE, as it was typed."""

    typed: str

    @property
    def each(self) -> list[str]:
        """Its addresses."""
        return self.typed.split(",")


class Standard(NamedTuple):
    """Standard input, or output."""


Named = Addresses | Path | Standard


def named(text: str) -> Named:
    """What an end of a copy names; ConfigurationError for what is nearly an address."""
    if text == "-":
        return Standard()
    if "/" in text:
        return Path(text)
    words = text.split(",")
    if all(_ADDRESS.fullmatch(word) for word in words):
        for word in words:
            parse_address(word)
        return Addresses(text)
    if any(map(_NEARLY.fullmatch, [text, *words])):
        numbers = re.findall("[0-9]+", text)
        meant = "e{}.{}".format(*numbers) if len(numbers) == 2 else "e0.0,e1.0"
        raise ConfigurationError(
            f"{text!r} is not an address; write it as {meant}, or as {'./' + text!r} if it is a file"
        )
    return Path(text)


class End:
    """A disk with the name that a failure of it is said under."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.name = name
        self.disk = disk
        self.began = False
        """Whether anything may have been written."""

    async def read_into(self, at: int, buffer: bytearray) -> None:
        """Fill it from there."""
        await self._named(self.disk.read_into(at, buffer))

    async def write(self, at: int, data: bytes) -> None:
        """Store it there."""
        self.began = True
        await self._named(self.disk.write(at, data))

    async def clear(self, at: int, length: int) -> None:
        """Make the range read as zeroes, as a hole where the disk has holes."""
        self.began = True
        clear = self.disk.trim if self.disk.trims and self.disk.trim_zeroes else self.disk.write_zeroes
        await self._named(clear(at, length))

    async def flush(self) -> None:
        """Put it on stable storage."""
        await self._named(self.disk.flush())

    async def _named(self, call: Awaitable[T]) -> T:
        try:
            return await call
        except DiskError as error:
            if not isinstance(self.disk, FileDisk):
                raise
            raise DiskError(f"{self.name}: {error}", error.offset, error.errno) from error


# Local files


def check_source(path: Path) -> None:
    """ConfigurationError for a file that no disk can be like."""
    if path.is_file() and path.stat().st_size % protocol.SECTOR:
        raise ConfigurationError(
            f"{path} does not end at a sector; a multiple of {protocol.SECTOR} bytes is needed"
        )


def check_destination(path: Path) -> bool:
    """Whether it has to be made. ConfigurationError where that would not be what was meant."""
    if path.is_file() or path.is_block_device():
        return False
    if path.exists():
        raise ConfigurationError(f"{path} is not a file or block device; `-` is standard output")
    if path.is_symlink():
        raise ConfigurationError(f"{path} is a link to {path.readlink()}, which is not there")
    if not path.parent.is_dir():
        raise ConfigurationError(f"{path}: there is no directory {path.parent}; name a file that can be made")
    home = path.parent.resolve()
    if home.is_relative_to(_DEVICES) and home.stat().st_dev == _DEVICES.stat().st_dev:
        raise ConfigurationError(f"{path}: there is no such device")
    return True


@asynccontextmanager
async def source_file(path: Path) -> AsyncIterator[End]:
    """A file or device to read."""
    disk = open_disk(path, _AT_ONCE._replace(read_only=True))
    try:
        yield End(str(path), disk)
    finally:
        disk.close()


@asynccontextmanager
async def new_file(path: Path, size: int) -> AsyncIterator[End]:
    """A file that is there only when all went well; until then it is PATH.partial."""
    partial = path.with_name(path.name + _PARTIAL)
    _create(partial, size)
    try:
        disk = open_disk(partial, _AT_ONCE)
        try:
            yield End(str(path), disk)
            _publish(disk, partial, path)
        finally:
            disk.close()
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _create(partial: Path, size: int) -> None:
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError as error:
        raise ConfigurationError(
            f"{partial} was left by a copy that failed or still runs; remove it, or wait"
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise _failure(partial, error) from error
        raise ConfigurationError(f"{partial}: {error.strerror}; name a file that can be made") from error
    try:
        os.ftruncate(descriptor, size)
    except OSError as error:
        partial.unlink()
        raise _failure(partial, error) from error
    finally:
        os.close(descriptor)


def _failure(path: Path, error: OSError) -> DiskError:
    return DiskError(f"{path}: {error.strerror}", 0, error.errno or 0)


def _publish(disk: FileDisk, partial: Path, path: Path) -> None:
    """Give the file its name, for good (rename(2): what is renamed is durable with its directory)."""
    try:
        os.fsync(disk.store.fd)
        syscalls.rename_new(partial, path)
        syscalls.sync_directory(path.parent)
    except OSError as error:
        raise _failure(path, error) from error


@asynccontextmanager
async def old_file(path: Path, size: int) -> AsyncIterator[End]:
    """What is there already, written in place; a file has `size` bytes in the end, if all went well."""
    before = path.stat().st_size
    disk = open_disk(path, _AT_ONCE._replace(at_least=size))
    end = End(str(path), disk)
    try:
        yield end
        _cut(path, disk, size)
    except BaseException:
        if not end.began:
            _cut(path, disk, before)  # as it was before it was enlarged
        raise
    finally:
        disk.close()


def _cut(path: Path, disk: FileDisk, size: int) -> None:
    facts = os.fstat(disk.store.fd)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size == size:
        return
    try:
        os.ftruncate(disk.store.fd, size)
        os.fsync(disk.store.fd)
    except OSError as error:
        raise _failure(path, error) from error


def excess(end: End, size: int) -> int:
    """Bytes that a disk or device has behind what was copied, and keeps; a file is cut."""
    is_file = isinstance(end.disk, FileDisk) and stat.S_ISREG(os.fstat(end.disk.store.fd).st_mode)
    return 0 if is_file else end.disk.size - size


def forget_cached(end: End) -> None:
    """Have what is read next come from the store, as far as the kernel lets it (posix_fadvise(2))."""
    if isinstance(end.disk, FileDisk):
        os.posix_fadvise(end.disk.store.fd, 0, 0, os.POSIX_FADV_DONTNEED)


def is_partly_new(end: End, error: BaseException) -> None:
    """Have an error say so, of something that was there before."""
    if end.began:
        error.add_note(f"{end.name} is now partly new")
