"""Pools as values, for tests that plan."""

from collections.abc import Iterator
from itertools import count

from aoe.pool.copying import Standing
from aoe.pool.names import FORMATS, Format
from aoe.pool.requests import Create
from aoe.pool.room import Room
from aoe.pool.steps import Plan, after
from aoe.pool.tree import Tree
from aoe.pool.volume import Volume
from aoe.pool.work import Request

NOW = "2026-11-28T20:49:11Z"
GIB = 1 << 30


class World:
    """A pool that only computes: each request is planned and done."""

    def __init__(
        self,
        *,
        reflink: bool = True,
        room: Room = Room(100 * GIB, 50 * GIB),  # noqa: B008
        reserve: int = 10,
        formats: tuple[Format, ...] = FORMATS,
    ) -> None:
        self.volumes: dict[str, Volume] = {}
        self.reflink = reflink
        self.room = room
        self.reserve = reserve
        self.formats = formats
        self.taken: tuple[str, ...] = ()
        self._ids = ids()

    def plan(self, request: Request) -> Plan:
        tree = Tree("fast", self.volumes)
        fresh = self._ids.__next__
        at = Standing(
            tree, self.taken, self.room, self.reserve, lambda: self.reflink, NOW, fresh, self.formats
        )
        return request.plan(at)

    def do(self, *requests: Request) -> Plan:
        for request in requests:
            plan = self.plan(request)
            self.volumes = after(self.volumes, plan.steps)
        return plan

    def snapshots(self, volume: str) -> list[str]:
        return [it.name for it in self.volumes[volume].snapshots]


def ids() -> Iterator[str]:
    return (f"{number:032x}" for number in count(1))


def with_base(**how: bool) -> World:
    world = World(**how)  # type: ignore[arg-type]
    world.do(Create("base", 10 * GIB))
    return world
