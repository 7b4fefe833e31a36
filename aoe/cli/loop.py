"""The event loop that a command runs in."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_new_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop as _new_loop
except ImportError:  # asyncio's own does all that we ask for, only slower
    _new_loop = asyncio.new_event_loop


def run(command: Coroutine[Any, Any, T]) -> T:
    """Until it is done. Debian 12 has a uvloop that has no `run` of its own."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(command)
