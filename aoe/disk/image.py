"""A disk in an image: another process serves that as a file, and may end. What it was asked for is asked
again of the next one."""

import asyncio
import errno
import functools
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from aoe import timing
from aoe.disk.file import FileDisk
from aoe.disk.opened import Opened
from aoe.disk.syscalls import close_all
from aoe.disk.threads import aside
from aoe.errors import AoeError, DiskError

T = TypeVar("T")
log = logging.getLogger("aoe.disk")

ENDED = (errno.ENOTCONN, errno.ECONNABORTED)
"""What the kernel says of a file whose FUSE server has ended, also of what was under way."""
Again = Callable[[str], tuple[str, int]]
"""Has an image served again whose process ended; what tells it now, and its descriptor. Blocks. AoeError."""


def _nothing() -> None: ...


class ImageDisk(FileDisk):
    """Requests wait for the next process, without an error (order rule T6 is about a store that failed, and
    this one has not)."""

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        self.lost = opened.lost
        """Whether what an earlier life of the target wrote may be."""
        self.token = opened.image.rpartition(":")[0]
        self._image = opened.image
        self._again: Again | None = None
        self._came = _nothing
        self._coming: asyncio.Task[None] | None = None
        self._old: list[int] = []
        """Descriptors of processes that ended: requests may still be on their way to them."""

    def serve(self, again: Again, came: Callable[[], None]) -> None:
        """From now on, inside the running event loop, `came` is called when there is another process, before
        anything is asked of that."""
        self._again, self._came = again, came

    async def _run(self, call: Callable[[], T]) -> T:
        while True:
            asked = self._image
            try:
                return await super()._run(call)
            except DiskError as error:
                if error.errno not in ENDED or self._again is None:
                    raise
            await self._another(asked, self._again)

    async def _another(self, ended: str, again: Again) -> None:
        """Wait for a process after that one."""
        while self._image == ended:
            if self._closed:
                raise DiskError("closed", 0)
            if self._coming is None or self._coming.done():
                self._coming = asyncio.get_running_loop().create_task(self._come(ended, again))
            await asyncio.wait([self._coming])

    async def _come(self, ended: str, again: Again) -> None:
        said = ""
        while not self._closed:
            try:
                image, fd = await aside(functools.partial(again, ended))
            except (AoeError, OSError) as error:
                if str(error) != said:
                    said = str(error)
                    log.error("an image is not served, and its requests wait: %s", said)
                await asyncio.sleep(timing.IMAGE_AGAIN_S)
                continue
            self._go_on(image, fd)
            return

    def _go_on(self, image: str, fd: int) -> None:
        with self._counting:
            if self._closed:
                close_all([fd])
                return
            self._old.append(self._fd)
            self._fd = fd
        self._image = image
        self.life += 1
        self.store = self.store._replace(fd=fd)
        self._came()

    def let_go(self) -> None:
        """Nothing is on its way to processes that ended, but from threads of this disk."""
        with self._counting:
            if not self._users:
                old, self._old = self._old, []
                close_all(old)

    def _write_from(self, buffer: memoryview, offset: int, durable: bool) -> None:
        """The sync of another process says nothing of it (order rule T6): then it is written again. One that
        fails itself leaves no other in doubt."""
        written = self._fd
        super()._write_from(buffer, offset, False)
        if durable:
            self._sync()
            if self._fd != written:
                raise DiskError("write: what serves the image ended before the sync", offset, errno.ENOTCONN)

    def _is_fatal(self, error: OSError) -> bool:
        return error.errno not in ENDED

    def _release(self) -> None:
        with suppress(DiskError):  # a dead one says so
            super()._release()
        if self._fd < 0:
            old, self._old = self._old, []
            close_all(old)
