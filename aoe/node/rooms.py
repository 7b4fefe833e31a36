"""How full the pools are: asked now and then, and when something was changed there."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from aoe import timing
from aoe.disk.threads import aside
from aoe.errors import AoeError, PoolError
from aoe.node.pools import Pools
from aoe.node.status import PoolStatus
from aoe.pool.figures import figures

log = logging.getLogger("aoe.node")

Facts = dict[str, Any]


def rooms(pools: Pools) -> Iterator[Facts]:
    """Of each pool of the file. Of one where a verb is under way nothing is known now. Blocks."""
    pools.look()
    for name in pools.names:
        said = {"name": name, "path": pools.config(name).place, "reserve_percent": pools.config(name).reserve}
        try:
            of_lvm = pools.config(name).kind == "lvm-thin"
            patience_s = timing.POOL_COMMAND_S if of_lvm else timing.OPENER_PATIENCE_S
            yield {**said, **pools.ask(name, partial(_figures, pools, name), patience_s)}
        except AoeError as error:
            yield {**said, "problem": str(error)}


def _figures(pools: Pools, name: str) -> Facts:
    with suppress(PoolError):  # so it is not known anew
        pools.work(name).measure()  # no verb waits for that
    with pools.idle(name) as found:
        if found is None:
            return {}
        return {"figures": list(figures(found.work, found.measured, timing.POOL_MEASURE_S))}


class Rooms:
    """Asks `look` for that, inside the running event loop, from `start` until `stop`."""

    def __init__(self, look: Callable[[], Iterable[Facts]], are_some: Callable[[], bool]) -> None:
        """`are_some` tells whether the file names a pool."""
        self._look = look
        self._are_some = are_some
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.pools: tuple[PoolStatus, ...] = ()

    def start(self) -> None:
        """Look now, and then again and again."""
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def stir(self) -> None:
        """Something was changed: look soon."""
        self._stirred.set()

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _follow(self) -> None:
        while True:
            self._stirred.clear()
            with suppress(AoeError):
                await self.look()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stirred.wait(), timing.POOL_LOOK_S)

    async def look(self) -> None:
        """Now. AoeError."""
        found = await aside(lambda: list(self._look())) if self._are_some() else []
        last = {it.name: it for it in self.pools}
        now = (_status(it, last.get(str(it["name"]))) for it in found)
        self.pools = tuple(it for it in now if it is not None)
        for it in self.pools:
            was = last[it.name].problem if it.name in last else ""
            if it.problem not in ("", was):
                log.error("pool %s is not used: %s", it.name, it.problem)
            elif was and not it.problem:
                log.info("pool %s is used now", it.name)


def _status(said: Facts, last: PoolStatus | None) -> PoolStatus | None:
    """None where nothing is known yet."""
    name, path, reserve = said["name"], said["path"], said["reserve_percent"]
    if "problem" in said:
        return PoolStatus(name, path, reserve, str(said["problem"]))
    if "figures" in said:
        return PoolStatus(name, path, reserve, "", *map(int, said["figures"]))
    return last
