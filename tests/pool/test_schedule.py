"""A schedule in virtual time: both changes of daylight saving, missed runs, clocks that leap."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe import limits
from aoe.pool.schedule import Due, Kind, Policy, due, made_at
from aoe.pool.volume import Image, Snapshot, Volume

HOURS = timedelta(hours=1)
BERLIN = ZoneInfo("Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class Host:
    """A volume, a clock, and a daemon that looks now and then."""

    def __init__(self, policy: Policy, now: str) -> None:
        self.policy = policy
        self.now = utc(now)
        self.last: datetime | None = None
        head = Image(id=f"{0:032x}", size=512)
        self.volume = Volume(uuid=f"{1:032x}", head=head, made="2026-01-01T00:00:00Z")
        self.pruned: list[str] = []

    def look(self) -> Due:
        found = due(self.policy, self.volume, self.now, self.last)
        self.last = self.now
        kept = [it for it in self.volume.snapshots if it.name not in found.prune]
        self.pruned += found.prune
        if found.make:
            kept.append(self.snapshot(found.make, self.policy.cause))
        self.volume = replace(self.volume, snapshots=tuple(kept))
        return found

    def snapshot(self, name: str, cause: str) -> Snapshot:
        image = Image(id=f"{hash((name, cause)) & (1 << 64) - 1:032x}", size=512)
        return Snapshot(name=name, image=image, made=self.now.strftime("%Y-%m-%dT%H:%M:%SZ"), cause=cause)

    def run(self, until: str, step: timedelta = timedelta(minutes=20)) -> "Host":
        while self.now < utc(until):
            self.look()
            self.now += step
        return self

    def times(self) -> list[datetime]:
        return [made_at(it) for it in self.volume.snapshots]


def hours(host: Host, day: str) -> list[int]:
    """Of the snapshots of a day, by the clock on the wall."""
    local = [it.astimezone(BERLIN) for it in host.times()]
    return [it.hour for it in local if it.date().isoformat() == day]


def test_each_hour_has_one() -> None:
    host = Host(Policy(name="auto", hourly=6), "2026-11-01T00:05:00").run("2026-11-01T12:00:00")
    assert [it.hour for it in host.times()] == [6, 7, 8, 9, 10, 11]
    assert {it.name for it in host.volume.snapshots} >= {"auto-20261101T110500Z"}
    assert all(it.cause == "schedule auto" for it in host.volume.snapshots)


def test_the_hour_that_is_repeated_and_a_clock_that_is_set() -> None:
    """October: 03:00 CEST is 02:00 CET again."""
    hourly = Policy(name="auto", hourly=500, zone=BERLIN)
    host = Host(hourly, "2026-10-10T00:00:00").run("2026-10-26T12:00:00")
    assert hours(host, "2026-10-25") == list(range(24)), "two hours are called 2, and have one"
    assert hours(host, "2026-10-24") == list(range(24))
    host.now -= timedelta(hours=5)  # the clock is set back
    assert host.look().problem.startswith("the clock is before the snapshot auto-2026")
    before = len(host.volume.snapshots)
    host.run("2026-10-26T12:00:00")
    assert len(host.volume.snapshots) == before
    host.run("2026-10-30T00:00:00")
    assert hours(host, "2026-10-28") == list(range(24))


def test_the_hour_that_is_skipped() -> None:
    """March: 02:00 CET is 03:00 CEST."""
    hourly = Policy(name="auto", hourly=500, zone=BERLIN)
    host = Host(hourly, "2026-03-20T00:00:00").run("2026-04-01T00:00:00")
    assert hours(host, "2026-03-29") == [0, 1, *range(3, 24)]
    assert {it.name for it in host.volume.snapshots} == {f"auto-{it:%Y%m%dT%H%M%SZ}" for it in host.times()}
    daily = Host(Policy(name="auto", daily=60, zone=BERLIN), "2026-03-01T00:00:00").run(
        "2026-04-01T00:00:00", HOURS
    )
    days = Counter(it.astimezone(BERLIN).date() for it in daily.times())
    assert set(days.values()) == {1}
    assert len(days) == 32


def test_a_month_in_virtual_time() -> None:
    """With both changes of daylight saving in it, as no month has them, and a clock that leaps back."""
    policy = Policy(name="auto", hourly=24, daily=31, zone=BERLIN)
    for start, change, end in (
        ("2026-03-05", "2026-03-29", "2026-04-05"),
        ("2026-10-05", "2026-10-25", "2026-11-05"),
    ):
        host = Host(policy, f"{start}T00:00:00").run(f"{change}T12:00:00")
        host.now -= timedelta(days=2)
        host.run(f"{end}T00:00:00")
        days = Counter(it.astimezone(BERLIN).date() for it in host.times() if it.astimezone(BERLIN).hour == 0)
        assert max(days.values()) == 1
        assert len(days) >= 30
        assert len({it.name for it in host.volume.snapshots}) <= 24 + 31


def test_half_an_hour_of_daylight_saving() -> None:
    lord_howe = ZoneInfo("Australia/Lord_Howe")
    hourly = Policy(name="auto", hourly=500, zone=lord_howe)
    host = Host(hourly, "2026-04-01T00:00:00").run("2026-04-10T00:00:00")
    local = Counter((it.astimezone(lord_howe).date(), it.astimezone(lord_howe).hour) for it in host.times())
    assert set(local.values()) == {1}


def test_a_missed_run_is_made_once() -> None:
    host = Host(Policy(name="auto", daily=30), "2026-11-01T00:00:00").run("2026-11-03T00:00:00")
    host.now = utc("2026-11-09T13:00:00")
    assert host.look().make == "auto-20261109T130000Z"
    assert host.look().make == ""
    assert [it.day for it in host.times()] == [1, 2, 9]


def test_of_each_kind_so_many_stay() -> None:
    policy = Policy(name="auto", hourly=24, daily=7, weekly=4, monthly=12)
    host = Host(policy, "2025-01-01T00:00:00").run("2026-11-15T12:00:00", timedelta(hours=4))
    times = host.times()
    for kind in policy.kinds():
        assert len({kind.period(it) for it in times}) >= kind.most
    assert len(times) <= 24 + 7 + 4 + 12
    months = [it for it in times if it.day == 1 and it.hour == 0]
    assert [it.month for it in months][-12:] == [12, *range(1, 12)]


def test_others_are_left_alone() -> None:
    host = Host(Policy(name="auto", hourly=1), "2026-11-01T00:00:00")
    mine = (host.snapshot("mine", "asked"), host.snapshot("other-1", "schedule other"))
    host.volume = replace(host.volume, snapshots=mine)
    host.run("2026-11-03T00:00:00")
    assert [it.name for it in host.volume.snapshots[:2]] == ["mine", "other-1"]
    assert len(host.volume.snapshots) == 3


def test_what_something_is_made_of_stays() -> None:
    host = Host(Policy(name="auto", hourly=1), "2026-11-01T00:00:00").run("2026-11-01T00:30:00")
    (first,) = host.volume.snapshots
    host.now = utc("2026-11-01T01:00:00")
    assert due(host.policy, host.volume, host.now, host.last).prune == (first.name,)
    assert due(host.policy, host.volume, host.now, host.last, held=[first.name]).prune == ()


@pytest.mark.parametrize(
    ("last", "problem"),
    [
        (None, "nothing is pruned at the first look"),
        ("2026-10-30T23:59:59", "the clock made a leap since the last look"),
        ("2026-11-01T00:00:01", "the clock made a leap since the last look"),
        ("2026-10-31T00:00:00", ""),
        ("2026-11-01T00:00:00", ""),
    ],
)
def test_when_the_clock_is_not_trusted(last: str | None, problem: str) -> None:
    host = Host(Policy(name="auto", hourly=1), "2026-10-31T01:00:00").run("2026-10-31T02:00:00")
    found = due(host.policy, host.volume, utc("2026-11-01T00:00:00"), utc(last) if last else None)
    assert found.problem.startswith(problem)
    assert bool(found.prune) == (not problem)
    assert found.make


def test_a_wrong_year_prunes_no_more_than_what_it_makes() -> None:
    host = Host(Policy(name="auto", hourly=24), "2026-11-01T00:00:00").run("2026-11-03T00:00:00")
    host.now = utc("2036-01-01T00:00:00")
    host.look()
    assert len(host.volume.snapshots) == 25
    host.now = utc("2026-11-03T00:00:00")
    assert "delete that snapshot" in host.look().problem
    host.run("2026-11-04T00:00:00")
    assert len(host.times()) == 25 + 24
    (wrong,) = (it for it in host.volume.snapshots if it.made > "2030")
    host.volume = replace(host.volume, snapshots=tuple(it for it in host.volume.snapshots if it is not wrong))
    host.run("2026-11-04T02:00:00")
    assert len(host.times()) == 24


def test_a_long_name_is_cut() -> None:
    host = Host(Policy(name="n" * limits.POOL_NAME_MAX, hourly=1), "2026-11-01T00:00:00")
    assert len(host.look().make) == limits.POOL_NAME_MAX


def test_nothing_is_wanted_of_nothing() -> None:
    assert Host(Policy(name="auto"), "2026-11-01T00:00:00").look().make == ""


def test_a_name_that_is_taken_is_not_made() -> None:
    host = Host(Policy(name="auto", hourly=1), "2026-11-01T00:00:00")
    host.volume = replace(host.volume, snapshots=(host.snapshot("AUTO-20261101T000000Z", "asked"),))
    assert host.look().make == ""


STEPS = st.lists(st.integers(-3 * 86400, 5 * 86400), min_size=1, max_size=60)
POLICIES = st.builds(
    Policy,
    name=st.just("auto"),
    hourly=st.integers(0, 5),
    daily=st.integers(0, 4),
    weekly=st.integers(0, 3),
    monthly=st.integers(0, 2),
    zone=st.sampled_from([UTC, BERLIN, ZoneInfo("Asia/Kathmandu"), ZoneInfo("Australia/Lord_Howe")]),
)


@given(policy=POLICIES, steps=STEPS)
def test_whatever_the_clock_does(policy: Policy, steps: list[int]) -> None:
    host = Host(policy, "2026-03-25T00:00:00")
    for step in steps:
        host.now += timedelta(seconds=step)
        had = {it.name: made_at(it) for it in host.volume.snapshots}
        found = host.look()
        assert set(found.prune) <= had.keys()
        assert not (found.problem and found.prune)
        if had or found.make:
            assert host.volume.snapshots, "the last one stays"
        if had:
            newest = max(had, key=lambda it: had[it])
            assert newest not in found.prune or found.make
        _check_kept(host, policy, found)


def _check_kept(host: Host, policy: Policy, found: Due) -> None:
    for kind in policy.kinds():
        assert kind.period(host.now) in {kind.period(it) for it in host.times()}
    if not found.problem:
        most = sum(it.most for it in policy.kinds())
        assert len(host.times()) <= most + 1


@given(policy=POLICIES, minutes=st.integers(20, 90))
def test_a_clock_that_only_goes_on(policy: Policy, minutes: int) -> None:
    host = Host(policy, "2026-10-23T00:00:00").run("2026-10-28T00:00:00", timedelta(minutes=minutes))
    for kind in policy.kinds():
        assert len(_runs(kind, host.times())) >= min(kind.most, 1)
    assert host.times() == sorted(host.times())
    assert all(b > a for a, b in pairwise(host.times()))


def _runs(kind: Kind, times: list[datetime]) -> set[tuple[int, ...]]:
    return {kind.period(it) for it in times}
