"""The event loop that a command runs in."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aoe.node.seccomp import without_ring

T = TypeVar("T")

_new_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop as _new_loop
except ImportError:  # asyncio's own does all that we ask for, only slower
    _new_loop = asyncio.new_event_loop


def run(command: Coroutine[Any, Any, T], *, ring: bool = True) -> T:
    """Until it is done. Debian 12 has a uvloop that has no `run` of its own. A process that is to confine
    itself wants a loop without a `ring`."""
    factory = _new_loop if ring else functools.partial(without_ring, _new_loop)
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(command)
    finally:
        command.close()  # where there is no loop for it
