"""Changes that wait for disks. One that takes too long goes on by itself, and holds nothing up."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial

from aoe import timing
from aoe.errors import AoeError, DiskHangs, StillHangs
from aoe.node.plan import Key
from aoe.printable import plain

log = logging.getLogger("aoe.node")


class Pending:
    """Of each export one at a time."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    async def do(self, key: Key, path: str, change: Callable[[], Coroutine[None, None, None]]) -> None:
        """Wait for a change of the export at `key`, on the disk at `path`. DiskHangs where it is not done in
        time: then it is done when the disk answers, and nothing else of that export before (StillHangs)."""
        if key in self._tasks:
            raise StillHangs(f"{plain(path)} does not answer yet; it is changed when it does")
        task = asyncio.ensure_future(change())
        try:
            done, _ = await asyncio.wait([task], timeout=timing.DISK_ANSWER_S)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            self._tasks[key] = task
            task.add_done_callback(partial(self._over, key, path))
            wait_s = timing.DISK_ANSWER_S
            raise DiskHangs(f"{plain(path)} has not answered for {wait_s:g} s; it is changed when it does")
        await task

    async def stop(self) -> None:
        """Wait for none any more."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, key: Key, path: str, task: asyncio.Task[None]) -> None:
        del self._tasks[key]
        with suppress(asyncio.CancelledError):
            try:
                task.result()
            except AoeError as error:
                log.error("e%d.%d: %s answers, but was not changed: %s", *key, plain(path), error)
            else:
                log.info("e%d.%d: %s answers, and was changed", *key, plain(path))
