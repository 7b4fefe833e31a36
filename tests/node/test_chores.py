"""Verbs of pools on threads, as an opener does them."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aoe import limits, timing
from aoe.config.values import PoolConfig
from aoe.errors import ConfigurationError, PoolError
from aoe.node.chores import Chores, Facts
from aoe.node.opener import ByOpener
from aoe.node.opening import InProcess
from aoe.node.permits import Permits
from aoe.node.pool_desk import PoolDesk, no_person
from aoe.node.pools import Pools
from aoe.pool import handles
from aoe.pool.requests import Create, Delete, Rename, Resize
from aoe.pool.work import Work
from tests.pool.pools import fresh, working
from tests.support.waiting import wait_for

SIZE = 1 << 20
PATIENCE_S = 30.0


@pytest.fixture
def pools(tmp_path: Path) -> Iterator[Pools]:
    directory = fresh(tmp_path)
    with working(directory, reserve=0) as work:
        work.do(Create("web1", SIZE, "raw"))
    made = Pools([PoolConfig(name="fast", path=str(directory), reserve=0)])
    yield made
    made.close()


def over(chores: Chores, number: int) -> Facts:
    """What comes of one."""
    found = chores.look(number, PATIENCE_S)
    assert found is not None
    return found


def test_what_was_done_is_told_once(pools: Pools) -> None:
    chores = Chores(pools, lambda _: False)
    number = chores.begin("fast", Create("web2", SIZE, "raw"), only_plan=False)
    done = over(chores, number)
    assert (done["done"], done["touches"], done["live"]) == ("fast/web2: 1048576 bytes, raw", [], False)
    assert (done["volume"], done["bytes"], done["format"]) == ("fast/web2", SIZE, "raw")
    assert sorted(pools.work("fast").volumes) == ["web1", "web2"]
    with pytest.raises(ConfigurationError, match="look at aoe-target volume list what was done"):
        chores.look(number, 0)


def test_what_is_served_follows_a_verb_that_has_failed_behind_its_record(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on in the new image, as the record says, and not in what is a snapshot by now."""
    seen = []
    chores = Chores(pools, lambda _: False, lambda: seen.append(sorted(pools.work("fast").volumes)))
    renaming = handles.rename
    full = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]

    def rename(*words: Any) -> None:
        if full:
            raise full.pop()
        renaming(*words)

    monkeypatch.setattr(handles, "rename", rename)
    with pytest.raises(PoolError, match="to name the image"):
        chores.do("fast", Create("web2", SIZE, "raw"))
    assert seen == [["web1", "web2"]]


def test_a_plan_changes_nothing_and_a_refusal_is_told(pools: Pools) -> None:
    chores = Chores(pools, lambda _: False)
    assert over(chores, chores.begin("fast", Delete("web1"), only_plan=True))["steps"]
    assert list(pools.work("fast").volumes) == ["web1"]
    with pytest.raises(ConfigurationError, match="there is no volume fast/none"):
        over(chores, chores.begin("fast", Delete("none"), only_plan=False))
    with pytest.raises(ConfigurationError, match="no pool slow in the file"):
        chores.begin("slow", Delete("web1"), only_plan=False)


def test_a_pool_that_came_just_now_is_used(pools: Pools, tmp_path: Path) -> None:
    pools.follow([PoolConfig(name="new", path=str(tmp_path / "new"), reserve=0)])
    chores = Chores(pools, lambda _: False)
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        chores.begin("new", Create("a", SIZE, "raw"), only_plan=False)
    fresh(tmp_path).rename(tmp_path / "new")
    assert over(chores, chores.begin("new", Create("a", SIZE, "raw"), only_plan=False))["done"]


def test_what_is_served_is_touched_by_what_needs_it_alone(pools: Pools) -> None:
    chores = Chores(pools, lambda path: path.endswith(".raw"))
    uuid = pools.work("fast").volumes["web1"].uuid
    assert over(chores, chores.begin("fast", Delete("web1"), only_plan=True))["touches"] == [uuid]
    grown = over(chores, chores.begin("fast", Resize("web1", 2 * SIZE), only_plan=False))
    assert (grown["touches"], grown["live"]) == ([uuid], True)
    assert over(chores, chores.begin("fast", Rename("web1", "www"), only_plan=False))["live"]


class Slow(Work):
    """Waits in the middle of a verb."""

    entered: threading.Semaphore
    gate: threading.Event
    under_way = 0
    most = 0

    def do(self, *what: Any) -> Any:
        Slow.under_way += 1
        Slow.most = max(Slow.most, Slow.under_way)
        Slow.entered.release()
        assert Slow.gate.wait(PATIENCE_S)
        try:
            return super().do(*what)
        finally:
            Slow.under_way -= 1


def test_of_one_pool_there_is_one_at_a_time_and_it_is_not_left_meanwhile(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aoe.node.pools.Work", Slow)
    Slow.entered, Slow.gate, Slow.under_way, Slow.most = threading.Semaphore(0), threading.Event(), 0, 0
    chores = Chores(pools, lambda _: False)
    numbers = [chores.begin("fast", Create(f"new{it}", SIZE, "raw"), only_plan=False) for it in range(3)]
    assert Slow.entered.acquire(timeout=PATIENCE_S)
    assert chores.look(numbers[0], 0) is None
    pools.close()
    Slow.gate.set()
    for number in numbers:
        over(chores, number)
    assert Slow.most == 1
    assert sorted(pools.work("fast").volumes) == ["new0", "new1", "new2", "web1"]


def test_they_are_bounded(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHORES_MAX", 1)
    monkeypatch.setattr("aoe.node.pools.Work", Slow)
    Slow.entered, Slow.gate = threading.Semaphore(0), threading.Event()
    chores = Chores(pools, lambda _: False)
    number = chores.begin("fast", Create("a", SIZE, "raw"), only_plan=False)
    with pytest.raises(ConfigurationError, match="1 verbs are under way"):
        chores.begin("fast", Create("b", SIZE, "raw"), only_plan=False)
    Slow.gate.set()
    over(chores, number)


def test_one_pool_leaves_room_for_others(pools: Pools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHORES_OF_POOL_MAX", 1)
    monkeypatch.setattr("aoe.node.pools.Work", Slow)
    Slow.entered, Slow.gate = threading.Semaphore(0), threading.Event()
    chores = Chores(pools, lambda _: False)
    number = chores.begin("fast", Create("a", SIZE, "raw"), only_plan=False)
    with pytest.raises(ConfigurationError, match="1 verbs are under way in pool fast; wait for one"):
        chores.begin("fast", Create("b", SIZE, "raw"), only_plan=False)
    assert over(chores, chores.start(lambda: {"volume": "slow/a"}, "slow"))
    Slow.gate.set()
    over(chores, number)
    assert over(chores, chores.begin("fast", Create("b", SIZE, "raw"), only_plan=False))


def test_one_that_takes_long_keeps_the_opener_from_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is waited for once, when it begins."""
    stores, gate, patience = InProcess(0), threading.Event(), list[float]()
    look = stores.chores.look

    def watched(number: int, patience_s: float) -> Facts | None:
        patience.append(patience_s)
        return look(number, min(patience_s, 0.001))

    monkeypatch.setattr(stores.chores, "look", watched)
    monkeypatch.setattr(stores, "merges", lambda: [] if gate.wait(PATIENCE_S) else None)
    verbs = PoolDesk(stores, lambda: None, Permits(lambda: 0.0), no_person).verbs
    began = verbs["merges"]({}, ()).facts
    assert began["done"] is None
    for _ in range(3):
        assert verbs["chore"]({"number": began["number"]}, ()).facts["done"] is None
    assert patience == [timing.OPENER_CHORE_S, 0, 0, 0]
    gate.set()
    wait_for(lambda: verbs["chore"]({"number": began["number"]}, ()).facts["done"] is not None)


def test_others_may_ask_the_opener_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def ask(verb: str, _: object, **__: object) -> tuple[dict[str, Any], list[int]]:
        asked.append(verb)
        return {"number": 1, "done": {"merges": []} if asked.count("chore") == 2 else None}, []

    pauses = SimpleNamespace(sleep=lambda _: asked.append("others"))
    monkeypatch.setattr("aoe.node.opener.time", pauses)
    connection: Any = SimpleNamespace(ask=ask)
    assert ByOpener(connection).merges() == []
    assert asked == ["merges", "others", "chore", "others", "chore"]


def test_what_nothing_asks_for_any_more_is_in_the_way_of_nothing(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHORES_MAX", 1)
    chores = Chores(pools, lambda _: False)
    chores.begin("fast", Create("a", SIZE, "raw"), only_plan=False)
    wait_for(lambda: "a" in pools.work("fast").volumes)
    wait_for(lambda: begins(chores), what="the first is over")


def begins(chores: Chores) -> bool:
    try:
        number = chores.begin("fast", Delete("a"), only_plan=False)
    except ConfigurationError:
        return False
    return over(chores, number)["volume"] == "fast/a"
