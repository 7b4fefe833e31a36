"""Asks disks how large they are: one that hangs, as a network filesystem may, holds up nothing."""

import asyncio
import errno
from collections.abc import Iterable

from aoe.disk.base import Disk
from aoe.errors import DiskError


class Measure:
    """Each disk is asked once at a time: on one that hangs, questions would pile up."""

    def __init__(self) -> None:
        self._asked: dict[Disk, asyncio.Task[None]] = {}

    async def ask(self, disks: Iterable[Disk], timeout_s: float) -> dict[Disk, DiskError | None]:
        """Have each look at its size, for at most `timeout_s` seconds; why it did not, where it did not."""
        asked = {disk: self._task(disk) for disk in disks}
        if asked:
            await asyncio.wait(asked.values(), timeout=timeout_s)
        return {disk: _problem(task, timeout_s) for disk, task in asked.items()}

    def _task(self, disk: Disk) -> asyncio.Task[None]:
        if disk not in self._asked:
            self._asked[disk] = task = asyncio.ensure_future(disk.measure())
            task.add_done_callback(lambda _: self._asked.pop(disk, None))
        return self._asked[disk]

    def close(self) -> None:
        """Wait for no answer any more."""
        for task in self._asked.values():
            task.cancel()


def _problem(task: asyncio.Task[None], timeout_s: float) -> DiskError | None:
    if not task.done():
        late = f"size: no answer within {timeout_s:g} s; send SIGHUP again when the disk answers"
        return DiskError(late, 0, errno.ETIMEDOUT)
    if task.cancelled():  # the disk was closed
        return DiskError("size: closed", 0, errno.EBADF)
    error = task.exception()
    if error is not None and not isinstance(error, DiskError):
        raise error
    return error
