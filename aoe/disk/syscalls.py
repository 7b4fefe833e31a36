"""The system calls that Python's standard library lacks (fallocate(2), renameat2(2), block device ioctls)."""

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import select
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from aoe import limits

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02
_FALLOC_FL_UNSHARE_RANGE = 0x40

_AT_FDCWD = -100
_RENAME_NOREPLACE = 0x1

_BLKDISCARD = 0x1277
_BLKSSZGET = 0x1268
_BLKPBSZGET = 0x127B
_BLKALIGNOFF = 0x127A

_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP_FLAG_CACHE = 0x04
_FIEMAP_EXTENT_LAST = 0x01
_FIEMAP_EXTENT_SHARED = 0x2000
_FIEMAP_HEAD = struct.Struct("QQIIII")
_FIEMAP_EXTENT = struct.Struct("QQQ16xI12x")
_FICLONE = 0x40049409
_FICLONERANGE = 0x4020940D
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_NOCOW_FL = 0x00800000
_FS_IOC_GETFSUUID = 0x80111500
_AT_EMPTY_PATH = 0x1000
_MAX_HANDLE_SZ = 128

_TMPFS_MAGIC = 0x01021994
_XFS_MAGIC = 0x58465342
_XFS_ENDS_SHARING_SAFELY = (6, 12)
_REMOTE_MAGICS = frozenset({0x65735546, 0x6969, 0xFF534D42, 0xFE534D42, 0x01021997, 0x00C36400})

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class _FileHandle(ctypes.Structure):
    _fields_ = (
        ("bytes", ctypes.c_uint),
        ("type", ctypes.c_int),
        ("handle", ctypes.c_ubyte * _MAX_HANDLE_SZ),
    )


def punch_hole(fd: int, offset: int, length: int) -> None:
    """fallocate(PUNCH_HOLE | KEEP_SIZE); on a block device an unmap that guarantees zeroes. OSError."""
    _fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, length)


def end_sharing(fd: int) -> None:
    """XFS lets no write to a file begin without waiting once that has shared blocks, until it is asked to
    copy some (UNSHARE_RANGE) and finds none in the whole file. Writes wait meanwhile, a microsecond for each
    extent. It does nothing while the page cache has what is not written, and could lose that before Linux
    6.12 (commit 4390f019ad78), so there it is not asked. OSError."""
    if filesystem(fd) == _XFS_MAGIC and _release() >= _XFS_ENDS_SHARING_SAFELY:
        # Behind the end, as a block may be copied, and stay in the page cache, that had a place for its copy
        _fallocate(fd, _FALLOC_FL_UNSHARE_RANGE | _FALLOC_FL_KEEP_SIZE, os.fstat(fd).st_size, 1)


def _release() -> tuple[int, ...]:
    """Of Linux, as (6, 12)."""
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if _libc.fallocate(fd, mode, offset, length):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def discard(fd: int, offset: int, length: int) -> None:
    """ioctl(BLKDISCARD): the content afterwards is up to the device. OSError."""
    fcntl.ioctl(fd, _BLKDISCARD, struct.pack("QQ", offset, length))


def rename_new(old: Path, new: Path) -> None:
    """renameat2(RENAME_NOREPLACE): not over a file that is there, where the file system can tell. OSError."""
    if not _libc.renameat2(_AT_FDCWD, bytes(old), _AT_FDCWD, bytes(new), _RENAME_NOREPLACE):
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code))
    old.rename(new)


def is_memory(fd: int) -> bool:
    """Whether the file lives in memory (tmpfs), so that no access to it waits for a device."""
    return filesystem(fd) == _TMPFS_MAGIC


def is_remote(fd: int) -> bool:
    """Whether another program or host serves the file's system: FUSE, NFS, SMB, 9p, Ceph."""
    return filesystem(fd) in _REMOTE_MAGICS


def filesystem(fd: int) -> int:
    """The magic number of statfs(2), 0 where there is none."""
    buffer = (ctypes.c_ulong * 32)()
    return buffer[0] & 0xFFFFFFFF if _libc.fstatfs(fd, buffer) == 0 else 0


def prepare_reads(fd: int) -> None:
    """Let reads of a file need neither metadata from the disk nor a change of it, where that can be had: its
    extents are loaded (FIEMAP_FLAG_CACHE), and its time of access stays."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, _FS_IOC_FIEMAP, _FIEMAP_HEAD.pack(0, 1, _FIEMAP_FLAG_CACHE, 0, 0, 0))
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NOATIME)


class Extent(NamedTuple):
    """A piece of a file, in bytes; whether other files have the same blocks."""

    start: int
    length: int
    shared: bool


def extents(fd: int) -> Iterator[Extent]:
    """Where a file has blocks, as far as the file system has given them out (FIEMAP). OSError."""
    at, last = 0, False
    while not last:
        found = list(_extents_from(fd, at))
        yield from (extent for extent, _ in found)
        last = not found or found[-1][1]
        at = 0 if last else found[-1][0].start + found[-1][0].length


def _extents_from(fd: int, at: int) -> Iterator[tuple[Extent, bool]]:
    """Some from an offset on, each with whether it is the last one."""
    room = bytearray(_FIEMAP_HEAD.size + limits.EXTENTS_CHUNK * _FIEMAP_EXTENT.size)
    _FIEMAP_HEAD.pack_into(room, 0, at, (1 << 64) - 1 - at, 0, 0, limits.EXTENTS_CHUNK, 0)
    fcntl.ioctl(fd, _FS_IOC_FIEMAP, room)
    _, _, _, count, _, _ = _FIEMAP_HEAD.unpack_from(room)
    for number in range(count):
        place = _FIEMAP_HEAD.size + number * _FIEMAP_EXTENT.size
        start, _, length, flags = _FIEMAP_EXTENT.unpack_from(room, place)
        extent = Extent(start, length, bool(flags & _FIEMAP_EXTENT_SHARED))
        yield extent, bool(flags & _FIEMAP_EXTENT_LAST)


def clone_file(fd: int, of: int) -> None:
    """Let a file have the bytes of another one, whose blocks both share from then on (FICLONE). OSError."""
    fcntl.ioctl(fd, _FICLONE, of)


def clone_range(fd: int, of: int, offset: int, length: int) -> None:
    """The same for some bytes, at the same offset in both (FICLONERANGE). They end at a block of the file
    system, or where both files do. OSError."""
    fcntl.ioctl(fd, _FICLONERANGE, struct.pack("qQQQ", of, offset, length, offset))


def data_from(fd: int, offset: int) -> int:
    """Where a file has the next byte that was written, `offset` itself included; -1: behind it are only
    zeroes. OSError."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return -1
        raise


def write_in_place(fd: int) -> None:
    """Let the blocks of a new, empty file be written where they are, on a file system that writes all others
    elsewhere (chattr +C, btrfs); where there is no such thing, nothing."""
    with contextlib.suppress(OSError):
        _set_flags(fd, _flags(fd) | _FS_NOCOW_FL)


def write_as(fd: int, other: int) -> None:
    """Let those of a new, empty file be written as those of another one: btrfs shares no others."""
    with contextlib.suppress(OSError):
        if _flags(other) & _FS_NOCOW_FL:
            _set_flags(fd, _flags(fd) | _FS_NOCOW_FL)


def _flags(fd: int) -> int:
    (flags,) = struct.unpack("i", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(4)))
    return int(flags)


def _set_flags(fd: int, flags: int) -> None:
    fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("i", flags))


def filesystem_uuid(fd: int) -> bytes:
    """The UUID of the file's filesystem, empty where the kernel does not tell (before 6.9, or remote)."""
    try:
        told = fcntl.ioctl(fd, _FS_IOC_GETFSUUID, bytes(17))
    except OSError:
        return b""
    return told[1 : 1 + told[0]]


def file_handle(fd: int) -> str:
    """What a file is inside its filesystem, whatever its name: inode, generation, subvolume. Empty where the
    filesystem does not tell (name_to_handle_at(2))."""
    found, mount = _FileHandle(_MAX_HANDLE_SZ), ctypes.c_int()
    if _libc.name_to_handle_at(fd, b"", ctypes.byref(found), ctypes.byref(mount), _AT_EMPTY_PATH):
        return ""
    return f"{found.type}:{bytes(found.handle[: found.bytes]).hex()}"


def logical_block(fd: int) -> int:
    """Bytes in the smallest unit the device can address."""
    return _ioctl_int(fd, _BLKSSZGET)


def physical_block(fd: int) -> int:
    """Bytes in the smallest unit the medium can write without reading."""
    return _ioctl_int(fd, _BLKPBSZGET)


def alignment_offset(fd: int) -> int:
    """Bytes by which the device's start is off its medium's grid."""
    return max(0, _ioctl_int(fd, _BLKALIGNOFF))


def _ioctl_int(fd: int, request: int) -> int:
    (value,) = struct.unpack("i", fcntl.ioctl(fd, request, b"\0" * 4))
    return int(value)


def sync_directory(directory: Path) -> None:
    """Put the names in a directory on stable storage (fsync(2)). OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_readable(it: int | socket.socket, within_s: float = 0.0) -> bool:
    """Whether there is something to read, or nothing will come, after so many seconds at most."""
    return bool(readable_of([it if isinstance(it, int) else it.fileno()], within_s))


def readable_of(them: Iterable[int], within_s: float) -> set[int]:
    """The same of several. select(2) would refuse descriptors from 1,024 on."""
    poll = select.poll()
    for fd in them:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(1000 * within_s)}


def close_all(descriptors: Iterable[int]) -> None:
    """Close them, one after the other; they are gone whatever the store of one says to that, as a file does
    whose FUSE server has ended."""
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)


def leave_all_but(*kept: int) -> None:
    """Close every descriptor of this process but those; the standard streams lead nowhere then."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    least = 3
    for fd in sorted(kept):
        os.closerange(least, fd)
        least = fd + 1
    os.closerange(least, os.sysconf("SC_OPEN_MAX"))
