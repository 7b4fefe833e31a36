"""What the schedules of the file have to do now, by the records of its pools: where these are."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from fnmatch import fnmatchcase
from typing import Any

from aoe import limits
from aoe.config.values import ScheduleConfig
from aoe.errors import AoeError
from aoe.node.pools import Pools
from aoe.pool.asked import Wish
from aoe.pool.requests import Cut, Delete
from aoe.pool.schedule import Due, Policy, due
from aoe.pool.work import Work

Facts = dict[str, Any]


class Looks:
    """When each schedule was looked at last, for as long as this process runs."""

    def __init__(self) -> None:
        self._last: dict[str, datetime] = {}

    def dues(self, pools: Pools, now: datetime) -> list[Facts]:
        """What is to be done at a time, as JSON. What an answer has no room for is due at the next look."""
        found = [it for schedule in pools.schedules for it in self._of(schedule, pools, now)]
        self._last = {it.name: now for it in pools.schedules}
        return sorted(found, key=lambda it: not it["make"])[: limits.SCHEDULE_DUES_MAX]

    def _of(self, schedule: ScheduleConfig, pools: Pools, now: datetime) -> Iterator[Facts]:
        policy = policy_of(schedule)
        for pool in dict.fromkeys(it.partition("/")[0] for it in schedule.volumes):
            said = {"schedule": schedule.name, "cause": policy.cause, "pool": pool}
            try:
                with pools.turn(pool) as work:
                    found = list(_in_pool(work, pool, schedule, policy, now, self._last.get(schedule.name)))
            except AoeError as error:
                yield {**said, "volume": "", "make": "", "prune": [], "problem": str(error)}
            else:
                yield from ({**said, **it} for it in found)


def wishes_of(due: Facts) -> list[Wish]:
    """The verbs that do what is due for a volume."""
    volume = str(due["volume"])
    made: list[Wish] = [Cut(volume, due["make"], cause=str(due["cause"]))] if due["make"] else []
    return [*made, *(Delete(volume, name) for name in due["prune"])]


def policy_of(schedule: ScheduleConfig) -> Policy:
    """What it keeps."""
    return Policy(
        name=schedule.name,
        hourly=schedule.keep_hourly,
        daily=schedule.keep_daily,
        weekly=schedule.keep_weekly,
        monthly=schedule.keep_monthly,
        zone=_zone(schedule.timezone),
    )


def _zone(name: str | None) -> tzinfo:
    if name is None:
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - few files name one

    return ZoneInfo(name)


def _in_pool(
    work: Work, pool: str, schedule: ScheduleConfig, policy: Policy, now: datetime, last: datetime | None
) -> Iterator[Facts]:
    for name, volume in work.volumes.items():
        if volume.template or not _is_meant(schedule.volumes, f"{pool}/{name}"):
            continue
        tree = work.tree
        held = [it.name for it in volume.snapshots if tree.clones(volume, it)]
        found: Due = due(policy, volume, now, last, held)
        problem = "" if last is None else found.problem
        if found.make or found.prune or problem:
            prune = list(found.prune[: limits.SCHEDULE_PRUNED_MAX])
            yield {"volume": name, "make": found.make, "prune": prune, "problem": problem}


def _is_meant(patterns: Iterable[str], name: str) -> bool:
    return any(fnmatchcase(name, it) for it in patterns)
