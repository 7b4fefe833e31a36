"""The snapshots of the file's schedules, made and pruned in the event loop of the daemon."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

from aoe import timing
from aoe.disk.threads import aside
from aoe.errors import AoeError
from aoe.node.scheduled import wishes_of
from aoe.pool.asked import Wish
from aoe.pool.requests import Cut

Facts = dict[str, Any]
Do = Callable[[str, Wish, str], Awaitable[object]]
"""Does a verb of a pool, by the schedule of a name. AoeError."""
log = logging.getLogger("aoe.node")


class Background:
    """Has something done on a thread again and again, from `start` to `stop`; what fails is logged once."""

    def __init__(self, call: Callable[[], Iterable[Facts]], are_some: Callable[[], bool]) -> None:
        """`call` tells `problem` of each `volume`; `are_some` tells whether there may be any."""
        self._call = call
        self._are_some = are_some
        self._said: frozenset[str] = frozenset()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin now."""
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """What is under way is not waited for."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        while True:
            with suppress(AoeError):
                await self.look()
            await asyncio.sleep(timing.SCHEDULE_LOOK_S)

    async def look(self) -> None:
        """Once. What fails is said once, and tried again at the next look. AoeError."""
        found = await aside(lambda: list(self._call())) if self._are_some() else []
        failures = [text for it in found for text in await self._failures(it)]
        for text in failures:
            if text not in self._said:
                log.error("%s", text)
        self._said = frozenset(failures)

    async def _failures(self, it: Facts) -> list[str]:
        """What failed of one thing that was told."""
        return [f"{it['volume']}: {it['problem']}"] if it["problem"] else []


class Schedules(Background):
    """Asks `dues` now and then what there is to do, and has it done, from `start` until `stop`."""

    def __init__(self, dues: Callable[[], Iterable[Facts]], do: Do, are_some: Callable[[], bool]) -> None:
        """`are_some` tells whether the file has schedules."""
        super().__init__(dues, are_some)
        self._do = do

    async def _failures(self, it: Facts) -> list[str]:
        """What failed of what is due for one volume. Where none could be made, none is pruned; one that
        cannot go, such as one that is served, keeps no other."""
        schedule, pool, volume = f"schedule {it['schedule']}", str(it["pool"]), str(it["volume"])
        where = f"{schedule}: {pool}/{volume}" if volume else f"{schedule}: {pool}"
        failures = [f"{where}: {it['problem']}"] if it["problem"] else []
        for wish in wishes_of(it):
            try:
                await self._do(pool, wish, schedule)
            except AoeError as error:
                failures.append(f"{where}: {error}")
                if isinstance(wish, Cut):
                    break
        return failures
