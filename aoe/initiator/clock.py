"""The initiator's clock, and waiting by it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from aoe import timing

now_ns: Callable[[], int] = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
"""It goes on while the machine is suspended, as the servers do."""

OwnTime = Callable[[], float]
"""Seconds in which this process ran, as `Core.own_time_ns` has it."""


class Alarm:
    """Calls `ring` when the own time is `deadline_s`, and what had arrived by then was read."""

    def __init__(self, own_time: OwnTime, deadline_s: float, ring: Callable[[], None]) -> None:
        self._own_time = own_time
        self._deadline_s = deadline_s
        self._ring = ring
        self._wait()

    def cancel(self) -> None:
        """Do not ring."""
        self._timer.cancel()

    def _wait(self) -> None:
        loop, left_s = asyncio.get_running_loop(), self._deadline_s - self._own_time()
        if left_s > 0:
            self._timer = loop.call_later(left_s, self._wait)
        else:
            self._timer = loop.call_later(timing.LAST_LOOK_S, self._ring)


@asynccontextmanager
async def within(seconds: float | None, own_time: OwnTime) -> AsyncIterator[None]:
    """As `asyncio.timeout`, by the own time."""
    async with asyncio.timeout(None) as limit:
        if seconds is None:
            yield
            return
        alarm = Alarm(own_time, own_time() + seconds, lambda: limit.reschedule(0))
        try:
            yield
        finally:
            alarm.cancel()
