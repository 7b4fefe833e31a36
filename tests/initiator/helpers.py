"""Tests that are coroutines."""

import asyncio
import functools
from collections.abc import Awaitable, Callable

LIMIT_S = 30.0


def limited(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a coroutine as a test, for a bounded time."""

    @functools.wraps(test)
    def run() -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test()

        asyncio.run(bounded())

    return run
