"""Looks that may hang, each for so long at most."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aoe import timing
from aoe.disk.threads import aside

T = TypeVar("T")


async def soon(look: Awaitable[T], late: T, seconds: float = timing.DOCTOR_LOOK_S) -> T:
    """What it returns, `late` where it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await look
    except TimeoutError:
        return late


async def blocking(look: Callable[[], T], late: T, seconds: float = timing.DOCTOR_LOOK_S) -> T:
    """The same of a call that blocks; one that hangs ends with the process."""
    return await soon(aside(look), late, seconds)
