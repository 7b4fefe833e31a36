"""What deleted snapshots have left in chains is merged in the background, by what has the pools."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from aoe.config.values import PoolConfig
from aoe.errors import AoeError
from aoe.node.pools import Pools
from aoe.pool import merging
from aoe.pool.asked import Wish
from aoe.pool.merging import Served
from aoe.pool.work import Work

Facts = dict[str, Any]
Do = Callable[[str, Wish], object]
"""Does a verb of a pool. AoeError."""


def merges(pools: Pools, do: Do, served: Served) -> Iterator[Facts]:
    """Merge all there is, and tell of each volume what failed. Blocks for as long as that takes; the pools
    may be worked on meanwhile, by `do` too."""
    for name in pools.names:
        try:
            with pools.turn(name) as work:
                volumes = merging.pending(work)
        except AoeError:
            continue  # that is said elsewhere
        for volume in volumes:
            yield {"volume": f"{name}/{volume}", "problem": _merged(pools.config(name), volume, do, served)}


def _merged(pool: PoolConfig, volume: str, do: Do, served: Served) -> str:
    """Why it was not; empty where it was."""
    try:
        look = Work(pool.place, kind=pool.kind, name=pool.name, reserve=pool.reserve, locked=False)
        with closing(look):
            for request in merging.merged(look, volume, lambda _: None, served):
                do(pool.name, request)
    except AoeError as error:
        return str(error)
    return ""
