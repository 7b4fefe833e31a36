"""Waits for what earlier processes had under way in stores: when it has ended these are served, or let go."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aoe import timing
from aoe.disk.threads import aside
from aoe.errors import ConfigurationError
from aoe.node.needs import Opener
from aoe.node.plan import Store


class Lives:
    """Looks whenever there is something to wait for, first often, then once a second, and not while a change
    has the `turn`."""

    def __init__(self, opener: Opener, turn: asyncio.Lock, go_on: Callable[[], Awaitable[None]]) -> None:
        """Call `go_on` when a store that is watched for can be opened."""
        self._opener = opener
        self._turn = turn
        self._go_on = go_on
        self._wanted: frozenset[Store] = frozenset()
        self._pause_s = timing.LIFE_POLL_S
        self._task: asyncio.Task[None] | None = None

    def watch(self, wanted: frozenset[Store]) -> None:
        """For these stores from now on; others that no export has are let go."""
        self._wanted = wanted
        self._pause_s = timing.LIFE_POLL_S
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._look())

    async def stop(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _look(self) -> None:
        with suppress(ConfigurationError):  # the opener has gone, and says so itself
            while await self._waits():
                await asyncio.sleep(self._pause_s)
                self._pause_s = min(1.25 * self._pause_s, timing.ARRIVAL_S)  # late by a quarter at most

    async def _waits(self) -> bool:
        async with self._turn:
            rest = await aside(lambda: self._opener.rest(self._wanted))
        if rest.free:
            await self._go_on()
        return bool(rest.free or rest.waits)
