"""How much room the filesystems have that files are served of. One that hangs keeps nothing waiting but the
thread that asks it."""

import asyncio
import os
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from aoe.disk.device import Device
from aoe.disk.file import FileDisk
from aoe.disk.threads import aside
from aoe.errors import NoThread


class Space(NamedTuple):
    """In bytes: what this user may still write, and how large the filesystem is."""

    free: int
    size: int


class Spaces:
    """Asks for it, one thread for each disk beneath."""

    def __init__(self) -> None:
        self._asking: dict[Device, asyncio.Task[dict[FileDisk, Space]]] = {}

    async def look(self, disks: Iterable[FileDisk], patience_s: float) -> Mapping[FileDisk, Space]:
        """Of those that are files and whose filesystem answers in time; one that is late is not asked anew
        before it has answered."""
        of: dict[Device, list[FileDisk]] = defaultdict(list)
        for disk in disks:
            of[disk.device].append(disk)
        for device in of.keys() - self._asking.keys():
            self._asking[device] = asyncio.ensure_future(_asked(of[device]))
        if not self._asking:
            return {}
        done, _ = await asyncio.wait(self._asking.values(), timeout=patience_s)
        answered = [device for device, task in self._asking.items() if task in done]
        found: dict[FileDisk, Space] = {}
        for device in answered:
            found |= self._asking.pop(device).result()
        return found

    def close(self) -> None:
        """Wait for no answer."""
        for task in self._asking.values():
            task.cancel()


async def _asked(disks: Collection[FileDisk]) -> dict[FileDisk, Space]:
    try:
        return await aside(partial(_spaces, disks))
    except NoThread:
        return {}


def _spaces(disks: Collection[FileDisk]) -> dict[FileDisk, Space]:
    """Blocks. A descriptor that was closed meanwhile, and means another file now, is that of a disk
    that is not served any more."""
    known: dict[int, Space] = {}
    found: dict[FileDisk, Space] = {}
    for disk in disks:
        try:
            file = os.fstat(disk.store.fd)
            if not stat.S_ISREG(file.st_mode):
                continue
            if file.st_dev not in known:
                known[file.st_dev] = _space(disk.store.fd)
        except OSError:
            continue
        found[disk] = known[file.st_dev]
    return found


def _space(fd: int) -> Space:
    it = os.fstatvfs(fd)
    return Space(it.f_bavail * it.f_frsize, it.f_blocks * it.f_frsize)
