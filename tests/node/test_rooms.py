"""How full pools are, as a node asks it."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aoe.config.values import PoolConfig
from aoe.node.pools import Pools
from aoe.node.rooms import Rooms, rooms
from aoe.node.status import PoolStatus
from aoe.pool.figures import Measured, figures
from aoe.pool.requests import Create
from tests.pool.fake_lvm import THIN, VG
from tests.pool.pools import fresh, working
from tests.pool.thin import fake, with_base
from tests.support.waiting import PATIENCE_S

SIZE = 1 << 20


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[Pools]:
    directory = fresh(tmp_path)
    with working(directory, reserve=0) as work:
        work.do(Create("a", SIZE, "raw"))
        work.do(Create("b", 3 * SIZE, "raw"))
    made = Pools(
        [
            PoolConfig(name="fast", path=str(directory), reserve=7),
            PoolConfig(name="none", path=str(tmp_path / "none")),
        ]
    )
    yield made
    made.close()


def looked(pools: Pools) -> tuple[PoolStatus, ...]:
    async def look() -> tuple[PoolStatus, ...]:
        found = Rooms(lambda: rooms(pools), lambda: True)
        await found.look()
        return found.pools

    return asyncio.run(look())


def test_each_pool_is_told_with_its_numbers_or_its_problem(pools: Pools) -> None:
    fast, none = looked(pools)
    assert (fast.name, fast.reserve_percent, fast.problem) == ("fast", 7, "")
    assert (fast.volumes, fast.promised_bytes, fast.snapshots, fast.snapshot_bytes) == (2, 4 * SIZE, 0, 0)
    assert 0 < fast.free_bytes <= fast.total_bytes
    assert fast.growth_bytes == 4 * SIZE, "nothing is written yet"
    assert (none.name, none.total_bytes) == ("none", 0)
    assert "No such file or directory; name a directory" in none.problem


def test_one_in_which_a_verb_is_under_way_keeps_its_last_numbers(pools: Pools) -> None:
    async def look() -> None:
        found = Rooms(lambda: rooms(pools), lambda: True)
        with pools.turn("fast"):
            await found.look()
            assert [it.name for it in found.pools] == ["none"]
        await found.look()
        before = found.pools[0]
        assert before.volumes == 2
        with pools.turn("fast"):
            await found.look()
            assert found.pools[0] == before

    asyncio.run(look())


def test_what_is_wrong_with_one_is_logged_once_and_that_it_is_right_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    said: dict[str, Any] = {"name": "a", "path": "/a", "reserve_percent": 1}
    answers = [{**said, "problem": "it is gone"}]

    async def look() -> None:
        found = Rooms(lambda: answers, lambda: True)
        for _ in range(3):
            await found.look()
        answers[0] = {**said, "figures": [1, 1, 0, 0, 0, 0, 0]}
        for _ in range(2):
            await found.look()

    asyncio.run(look())
    assert [it.getMessage() for it in caplog.records if it.name == "aoe.node"] == [
        "pool a is not used: it is gone",
        "pool a is used now",
    ]


def test_it_is_asked_again_when_something_was_changed_and_not_where_there_are_no_pools() -> None:
    async def look() -> None:
        asked: list[int] = []
        answers: list[dict[str, Any]] = [{"name": "a", "path": "/a", "reserve_percent": 1, "problem": "gone"}]
        found = Rooms(lambda: asked.append(1) or answers, lambda: bool(answers))  # type: ignore[func-returns-value]
        found.start()
        async with asyncio.timeout(30):
            while not found.pools:
                await asyncio.sleep(0.01)
            answers.clear()
            found.stir()
            while found.pools:
                await asyncio.sleep(0.01)
        assert asked == [1]
        await found.stop()

    asyncio.run(look())


def test_numbers_are_those_of_the_store(pools: Pools) -> None:
    pools.look()
    with pools.turn("fast") as work:
        found = figures(work, Measured(), 0.0)
        assert (found.total, found.volumes, found.promised) == (work.room.total, 2, 4 * SIZE)


def test_no_verb_waits_for_a_thin_pool_that_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes time for each block of each volume. A pool that takes long for that does answer."""
    lvm = with_base(fake(tmp_path / "lvm", monkeypatch))
    monkeypatch.setattr("aoe.timing.OPENER_PATIENCE_S", 0.1)
    begun, goes_on = threading.Event(), threading.Event()

    def run(words: Sequence[str], stdin: int | None = None) -> str:
        if words[0] == "thin_ls":
            begun.set()
            assert goes_on.wait(PATIENCE_S)
        return lvm.run(words, stdin)

    monkeypatch.setattr("aoe.pool.lvm_marking.HERE", lvm.host._replace(measure=run))
    with closing(Pools([PoolConfig(name="fast", kind="lvm-thin", vg=VG, thin_pool=THIN)])) as pools:
        pools.look(PATIENCE_S)
        with ThreadPoolExecutor(1) as threads:
            looking = threads.submit(lambda: list(rooms(pools)))
            try:
                assert begun.wait(PATIENCE_S)
                with pools.turn("fast") as work:
                    work.do(Create("more", SIZE))
            finally:
                goes_on.set()
            (said,) = looking.result(PATIENCE_S)
        assert "problem" not in said
        assert said["figures"][2] == 2
