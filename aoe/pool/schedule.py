"""Which snapshots a schedule makes and which it prunes, from the time and from what is there.

An hour, a day, a week and a month are those of a time zone, and each gets one snapshot, at its beginning or
as soon after it as a look is had: one that was missed is made once, an hour that daylight saving repeats has
had its own, and one that it skips takes nothing from the next. Of each kind so many of the latest are kept;
what counts is those that are there, so a time without any prunes nothing.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from aoe import limits
from aoe.pool.volume import BY_SCHEDULE, Snapshot, Volume

_LONGEST = timedelta(seconds=limits.SCHEDULE_GAP)
Period = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a schedule keeps: so many snapshots, one for each hour, day, week and month in a zone."""

    name: str
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    zone: tzinfo = UTC

    @property
    def cause(self) -> str:
        """What its snapshots have for their cause."""
        return BY_SCHEDULE + self.name

    def kinds(self) -> "Iterator[Kind]":
        """Those of which something is kept."""
        for how, count in enumerate((self.hourly, self.daily, self.weekly, self.monthly)):
            if count:
                yield Kind(how, count, self.zone)


class Kind(NamedTuple):
    """Hours, days, weeks or months (0 to 3), and how many of them are kept."""

    how: int
    most: int
    zone: tzinfo

    def period(self, at: datetime) -> Period:
        """Which one a time is in. Of two hours that are called the same it is the same."""
        local = at.astimezone(self.zone)
        if self.how == 0:
            return (local.year, local.month, local.day, local.hour)
        if self.how == 1:
            return (local.year, local.month, local.day)
        return tuple(local.isocalendar()[:2]) if self.how == 2 else (local.year, local.month)


class Kept(NamedTuple):
    """A snapshot of a schedule, and when it was made (UTC)."""

    name: str
    made: datetime


class Due(NamedTuple):
    """What is to be done now: a snapshot with a name, or none; those that go; and why none of them go."""

    make: str
    prune: tuple[str, ...]
    problem: str = ""


def due(
    policy: Policy, volume: Volume, now: datetime, last: datetime | None, held: Collection[str] = ()
) -> Due:
    """What a schedule has to do with a volume. `now` and `last`, the time of the look before this one, are
    aware times; `held` are snapshots that something else is made of."""
    kept = sorted(_kept(policy, volume), key=lambda it: it.made)
    wanted = any(_lacks(kind, kept, now) for kind in policy.kinds())
    name = _name(policy, now, {it.name.casefold() for it in volume.snapshots}) if wanted else ""
    problem = _problem(kept, now, last)
    if problem:
        return Due(name, (), problem)
    there = [*kept, Kept(name, now)] if name else kept
    return Due(name, tuple(it for it in _old(policy, there) if it not in held))


def _kept(policy: Policy, volume: Volume) -> Iterator[Kept]:
    return (Kept(it.name, made_at(it)) for it in volume.snapshots if it.cause == policy.cause)


def made_at(snapshot: Snapshot) -> datetime:
    """When a snapshot was made."""
    return datetime.fromisoformat(snapshot.made.removesuffix("Z")).replace(tzinfo=UTC)


def _lacks(kind: Kind, kept: Sequence[Kept], now: datetime) -> bool:
    period = kind.period(now)
    return all(kind.period(it.made) != period for it in reversed(kept))


def _name(policy: Policy, now: datetime, taken: Collection[str]) -> str:
    """With the time in UTC, whatever the zone; empty where it is taken: the next second has another one."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{policy.name[: limits.POOL_NAME_MAX - len(stamp) - 1]}-{stamp}"
    return "" if name.casefold() in taken else name


def _problem(kept: Sequence[Kept], now: datetime, last: datetime | None) -> str:
    """Why nothing is pruned by this clock; empty where it may be right."""
    if kept and now < kept[-1].made:
        return (
            f"the clock is before the snapshot {kept[-1].name}, so nothing is pruned; set the clock, or "
            "delete that snapshot"
        )
    if last is None:
        return "nothing is pruned at the first look"
    if not timedelta(0) <= now - last <= _LONGEST:
        return "the clock made a leap since the last look, so nothing is pruned at this one"
    return ""


def _old(policy: Policy, kept: Sequence[Kept]) -> Iterator[str]:
    """Those that no kind keeps. The last one stays, whatever is kept."""
    stay = {kept[-1].name} if kept else set()
    for kind in policy.kinds():
        first: dict[Period, str] = {}
        for it in kept:
            first.setdefault(kind.period(it.made), it.name)
        stay |= set(list(first.values())[-kind.most :])
    return (it.name for it in kept if it.name not in stay)
