"""Schedules of a file on a pool, with a clock that the test sets."""

import asyncio
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from aoe.config.values import PoolConfig, ScheduleConfig
from aoe.errors import ConfigurationError
from aoe.node.chores import Chores
from aoe.node.pools import Pools
from aoe.node.scheduled import Facts, Looks
from aoe.node.schedules import Schedules
from aoe.pool import work as working_on
from aoe.pool.asked import Wish
from aoe.pool.requests import Clone, Create, Cut, Delete
from aoe.pool.room import Room
from aoe.pool.work import Work
from tests.pool.pools import MIB, working

START = datetime(2026, 11, 1, 0, 0, 30, tzinfo=UTC)


class Daemon:
    """What the daemon and its opener do of it."""

    def __init__(self, pool: Path, *schedules: ScheduleConfig) -> None:
        self.pools = Pools([PoolConfig(name="fast", path=str(pool), reserve=0)])
        self.pools.look()
        self.pools.schedules = schedules
        self.chores = Chores(self.pools, lambda _: False)
        self.now = START
        self.looks = Looks()
        self.loop = Schedules(self.dues, self.do, lambda: True)

    def dues(self) -> list[Facts]:
        return self.looks.dues(self.pools, self.now)

    async def do(self, pool: str, wish: Wish, by: str) -> None:
        assert by.startswith("schedule ")
        self.chores.do(pool, wish)

    def look(self, hours: float = 0) -> list[str]:
        """Hours later; what there is."""
        self.now += timedelta(hours=hours)
        asyncio.run(self.loop.look())
        work = self.pools.work("fast")
        return [f"{name}@{it.name}" for name, volume in work.volumes.items() for it in volume.snapshots]


@pytest.fixture
def daemon(pool: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    yield from made(pool, monkeypatch)


def made(pool: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """With three volumes, of which it keeps two snapshots each of two."""
    with working(pool) as work:
        for name in ("web1", "web2", "other"):
            work.do(Create(name, MIB))
    daemon = Daemon(pool, ScheduleConfig(name="auto", volumes=("fast/web*",), keep_hourly=2))
    clock = SimpleNamespace(
        strftime=lambda _, __: daemon.now.strftime("%Y-%m-%dT%H:%M:%SZ"), gmtime=lambda: None
    )
    monkeypatch.setattr(working_on, "time", clock)
    yield daemon
    daemon.pools.close()


def test_they_are_made_and_pruned(daemon: Daemon) -> None:
    assert daemon.look() == ["web1@auto-20261101T000030Z", "web2@auto-20261101T000030Z"]
    assert len(daemon.look(0.1)) == 2
    assert len(daemon.look(1)) == 4
    assert daemon.look(1) == [
        f"web{number}@auto-20261101T{hour}Z" for number in (1, 2) for hour in ("010630", "020630")
    ]
    volume = daemon.pools.work("fast").volumes["web1"]
    assert {it.cause for it in volume.snapshots} == {"schedule auto"}


def test_those_of_users_and_those_with_clones_stay(daemon: Daemon) -> None:
    daemon.chores.do("fast", Cut("web1", "mine"))
    (_, first, _) = daemon.look()
    daemon.chores.do("fast", Clone("web1", first.partition("@")[2], "clone"))
    for _ in range(4):
        found = daemon.look(1)
    assert "web1@mine" in found
    assert first in found
    assert len([it for it in found if it.startswith("web1@auto")]) == 3


def test_the_first_look_of_a_life_prunes_nothing(daemon: Daemon) -> None:
    for _ in range(3):
        daemon.look(1)
    daemon.looks = Looks()
    assert len(daemon.look(1)) == 6
    assert len(daemon.look(0.1)) == 4


def test_a_template_is_left_out(daemon: Daemon) -> None:
    work = daemon.pools.work("fast")
    object.__setattr__(work.volumes["web1"], "template", True)
    assert daemon.look() == ["web2@auto-20261101T000030Z"]


def test_what_fails_is_said_once_and_tried_again(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    doing, refused = daemon.do, list[str]()

    async def do(pool: str, wish: Wish, by: str) -> None:
        if wish.volume == "web1":
            refused.append(wish.volume)
            raise ConfigurationError("not now")
        await doing(pool, wish, by)

    daemon.loop._do = do
    with caplog.at_level(logging.ERROR, "aoe.node"):
        assert daemon.look() == ["web2@auto-20261101T000030Z"]
        daemon.look(0.1)
    assert len(refused) == 2
    assert [it.message for it in caplog.records] == ["schedule auto: fast/web1: not now"]
    daemon.loop._do = doing
    assert len(daemon.look(0.1)) == 2


def test_below_the_reserve_none_is_made_until_there_is_room(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (pool,) = daemon.pools.names
    daemon.pools.work(pool).reserve = 10
    with monkeypatch.context() as full:
        full.setattr(Work, "room", Room(total=100, free=9))
        assert daemon.look() == []
    said = "refused: 9 % of the pool's store is free, and 10 % is its reserve; delete volumes or snapshots"
    assert [said in it.message for it in caplog.records] == [True, True]
    assert len(daemon.look(0.1)) == 2


def test_one_that_cannot_go_keeps_no_other(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    """Such as one that is served."""
    (first, _), doing = daemon.look(), daemon.do

    async def do(pool: str, wish: Wish, by: str) -> None:
        if isinstance(wish, Delete) and f"{wish.volume}@{wish.snapshot}" == first:
            raise ConfigurationError("it is served")
        await doing(pool, wish, by)

    daemon.loop._do = do
    for _ in range(4):
        found = daemon.look(1)
    assert [it[:25] for it in found if it.startswith("web1@")] == [
        "web1@auto-20261101T000030",
        "web1@auto-20261101T030030",
        "web1@auto-20261101T040030",
    ]
    assert [it.message for it in caplog.records] == ["schedule auto: fast/web1: it is served"]


def test_without_reflink_they_are_pruned_too(slow_pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later states need what one has until they are merged, and it is gone for its users."""
    for daemon in made(slow_pool, monkeypatch):
        for _ in range(4):
            found = daemon.look(1)
        assert [it for it in found if it.startswith("web1@")] == [
            "web1@auto-20261101T030030Z",
            "web1@auto-20261101T040030Z",
        ]
        assert len(daemon.pools.work("fast").volumes["web1"].fading) == 2


def test_a_pool_that_is_not_there_is_said(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    daemon.pools.schedules = (ScheduleConfig(name="auto", volumes=("none/*",), keep_daily=1),)
    daemon.look()
    (said,) = (it.message for it in caplog.records)
    assert said == "schedule auto: none: there is no pool none in the file that the daemon has applied"


def test_a_clock_that_was_set_back_is_said(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    daemon.look()
    daemon.look(5)
    daemon.look(-3)
    assert "the clock is before the snapshot auto-20261101T050030Z" in caplog.records[-1].message


@pytest.mark.parametrize(
    "cause", ["clone", "template", "rollback", "schedule", "schedule ", "schedule a b", ""]
)
def test_no_user_says_another_cause(cause: str, daemon: Daemon) -> None:
    with pytest.raises(ConfigurationError, match='a snapshot is cut by "asked", or by "schedule NAME"'):
        daemon.chores.do("fast", Cut("web1", "a", cause=cause))
    daemon.chores.do("fast", Delete("web1"))
