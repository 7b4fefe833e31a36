"""What is done for many is done for several of them at a time."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def abreast(do: Callable[[T], Awaitable[R]], them: Iterable[T], most: int) -> AsyncGenerator[R]:
    """What `do` returns for each of them, in their order; at most so many are under way at a time. What it
    raises ends all of it."""
    room = asyncio.Semaphore(most)

    async def one(it: T) -> R:
        async with room:
            return await do(it)

    tasks = [asyncio.ensure_future(one(it)) for it in them]
    try:
        for task in tasks:
            yield await task
    finally:
        for task in tasks:
            task.cancel()
