"""Snapshots of what is served, as they are listed, and what becomes of them where something fails."""

import asyncio
import os
import threading
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aoe.cli.volumes import in_line
from aoe.errors import ConfigurationError, CutError
from aoe.node.served_cuts import ServedCuts, Wanted
from aoe.node.volumes import Volumes
from aoe.pool.requests import Cut
from aoe.pool.volume import ASKED
from tests.link.collector import until as eventually

KEY = (1, 1)
LISTED = {
    **{"volume": "fast/web1", "bytes": 1 << 20, "format": "raw", "allocated_bytes": 0, "own_bytes": 0},
    **{"snapshot_count": 0, "snapshots": [], "parent": None},
}


class Opener:
    """Makes files, and knows what became of them."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.ended: list[tuple[int, bool]] = []
        self.fails = False
        self.waits = ""
        self.asked, self.goes = threading.Event(), threading.Event()
        self.files: list[int] = []

    def begin_cut(self, pool: str, request: Cut, cause: str) -> dict[str, Any]:
        assert (pool, cause) == ("fast", ASKED)
        self.wait("begin")
        return {"number": len(request.snapshot)}

    def cut_file(self, number: int) -> int:
        self.wait("file")
        if self.fails:
            raise ConfigurationError("the opener ended meanwhile")
        self.files.append(os.open(self.work / str(number), os.O_RDWR | os.O_CREAT))
        return self.files[-1]

    def wait(self, where: str) -> None:
        if where == self.waits:
            self.asked.set()
            assert self.goes.wait(60)

    def end_cut(self, number: int, *, whole: bool) -> dict[str, Any]:
        self.ended.append((number, whole))
        return {"snapshot": "monday", "done": "cut"}

    def volumes(self, pool: str, after: str) -> dict[str, Any]:
        return {"volumes": [{**LISTED}, {**LISTED, "volume": "fast/web2"}]}


class Cutting:
    """Whole when it is told so, or never."""

    def __init__(self) -> None:
        self.progress = 0.43
        self.given_up = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def whole(self) -> None:
        await asyncio.shield(self.over)

    def give_up(self, _: str) -> None:
        self.given_up = True


class World:
    """A node with one export, of which snapshots are cut."""

    def __init__(self, work: Path) -> None:
        self.opener: Any = Opener(work)
        self.cutting = Cutting()
        self.served: Any = SimpleNamespace(
            export=SimpleNamespace(key=KEY), config=SimpleNamespace(path="fast/web1", key=KEY)
        )
        self.into: dict[tuple[int, int], int] = {}
        target = SimpleNamespace(cut=self.cut)
        self.hands: Any = SimpleNamespace(target=target, live={KEY: self.served})
        self.cuts = ServedCuts(self.opener, self.hands)

    async def cut(self, into: dict[tuple[int, int], int]) -> Cutting:
        self.into = into
        return self.cutting

    async def begun(self) -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(
            self.cuts.take("fast", [Wanted(Cut("web1", "monday"), self.served, ASKED)])
        )
        while not self.into and not task.done():
            await asyncio.sleep(0.001)
        return task

    def closed(self) -> bool:
        for fd in self.opener.files:
            with suppress(OSError):
                os.fstat(fd)
                return False
        return True


def test_one_that_is_not_whole_is_listed_with_its_progress(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        volumes = Volumes(world.opener, world.hands, lambda _: None, lambda _: None)
        volumes.cuts = world.cuts
        assert world.cuts.progress(KEY) == ("", 0.0)
        task = await world.begun()
        assert world.cuts.progress(KEY) == ("monday", 0.43)
        one, other = (await volumes.listed("fast", ""))["volumes"]
        assert in_line(one).endswith(", cutting @monday: 43 %")
        assert "cutting" not in in_line(other)
        world.cutting.over.set_result(None)
        assert await task == [{"snapshot": "monday", "done": "cut"}]
        assert world.opener.ended == [(6, True)]
        assert world.cuts.progress(KEY) == ("", 0.0)
        assert world.closed()

    asyncio.run(run())


@pytest.mark.parametrize("how", ["fails", "cancelled"])
def test_one_that_does_not_come_about_is_ended_and_closed(how: str, tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        task = await world.begun()
        if how == "fails":
            world.cutting.over.set_exception(CutError("e1.1: no snapshot"))
        else:
            task.cancel()
        with pytest.raises(CutError if how == "fails" else asyncio.CancelledError):
            await task
        assert world.opener.ended == [(6, False)]
        assert world.cutting.given_up
        assert world.closed()
        assert world.cuts.progress(KEY) == ("", 0.0)

    asyncio.run(run())


def test_a_file_that_cannot_be_had_is_ended(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        world.opener.fails = True
        with pytest.raises(ConfigurationError, match="the opener ended"):
            await (await world.begun())
        assert world.opener.ended == [(6, False)]
        assert not world.into

    asyncio.run(run())


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("waits", ["begin", "file"])
def test_what_the_opener_makes_when_the_caller_has_gone_is_ended(
    waits: str, times: int, fails: bool, tmp_path: Path
) -> None:
    """Else it would be held for ever, and 64 such snapshots would be the last ones."""

    async def run() -> None:
        world = World(tmp_path)
        world.opener.waits, world.opener.fails = waits, fails
        task = asyncio.ensure_future(
            world.cuts.take("fast", [Wanted(Cut("web1", "monday"), world.served, ASKED)])
        )
        await eventually(world.opener.asked.is_set, what="nothing is asked")
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        world.opener.goes.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: world.opener.ended, what="it is not ended")
        assert world.opener.ended == [(6, False)]
        await eventually(world.closed, what="its file is open")
        assert not world.into

    asyncio.run(run())
