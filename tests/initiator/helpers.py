"""Tests that are coroutines, with the initiator's arithmetic in either language."""

import asyncio
import contextvars
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

import aoe
from aoe.initiator.attach import connect
from aoe.initiator.options import Options
from aoe.initiator.path import Address
from aoe.initiator.remote import RemoteDisk
from aoe.link.base import Link
from aoe.timing import Timing

LIMIT_S = 240.0
CORE = contextvars.ContextVar("CORE", default="auto")
"""What `attach` here uses."""

only_python = pytest.mark.only_python
"""For tests that look into the Python one."""


def attach(*addresses: str, **how: Any) -> AbstractAsyncContextManager[RemoteDisk]:
    """As `aoe.attach`, with the arithmetic that the test is about."""
    return aoe.attach(*addresses, **{"engine": CORE.get(), **how})


@asynccontextmanager
async def attach_by(
    timing: Timing, *addresses: Address, link: Sequence[Link], **how: Any
) -> AsyncGenerator[RemoteDisk, None]:
    """As `attach`, by other times."""
    disk = await connect(link, addresses, Options(**how), CORE.get(), timing)
    try:
        yield disk
    finally:
        disk.close()


def limited(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a coroutine as a test, for a bounded time."""

    @functools.wraps(test)
    def run() -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test()

        asyncio.run(bounded())

    return run
