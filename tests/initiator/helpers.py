"""Tests that are coroutines, with the initiator's arithmetic in either language."""

import asyncio
import contextvars
import functools
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

import aoe
from aoe.initiator.remote import RemoteDisk

LIMIT_S = 30.0
CORE = contextvars.ContextVar("CORE", default="auto")
"""What `attach` here uses."""

only_python = pytest.mark.only_python
"""For tests that look into the Python one."""


def attach(*addresses: str, **how: Any) -> AbstractAsyncContextManager[RemoteDisk]:
    """As `aoe.attach`, with the arithmetic that the test is about."""
    return aoe.attach(*addresses, **{"engine": CORE.get(), **how})


def limited(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a coroutine as a test, for a bounded time."""

    @functools.wraps(test)
    def run() -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test()

        asyncio.run(bounded())

    return run
