"""The event loop that a command runs in."""

import asyncio
import functools
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aoe.node.seccomp import without_ring

T = TypeVar("T")

_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""What commands hear in a loop."""

_new_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop as _new_loop
except ImportError:  # asyncio's own does all that we ask for, only slower
    _new_loop = asyncio.new_event_loop


def run(command: Coroutine[Any, Any, T], *, ring: bool = True) -> T:
    """Until it is done. Debian 12 has a uvloop that has no `run` of its own. A process that is to confine
    itself wants a loop without a `ring`."""
    before = {number: signal.getsignal(number) for number in _HEARD}
    factory = _new_loop if ring else functools.partial(without_ring, _new_loop)
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(command)
    finally:
        command.close()  # where there is no loop for it
        for number, handler in before.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)  # of a uvloop, one that does nothing would stay
