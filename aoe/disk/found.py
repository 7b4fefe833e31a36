"""What this host says of a store that is open: sysfs, udev, and the descriptor itself."""

import os
import stat

from aoe.disk import syscalls
from aoe.disk.device import Batch, beneath
from aoe.disk.identity import Host, device_name, file_name, number_of, shown_id
from aoe.disk.opened import Beneath, Opened, Store

_FILE_BLOCK = 4096
"""Of what a file lies on, bytes: nearly every file system's."""


def token_of(found: os.stat_result) -> tuple[object, ...]:
    """What tells a store from others here: the number of a block device, file system and inode of a file."""
    return ("device", found.st_rdev) if stat.S_ISBLK(found.st_mode) else (found.st_dev, found.st_ino)


def token_at(place: str) -> tuple[object, ...] | None:
    """Of what a path leads to; None where there is no disk."""
    try:
        found = os.stat(place)  # noqa: PTH116 -- of a thousand paths, a Path each takes three times as long
    except (OSError, ValueError):
        return None
    return token_of(found) if stat.S_ISREG(found.st_mode) or stat.S_ISBLK(found.st_mode) else None


def beneath_file(fd: int) -> Beneath:
    """The disk that a regular file lies on."""
    return beneath(os.fstat(fd).st_dev)


def file_facts(store: Store, host: Host, batch: Batch) -> Opened:
    """Of a regular file; its reads are prepared."""
    syscalls.prepare_reads(store.fd)
    punches = not store.read_only and _can_punch(store.fd)
    return Opened(
        store,
        batch.beneath(os.fstat(store.fd).st_dev, host),
        physical_block=_FILE_BLOCK,
        alignment=store.base % _FILE_BLOCK // 512,
        trims=punches,
        trim_zeroes=punches,
        in_memory=not store.direct and syscalls.is_memory(store.fd),
        remote=syscalls.is_remote(store.fd),
        store_name=file_name(store.fd, host),
    )


def device_facts(store: Store, host: Host, batch: Batch) -> Opened:
    """Of a block device."""
    device = os.fstat(store.fd).st_rdev
    queue = host.whole(device)[0] / "queue"
    logical = syscalls.logical_block(store.fd)
    physical = max(syscalls.physical_block(store.fd), logical)
    off_grid = syscalls.alignment_offset(store.fd)
    return Opened(
        store,
        batch.beneath(device, host),
        logical=logical,
        physical_block=physical,
        alignment=(store.base - off_grid) // 512 % (physical // 512),
        protected=is_protected(device, host),
        trims=not store.read_only and number_of(queue / "discard_max_bytes") > 0,
        trim_zeroes=number_of(queue / "write_zeroes_max_bytes") > 0,
        identity=shown_id(device, host),
        store_name=device_name(device, host),
    )


def is_protected(device: int, host: Host) -> bool:
    """Whether the kernel has a block device read-only: by `blockdev --setro`, or as its medium is."""
    return number_of(host.node(device) / "ro") > 0


def _can_punch(fd: int) -> bool:
    """Try it where it cannot hurt: behind the end."""
    end = os.lseek(fd, 0, os.SEEK_END)
    try:
        syscalls.punch_hole(fd, -(-end // 4096) * 4096, 4096)
    except OSError:
        return False
    return True
