"""The page of metrics: it is made in slices, between which the event loop serves, and not too often."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from aoe import timing


class Pages:
    """Makes pages of what `slices` yields; an empty one gives the event loop its turn. The loop makes them
    itself: another thread that runs Python would keep it from serving for longer than a slice, until the
    interpreter is taken from it."""

    def __init__(self, slices: Callable[[], AsyncIterator[bytes]]) -> None:
        self._slices = slices
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[list[bytes]] | None = None
        self._tasks: set[asyncio.Task[list[bytes]]] = set()
        self._rested_s = 0.0

    async def page(self) -> Sequence[bytes]:
        """All of it, as things stand now or later. Those that ask before it is begun share it."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._make())
            self._tasks.add(self._next)
            self._next.add_done_callback(self._tasks.discard)
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        """Make no more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(self) -> list[bytes]:
        async with self._turn:
            await asyncio.sleep(max(0.0, self._rested_s - time.monotonic()))
            self._next = None
            began_s = time.monotonic()
            try:
                return [piece async for piece in self._yielding() if piece]
            finally:
                now_s = time.monotonic()
                rest_s = min(timing.METRICS_REST * (now_s - began_s), timing.METRICS_REST_MAX_S)
                self._rested_s = now_s + rest_s

    async def _yielding(self) -> AsyncIterator[bytes]:
        async for piece in self._slices():
            yield piece
            await asyncio.sleep(0)
