"""From a path to a disk: which kind, how it is opened and locked, and what is wrong where it can't be."""

import errno
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from aoe import timing
from aoe.disk import locks, syscalls
from aoe.disk.blockdev import BlockDisk
from aoe.disk.device import Batch
from aoe.disk.file import FileDisk
from aoe.disk.found import device_facts, file_facts, is_protected
from aoe.disk.identity import HERE, Host
from aoe.disk.image import ImageDisk
from aoe.disk.opened import Opened, Store
from aoe.errors import ConfigurationError, DiskError
from aoe.wire import protocol

T = TypeVar("T")
_PROBE_BLOCKS = (512, 1024, 2048, 4096)
_CUT_SHORT = "it was cut short: put its end back, as from a snapshot"
_IN_USE = (errno.EBUSY, errno.EWOULDBLOCK)


class Opening(NamedTuple):
    """How a backing store is to be opened; `direct` None means block devices direct, files buffered.

    `offset` and `length` are in 512-byte sectors; a `length` of None is the rest. A file with fewer bytes
    than `at_least` is enlarged to that. `size` is what a record says of the store, in bytes: no more of it is
    served, and less is an error. `locked`: this process has its locks already; `apart`: what is opened has
    them, and I/O is done on other open file descriptions. What is not `raw` is an image in another
    `format` (`aoe.image`), which a key in `key_file` may open.
    """

    read_only: bool = False
    direct: bool | None = None
    shared: bool = False
    offset: int = 0
    length: int | None = None
    lock_wait_s: float = timing.LOCK_WAIT_S
    at_least: int = 0
    size: int | None = None
    locked: bool = False
    apart: bool = False
    format: str = "raw"
    key_file: str | None = None

    @property
    def part(self) -> str:
        """What tells a part of a store, which is another disk, from the whole, where it is empty."""
        return "" if not self.offset and self.length is None else f"@{self.offset}+{self.length or ''}"


def open_disk(path: Path, how: Opening = Opening(), host: Host = HERE) -> FileDisk:  # noqa: B008
    """Open and lock `path`; ConfigurationError says in one line what is wrong and what to do."""
    return disk_of(open_store(path, how, host))


def disk_of(opened: Opened) -> FileDisk:
    """The disk on what this process opened, or another one sent; the descriptor is the disk's from now on."""
    if opened.image:
        return ImageDisk(opened)
    return BlockDisk(opened) if opened.is_block else FileDisk(opened)


def open_store(
    path: Path,
    how: Opening = Opening(),  # noqa: B008
    host: Host = HERE,
    batch: Batch | None = None,
) -> Opened:
    """As `open_disk`, but only what a disk is made of; perhaps as one of a batch."""
    batch = batch or Batch()

    def found(store: Store, is_block: bool) -> Opened:
        facts = (device_facts if is_block else file_facts)(store, host, batch)
        return facts._replace(store_name=facts.store_name.part(how.part))

    return _opened(path, how, host, found)


def try_store(path: Path, how: Opening, host: Host = HERE) -> Store:
    """What `open_store` would open. It is locked for a moment, and closed again; nothing of it is changed, as
    its times would be by the search for its facts. ConfigurationError as for `open_disk`."""
    store = _opened(path, how, host, lambda store, _: store)
    os.close(store.fd)
    return store


def hold_store(path: Path, how: Opening, host: Host = HERE) -> int:
    """A descriptor that only has the locks of a store: of one that is `shared` none. ConfigurationError."""
    with _disk(path) as disk:
        how = how._replace(apart=True, read_only=only_reads(disk.found, how, host))
        return _open(path, disk, how, False, host)


def only_reads(found: os.stat_result, how: Opening, host: Host = HERE) -> bool:
    """Whether it is opened for reading only: asked for so, or a block device that the kernel protects."""
    return how.read_only or (stat.S_ISBLK(found.st_mode) and is_protected(found.st_rdev, host))


def lock_store(fd: int, path: Path, how: Opening) -> None:
    """Take its locks, as `locks.take`. BlockingIOError also where an earlier process may still change what
    I/O is to be done on, OSError."""
    is_block = stat.S_ISBLK(os.fstat(fd).st_mode)
    by_byte = how.apart and not is_block and locks.flock_is_of_bytes(syscalls.filesystem(fd))
    locks.take(fd, path, read_only=how.read_only, is_block=is_block, by_byte=by_byte)
    if not how.apart and not how.read_only and locks.is_changed(fd):
        raise BlockingIOError(errno.EWOULDBLOCK, "writes of an earlier process have not ended")


class _Disk(NamedTuple):
    """A regular file or a block device, by a descriptor that is for nothing but to open it."""

    fd: int
    found: os.stat_result

    @property
    def is_block(self) -> bool:
        return stat.S_ISBLK(self.found.st_mode)

    def open(self, flags: int) -> int:
        """What was judged, whatever has its name by now. OSError."""
        return os.open(f"/proc/self/fd/{self.fd}", flags)


@contextmanager
def _disk(path: Path) -> Iterator[_Disk]:
    """What a path leads to now; what is no disk is refused, and not even opened: a pipe would wait."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: {error.strerror}; name an existing file or block device"
        ) from error
    try:
        found = os.fstat(fd)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode)):
            raise ConfigurationError(f"{path} is not a disk; name a regular file or a block device")
        yield _Disk(fd, found)
    finally:
        os.close(fd)


def _opened(path: Path, how: Opening, host: Host, found: Callable[[Store, bool], T]) -> T:
    """What is `found` about an open and locked store. It is closed after an error."""
    with _disk(path) as disk:
        is_block = disk.is_block
        direct = how.shared or (is_block if how.direct is None else how.direct)
        read_only = only_reads(disk.found, how, host)
        fd = _open(path, disk, how._replace(read_only=read_only), direct, host)
    try:
        if not is_block:
            _enlarge(fd, path, how.at_least)
        return found(store_on(fd, path, how, is_block=is_block, direct=direct), is_block)
    except BaseException as error:
        with suppress(OSError):
            os.close(fd)
        if isinstance(error, OSError):
            raise ConfigurationError(_open_problem(path, error, direct)) from error
        raise


def _open(path: Path, disk: _Disk, how: Opening, direct: bool, host: Host) -> int:
    flags = os.O_CLOEXEC | (os.O_RDONLY if how.read_only else os.O_RDWR)
    flags |= os.O_DIRECT if direct else 0
    takes_locks = not (how.shared or how.locked)
    flags |= os.O_EXCL if disk.is_block and takes_locks else 0
    try:
        fd = _patiently(lambda: disk.open(flags), how.lock_wait_s)
    except OSError as error:
        if error.errno in _IN_USE:
            user = locks.user_of_device(path, host) or "mounted, or used by another process"
            raise ConfigurationError(f"{path} is in use ({user}); stop it, or say --shared") from error
        raise ConfigurationError(_open_problem(path, error, direct)) from error
    try:
        if takes_locks:
            _lock(fd, path, how, disk.is_block, host)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock(fd: int, path: Path, how: Opening, is_block: bool, host: Host) -> None:
    try:
        _patiently(lambda: lock_store(fd, path, how), how.lock_wait_s)
    except BlockingIOError as error:
        holder = locks.holder(fd, host) or "another program, such as QEMU"
        raise ConfigurationError(f"{path} is in use by {holder}; stop it, or say --shared") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be locked: {error.strerror}; say --shared") from error
    if is_block:
        _check_file_behind(fd, path, how, host)
    elif loop := locks.loop_on(fd, how.read_only, host):
        raise ConfigurationError(
            f"{path} is in use by {loop}, which may be mounted; detach it: losetup --detach /dev/{loop}"
        )


def _enlarge(fd: int, path: Path, size: int) -> None:
    if os.lseek(fd, 0, os.SEEK_END) >= size:
        return
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        message = f"{path}: {error.strerror}; it cannot have {size} bytes"
        raise DiskError(message, size, error.errno or 0) from error


def _check_file_behind(fd: int, path: Path, how: Opening, host: Host) -> None:
    user = locks.user_behind(fd, how.read_only, host)
    if user:
        raise ConfigurationError(f"the file behind {path} is in use by {user}; stop it, or say --shared")


def _patiently(call: Callable[[], int | None], seconds: float) -> int:
    """Repeat while the store is in use: a restarted target waits for the old one to be gone."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call() or 0
        except OSError as error:
            if error.errno not in _IN_USE or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _open_problem(path: Path, error: OSError, direct: bool) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path}: permission denied; give this user access to it, or say --read-only"
    if error.errno == errno.EROFS:
        return f"{path} is on a read-only file system; say --read-only"
    if error.errno == errno.EINVAL and direct:
        return f"{path} cannot be opened for direct I/O; say --buffered (not possible with --shared)"
    if error.errno in (errno.EINVAL, errno.ESPIPE):
        return f"{path} cannot be used as a disk; name another file or block device"
    return f"{path}: {error.strerror}"


def store_on(fd: int, path: Path, how: Opening, *, is_block: bool, direct: bool) -> Store:
    """The part of what is open there that is to be served. ConfigurationError, OSError."""
    block = protocol.SECTOR
    if direct:
        block = syscalls.logical_block(fd) if is_block else _direct_block(fd, path)
    base = how.offset * protocol.SECTOR
    end = os.lseek(fd, 0, os.SEEK_END)
    if how.size is not None and end < how.size:
        raise ConfigurationError(f"{path} has {end} bytes, fewer than its disk of {how.size}; {_CUT_SHORT}")
    rest = (end if how.size is None else how.size) - base
    if rest < block:
        raise ConfigurationError(
            f"{path} holds no whole sector from --offset {how.offset} on; make it larger"
        )
    size = rest // block * block if how.length is None else how.length * protocol.SECTOR
    if not 0 < size <= rest:
        raise ConfigurationError(
            f"{path} has {rest // protocol.SECTOR} sectors there, not --length {how.length}"
        )
    if base % block or size % block:
        raise ConfigurationError(f"{path}: direct I/O needs --offset and --length in steps of {block // 512}")
    return Store(
        fd,
        base,
        size,
        block,
        direct,
        how.read_only,
        how.shared,
        grows=how.length is None,
        most=max(0, (how.size or 0) - base),
    )


def _direct_block(fd: int, path: Path) -> int:
    """The alignment that direct I/O on a file needs: the smallest that a read gets away with."""
    with mmap.mmap(-1, _PROBE_BLOCKS[-1]) as buffer, memoryview(buffer) as view:
        for block in _PROBE_BLOCKS:
            with view[:block] as part:
                try:
                    os.preadv(fd, [part], 0)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise ConfigurationError(f"{path}: {error.strerror}") from error
                else:
                    return block
    raise ConfigurationError(f"{path} cannot be used for direct I/O; say --buffered")
