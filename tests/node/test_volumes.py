"""Verbs on a volume that is served, asked for at once."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from aoe import timing
from aoe.drive.identify import StoreKind
from aoe.errors import ConfigurationError
from aoe.node.steps import Add
from aoe.node.volumes import Volumes
from aoe.pool.asked import Wish
from aoe.pool.requests import Cut, Rename, Resize, Rollback
from tests.link.collector import until as eventually

KEY = (1, 1)
UUID = "0" * 32


class World:
    """A volume, which is served while it is in `live`. A rollback waits for `goes`."""

    def __init__(self) -> None:
        config = SimpleNamespace(path="fast/web1", key=KEY, address="e1.1", mask=None)
        named = SimpleNamespace(kind=StoreKind.VOLUME, text=UUID)
        opened = SimpleNamespace(store_name=named, image="", is_block=False)
        self.one: Any = SimpleNamespace(
            config=config, held=SimpleNamespace(opened=opened), going=None, export=SimpleNamespace(key=KEY)
        )
        self.live: dict[tuple[int, int], Any] = {KEY: self.one}
        self.name = "web1"
        self.planned: list[Wish] = []
        self.rolling, self.goes = threading.Event(), threading.Event()
        self.turn = asyncio.Lock()
        self.unused_s: float | None = None
        both: Any = self  # opener and hands, as far as verbs need them
        self.volumes = Volumes(both, both, self.changing, lambda _: None)

    @asynccontextmanager
    async def changing(self, _: str) -> AsyncIterator[None]:
        async with self.turn:
            yield

    async def do(self, request: Wish, *, force: bool = True) -> dict[str, Any]:
        return await self.volumes.do("fast", request, (), "root", force=force)

    # An opener

    def volume(self, _: str, request: Wish, *, only_plan: bool) -> dict[str, Any]:
        if request.volume != self.name:
            raise ConfigurationError(f"there is no volume fast/{request.volume}")
        facts = {"touches": [UUID] * (KEY in self.live), "live": isinstance(request, Rename), "notes": []}
        if only_plan:
            self.planned.append(request)
        elif isinstance(request, Rollback):
            self.rolling.set()
            assert self.goes.wait(60)
        elif isinstance(request, Rename):
            self.name = request.new
        return {**facts, "done": "done"}

    # What serves

    @property
    def target(self) -> Any:
        return SimpleNamespace(
            unused_s=lambda _: self.unused_s, numbers=lambda _: SimpleNamespace(clients=())
        )

    async def carry_out(self, plan: Any, _: Any) -> list[Any]:
        for step in plan.steps:
            self.live.pop(KEY, None)
            if isinstance(step, Add):
                assert step.export.path == f"fast/{self.name}", "it is served again by the name that it has"
                self.live[KEY] = self.one
        return []

    def prepare(self, _: Any) -> Any:
        return SimpleNamespace(problems=(), waits=(), ready={})


def test_one_waits_for_a_disk_that_is_out_of_service_for_a_moment() -> None:
    async def run() -> None:
        world = World()
        rolling = asyncio.ensure_future(world.do(Rollback("web1", "a")))
        await eventually(world.rolling.is_set)
        renaming = asyncio.ensure_future(world.do(Rename("web1", "www")))
        await eventually(lambda: Rename("web1", "www") in world.planned)
        world.goes.set()
        await rolling
        assert (await renaming)["paths"] == {"e1.1": "fast/www"}
        assert (world.name, world.live) == ("www", {KEY: world.one})

    asyncio.run(run())


def test_what_was_done_before_is_seen_before_a_disk_is_taken_out_of_service() -> None:
    async def run() -> None:
        world = World()
        async with world.turn:
            rolling = asyncio.ensure_future(world.do(Rollback("web1", "a")))
            await eventually(lambda: len(world.planned) == 1)
            world.name = "www"
        with pytest.raises(ConfigurationError, match="there is no volume fast/web1"):
            await rolling
        assert world.live == {KEY: world.one}

    asyncio.run(run())


@pytest.mark.parametrize("unused_s", [None, timing.USED_LATELY_S, timing.USED_LATELY_S - 1])
@pytest.mark.parametrize("request_", [Rollback("web1", "a"), Resize("web1", 512, shrink=True)])
def test_a_disk_that_was_not_used_for_a_minute_needs_no_force(request_: Wish, unused_s: float | None) -> None:
    async def run() -> None:
        world = World()
        world.unused_s = unused_s
        world.goes.set()
        if unused_s is None or unused_s >= timing.USED_LATELY_S:
            assert (await world.do(request_, force=False))["notes"] == ["e1.1: another instance is served"]
        else:
            with pytest.raises(ConfigurationError, match=r"used it in the last minute; .* or say --force"):
                await world.do(request_, force=False)
        assert world.live == {KEY: world.one}

    asyncio.run(run())


def test_a_snapshot_of_what_leaves_meanwhile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        world = World()

        async def take(*_: object) -> None:
            world.live.clear()
            raise ConfigurationError("e1.1 is not served here")

        monkeypatch.setattr(world.volumes.cuts, "take", take)
        with pytest.raises(ConfigurationError, match="web1 is being taken, or put into service; try again"):
            await world.do(Cut("web1", "b"))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("how", "remedy"),
    [
        ({"image": "1:2:3.0"}, "is qcow2, and is served; cut it alone"),
        ({"is_block": True}, "is a logical volume, and is served; cut these one by one"),
    ],
)
def test_what_cannot_be_held_is_not_cut_with_others(how: dict[str, Any], remedy: str) -> None:
    """Nor is it planned so."""

    async def run() -> None:
        world = World()
        vars(world.one.held.opened).update(how)
        for call in (world.do, lambda it: world.volumes.plan("fast", it)):
            with pytest.raises(ConfigurationError, match=f"^fast/web1 {remedy}"):
                await call(Cut("web1", "b", ("web2",)))

    asyncio.run(run())
