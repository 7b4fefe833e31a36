"""What keeps a second writer from a store: flock(2), the locks that QEMU takes and respects, loop devices,
and what an ended process still writes."""

import errno
import fcntl
import hashlib
import logging
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aoe.disk.identity import HERE, Host, raw_text, text_of

log = logging.getLogger("aoe.disk")

_CONSISTENT_READ, _WRITE, _RESIZE = 0, 1, 3
_HELD, _NOT_SHARED = 100, 200
"""QEMU's permissions, and from which byte of a file it locks that of one: a read lock there says that a user
holds it, or lets no other hold it."""

_FLOCK = struct.Struct("hhqqi4x")
_RANGE_MAGICS = frozenset({0x6969, 0x517B, 0xFF534D42, 0xFE534D42, 0x01021997})
"""NFS, SMB and 9p (statfs(2))."""

_LIFE_AT = 1 << 40
_LIVES = 2 + 0xFFFF_FFFF
"""Bytes that processes lock for their lives."""
_HOLD_AT = _LIFE_AT - 1
"""The byte that is locked instead of flock(2)."""

_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

_LOOP_GET_STATUS64 = 0x4C05
_LOOP_INFO = struct.Struct("QQ216x")


class Use(NamedTuple):
    """What a user of a store does with it, and what it lets no other user do meanwhile."""

    held: tuple[int, ...]
    not_shared: tuple[int, ...]


READER = Use((_CONSISTENT_READ,), (_WRITE,))
WRITER = Use((_CONSISTENT_READ, _WRITE, _RESIZE), (_WRITE, _RESIZE))


def flock_is_of_bytes(magic: int) -> bool:
    """Whether flock(2) locks all bytes of a file, on a file system of that magic number: there it excludes
    locks of bytes that another open file description of the same process has."""
    return magic in _RANGE_MAGICS


def take(fd: int, path: Path, *, read_only: bool, is_block: bool, by_byte: bool = False) -> None:
    """Take every lock there is for an open store; of block devices O_EXCL has been one already. `by_byte`: as
    other descriptions will have locks of bytes, one of a byte instead of flock(2).

    BlockingIOError where another program has one that excludes it, OSError where there is not even flock(2).
    """
    if by_byte:
        _ofd(fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK if read_only else fcntl.F_WRLCK, _HOLD_AT)
    elif not is_block:
        fcntl.flock(fd, (fcntl.LOCK_SH if read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    try:
        _lock(fd, READER if read_only else WRITER)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        log.warning(
            "%s: no locks that QEMU respects can be had here (%s); do not use it with QEMU meanwhile",
            path,
            error.strerror,
        )


# QEMU's locks (block/file-posix.c there; F_OFD_SETLK in fcntl(2))


def _lock(fd: int, use: Use) -> None:
    """Lock first, then look, as QEMU does: of two that come at once at least one sees the other."""
    mine = [_HELD + it for it in use.held] + [_NOT_SHARED + it for it in use.not_shared]
    theirs = [_NOT_SHARED + it for it in use.held] + [_HELD + it for it in use.not_shared]
    try:
        for byte in mine:
            _ofd(fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK, byte)
        for byte in theirs:
            if _ofd(fd, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, byte) != fcntl.F_UNLCK:
                raise BlockingIOError(errno.EWOULDBLOCK, "in use")
    except OSError:
        for byte in mine:
            with suppress(OSError):
                _ofd(fd, fcntl.F_OFD_SETLK, fcntl.F_UNLCK, byte)
        raise


def _ofd(fd: int, command: int, kind: int, byte: int, count: int = 1) -> int:
    """A lock on bytes, of an open file description; the kind of what is in its way."""
    asked = _FLOCK.pack(kind, os.SEEK_SET, byte, count, 0)
    try:
        kind, *_ = _FLOCK.unpack(fcntl.fcntl(fd, command, asked))
    except PermissionError as error:  # as some file systems say it
        raise BlockingIOError(errno.EWOULDBLOCK, "in use") from error
    return kind


# What a process that has ended may still have under way

_MACHINE_ID = Path("/etc/machine-id")


def described_anew(fd: int, flags: int) -> int:
    """Another open file description of what `fd` means: its path may lead to another file by now, and locks
    on two nodes of one device do not meet. O_EXCL has been one already. OSError."""
    return os.open(f"/proc/self/fd/{fd}", (flags | os.O_CLOEXEC) & ~os.O_EXCL)


def life_byte(*, shared: bool, machine_id: Path = _MACHINE_ID) -> int:
    """The byte of a store that a process locks for its life; of a store that other hosts serve, too, one for
    each host."""
    if not shared:
        return _LIFE_AT
    told = raw_text(machine_id).strip() or os.uname().nodename
    return _LIFE_AT + 1 + int.from_bytes(hashlib.sha256(told.encode()).digest()[:4], "big")


class LifeLock:
    """A lock of one byte, of each open file description on which a process changes a store, and which no
    other process has (F_OFD_SETLK, fcntl(2)).

    The kernel drops it with the description, which each request under way keeps, those of io_uring too, after
    the process. So when it is free no earlier write is to come. The first description of a process takes it
    as one that writes, which none else can have then; from there on it is as one that reads, and the other
    descriptions of that process join.
    """

    def __init__(self, fd: int, *, shared: bool = False, machine_id: Path = _MACHINE_ID) -> None:
        self._fd = fd
        self._shared = shared
        self._byte = life_byte(shared=shared, machine_id=machine_id)

    def is_free(self) -> bool:
        """Whether no other description has it: not on this host, or (not `shared`) on any. OSError."""
        if self._shared:
            return self._are_free(_LIFE_AT, 1) and self._are_free(self._byte, 1)
        return self._are_free(_LIFE_AT, _LIVES)

    def take(self) -> bool:
        """As the first. False while an earlier process, or what is left of it, has it. The descriptor must be
        open for writing. OSError where there are no locks."""
        try:
            _ofd(self._fd, fcntl.F_OFD_SETLK, fcntl.F_WRLCK, self._byte)
        except BlockingIOError:
            return False
        self.join()
        return True

    def join(self) -> None:
        """As another description of a process that has it. OSError."""
        _ofd(self._fd, fcntl.F_OFD_SETLK, fcntl.F_RDLCK, self._byte)

    def _are_free(self, byte: int, count: int) -> bool:
        return _ofd(self._fd, fcntl.F_OFD_GETLK, fcntl.F_WRLCK, byte, count) == fcntl.F_UNLCK


def is_changed(fd: int) -> bool:
    """Whether an earlier process may still change a store; false where there are no locks to tell."""
    try:
        return not LifeLock(fd).is_free()
    except OSError:
        return False


# Which program has it


def holder(fd: int, host: Host = HERE) -> str:
    """Name and number of a process that has a lock on the file; empty where none can be seen."""
    own = host.proc / str(os.getpid()) / "fd" / str(fd)
    for entry in _descriptors(host):
        process = entry.parent.parent
        if entry != own and _same(entry, fd) and "\nlock:" in raw_text(process / "fdinfo" / entry.name):
            return f"{text_of(process / 'comm')} (process {process.name})"
    return ""


def user_of_device(path: Path, host: Host = HERE) -> str:
    """Why a block device cannot be opened for one user alone; empty where that cannot be seen."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        device = os.fstat(fd).st_rdev
        return _mount_of(device, host) or _holder_of(device, host) or holder(fd, host)
    finally:
        os.close(fd)


def _mount_of(device: int, host: Host) -> str:
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = (line.split() for line in raw_text(host.proc / "self/mountinfo").splitlines())
    return next((f"mounted on {mount[4]}" for mount in mounts if mount[2] == number), "")


def _holder_of(device: int, host: Host) -> str:
    """The device that is made of this one."""
    return next((f"a part of {it.name}" for it in sorted((host.node(device) / "holders").glob("*"))), "")


def _descriptors(host: Host) -> Iterator[Path]:
    for process in host.proc.glob("[0-9]*"):
        try:
            yield from sorted((process / "fd").iterdir())
        except OSError:  # it ended, or is another user's
            continue


def _same(entry: Path, fd: int) -> bool:
    try:
        return os.path.samestat(entry.stat(), os.fstat(fd))
    except OSError:
        return False


# Loop devices


def loop_on(fd: int, read_only: bool, host: Host = HERE) -> str:
    """The loop device that a file is attached to, if one of the two writes; empty where there is none."""
    file = os.fstat(fd)
    for node in _loops(host):
        attached = node / "loop/backing_file"
        if _backs(attached, host.dev / node.name, file) and not (read_only and text_of(node / "ro") == "1"):
            return node.name
    return ""


def _loops(host: Host) -> list[Path]:
    """Those that are attached. A glob would look at every block device, for each store that is opened."""
    block = f"{host.sys}/block"
    try:
        names = sorted(name for name in os.listdir(block) if name.startswith("loop"))  # noqa: PTH208
    except OSError:
        return []
    return [Path(block, name) for name in names if os.access(f"{block}/{name}/loop/backing_file", os.F_OK)]


def user_behind(fd: int, read_only: bool, host: Host = HERE) -> str:
    """Which program has the file of a loop device; empty where none has, or it is no loop device."""
    disk, _ = host.whole(os.fstat(fd).st_rdev)
    try:
        file = os.open(raw_text(disk / "loop/backing_file").rstrip("\n"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        take(file, disk, read_only=read_only, is_block=False)
    except BlockingIOError:
        return holder(file, host) or "another program, such as QEMU"
    except OSError:
        return ""
    finally:
        os.close(file)
    return ""


def _backs(attached: Path, device: Path, file: os.stat_result) -> bool:
    """By device and inode, as the loop device says; by its path where that may not be opened."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        try:
            return os.path.samestat(Path(raw_text(attached).rstrip("\n")).stat(), file)
        except OSError:
            return False
    try:
        number, inode = _LOOP_INFO.unpack(fcntl.ioctl(fd, _LOOP_GET_STATUS64, bytes(_LOOP_INFO.size)))
    except OSError:  # detached meanwhile
        return False
    finally:
        os.close(fd)
    return (_major(number), _minor(number), inode) == (
        os.major(file.st_dev),
        os.minor(file.st_dev),
        file.st_ino,
    )


def _major(number: int) -> int:
    """Of a device number as the kernel hands it out (new_encode_dev)."""
    return number >> 8 & 0xFFF


def _minor(number: int) -> int:
    return number & 0xFF | number >> 12 & 0xFFF00
