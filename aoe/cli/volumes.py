"""`aoe-target volume`: verbs on the volumes of a pool, done by the daemon that has it, or without one by this
command itself under the pool's lock."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from aoe.cli.asking import CONFIG, ask, connected, tell
from aoe.cli.bar import Bar
from aoe.cli.cutting_bar import CuttingBar
from aoe.cli.pools import facts_of as pool_facts
from aoe.cli.pools import (
    in_words,
    named,
    one,
    say_downloads,
    say_leftovers,
    sentence,
    until_a_signal,
    working,
)
from aoe.cli.remote_volumes import listing, shown
from aoe.cli.report import Report
from aoe.config.values import PoolConfig
from aoe.control.hand import Hand
from aoe.control.rights import VOLUME
from aoe.errors import AoeError, ConfigurationError, ControlFailed, PoolError
from aoe.pool.asked import Wish
from aoe.pool.asked import facts_of as facts_of_request
from aoe.pool.facts import facts_of
from aoe.pool.names import Format, VolumeName, parse
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback
from aoe.pool.work import Work

Facts = dict[str, Any]


class How(NamedTuple):
    """What may be said of every verb. With a `config` the command works itself; else a daemon does, if there
    is one."""

    config: Path | None
    socket: Path | None
    json: bool
    plan: bool
    force: bool = False


class Verb(NamedTuple):
    """One request for one pool."""

    how: How
    pool: str
    request: Wish
    volume: str
    """What the volume is called afterwards."""

    @property
    def json(self) -> bool:
        """Whether it says so."""
        return self.how.json

    def run(self, report: Report) -> int:
        """Do it, or have it done; with `plan` say what would be."""
        hand = daemon(self.how.config, self.how.socket, report)
        if hand is None:
            return until_a_signal(report, lambda: self._run(report))
        with hand:
            return self._ask(hand, report)

    @property
    def _cut(self) -> list[str]:
        """The volumes of which snapshots may be made while they are served, which takes a while."""
        request = self.request
        cut = request.volumes if isinstance(request, Cut) else ()
        cloned = (request.source,) if isinstance(request, Clone) and not request.snapshot else ()
        return [str(VolumeName(self.pool, volume)) for volume in (*cut, *cloned)]

    def _run(self, report: Report) -> int:
        with working(one(self.how.config or CONFIG, self.pool), locked=not self.how.plan) as work:
            if self.how.plan:
                return planned(report, work.plan(self.request).sentences)
            done = work.do(self.request)
            for note in done.notes:
                report.warn(note, note=note)
            report.say(done.done, done=done.done, **after(work, self.volume))
        return 0

    def _ask(self, hand: Hand, report: Report) -> int:
        how = {"plan": self.how.plan, "force": self.how.force}
        with Bar(report) as bar, CuttingBar(bar, self.how.socket, [] if self.how.plan else self._cut):
            done = ask(hand, VOLUME, pool=self.pool, request=facts_of_request(self.request), **how)
        status = tell(report, done)
        if isinstance(self.request, Rename) and not self.how.plan:
            for address, path in done["paths"].items():
                _follow(hand, str(address), str(path), report)
        return status


def _follow(hand: Hand, address: str, path: str, report: Report) -> None:
    """An export of a volume goes on by its new name, also after a restart."""
    try:
        ask(hand, "set", address=address, keys={"path": path}, gone=[], taken=[])
    except ControlFailed as error:
        error.add_note(f'{address} serves it on until a restart; write path = "{path}" in the file')
        report.fail(error)
    else:
        more = f"aoe-target set {address} --save puts that into the file"
        report.say(f"{address}: serves it on as {path}; {more}", address=address, path=path)


def planned(report: Report, steps: Iterable[str]) -> int:
    """Say what would be done."""
    them = list(steps)
    report.say("\n".join(them), steps=them)
    return 0


def daemon(config: Path | None, socket: Path | None, report: Report) -> Hand | None:
    """What asks a daemon; None where there is none, and none was named, or where a file was named, for the
    command to work itself. ControlFailed."""
    if config is not None and socket is None:
        return None
    try:
        return connected(socket, report)
    except ControlFailed as error:
        if socket is None and error.kind == "no-daemon":
            return None
        raise


def after(work: Work, volume: str) -> Facts:
    """Of a verb that left one."""
    return facts_of(work, volume) if volume in work.volumes else {"volume": work.tree.said(volume)}


class List(NamedTuple):
    """Look at all volumes."""

    config: Path | None
    socket: Path | None
    json: bool
    pool: str | None

    def run(self, report: Report) -> int:
        """A line for each pool and volume. 1 if something does not fit, or a pool is not there."""
        hand = daemon(self.config, self.socket, report)
        if hand is not None:
            with hand:
                return listing(hand, self.pool, report, in_line)
        file = self.config or CONFIG
        if self.pool is not None:
            _list(one(file, self.pool), report)
            return int(report.failed)
        for pool in named(file):
            try:
                _list(pool, report)
            except AoeError as error:
                report.fail(error, pool=pool.name, path=pool.place)
        return int(report.failed)


def _list(pool: PoolConfig, report: Report) -> None:
    with working(pool, locked=False) as work:
        if not report.as_json:
            report.say(sentence(pool.name, pool_facts(work, pool)))
        for volume in sorted(work.volumes):
            try:
                facts = facts_of(work, volume)
            except PoolError as error:
                report.fail(error, volume=work.tree.said(volume))
            else:
                report.say(in_line(facts), **facts)
        say_leftovers(work, report)
        say_downloads(work, report)


class Show(NamedTuple):
    """Look at one volume."""

    config: Path | None
    socket: Path | None
    json: bool
    volume: str

    def run(self, report: Report) -> int:
        """All there is to say of it."""
        name = parse(self.volume)
        hand = daemon(self.config, self.socket, report)
        if hand is not None:
            with hand:
                facts = shown(hand, name)
        else:
            with working(one(self.config or CONFIG, name.pool), locked=False) as work:
                facts = facts_of(work, name.volume)
        report.say("\n".join(_lines(facts)), **facts)
        return 0


# Words


def create(volume: str, size: int, format: Format | None, **how: Any) -> Verb:
    """What was typed, here and below; ConfigurationError for what is no name."""
    name = only_volume(volume)
    return Verb(How(**how), name.pool, Create(name.volume, size, format), name.volume)


def clone(source: str, volume: str, **how: Any) -> Verb:
    name, of = only_volume(volume), parse(source)
    _check_one_pool(of, name)
    return Verb(How(**how), name.pool, Clone(of.volume, of.snapshot, name.volume), name.volume)


def snapshot(snapshots: list[str], **how: Any) -> Verb:
    name, *others = (_snapshot(it) for it in snapshots)
    for other in others:
        _check_one_pool(name, other)
        if other.snapshot != name.snapshot:
            raise ConfigurationError(f"{name} and {other} have two names; snapshots of one moment have one")
    request = Cut(name.volume, name.snapshot, tuple(it.volume for it in others))
    return Verb(How(**how), name.pool, request, name.volume)


def rollback(snapshot: str, **how: Any) -> Verb:
    name = _snapshot(snapshot)
    return Verb(How(**how), name.pool, Rollback(name.volume, name.snapshot), name.volume)


def resize(volume: str, size: int, shrink: bool, **how: Any) -> Verb:
    name = only_volume(volume)
    return Verb(How(**how), name.pool, Resize(name.volume, size, shrink), name.volume)


def rename(volume: str, new: str, **how: Any) -> Verb:
    name, now = only_volume(volume), only_volume(new)
    _check_one_pool(name, now)
    return Verb(How(**how), name.pool, Rename(name.volume, now.volume), now.volume)


def delete(volume: str, recursive: bool, **how: Any) -> Verb:
    name = parse(volume)
    request = Delete(name.volume, name.snapshot, recursive)
    return Verb(How(**how), name.pool, request, name.volume)


def only_volume(text: str) -> VolumeName:
    """A name of a volume, and of no snapshot. ConfigurationError."""
    name = parse(text)
    if name.snapshot:
        raise ConfigurationError(f"{text} names a snapshot; name a volume, as POOL/VOLUME")
    return name


def _snapshot(text: str) -> VolumeName:
    name = parse(text)
    if not name.snapshot:
        raise ConfigurationError(f"{text} names no snapshot; write it as POOL/VOLUME@SNAPSHOT")
    return name


def _check_one_pool(one: VolumeName, other: VolumeName) -> None:
    if one.pool != other.pool:
        raise ConfigurationError(f"{one} and {other} are in two pools; name one")


# What is said


def in_line(facts: Facts) -> str:
    """The same in a line."""
    used = f"{in_words(facts['allocated_bytes'])} used, {in_words(facts['own_bytes'])} its own"
    kept = facts["snapshot_count"]
    parts = [f"{facts['volume']}: {in_words(facts['bytes'])} {facts['format']}", used]
    if kept:
        held = in_words(facts["snapshot_bytes"])
        parts.append(f"{kept} snapshot{'s' * (kept != 1)} holding {held} or more")
    if facts["parent"]:
        parts.append(f"a clone of {facts['parent']}")
    if facts.get("cutting"):
        parts.append(f"cutting @{facts['cutting']}: {100 * facts['cut']:.0f} %")
    return ", ".join(parts)


def _lines(facts: Facts) -> list[str]:
    """The same in several."""
    said = [in_line(facts), f"  uuid {facts['uuid']}, made {facts['made']}", f"  {facts['path']}"]
    said += _last(facts, "snapshot")
    for it in facts["snapshots"]:
        said.append(f"  @{it['name']}: {in_words(it['bytes'])}, made {it['made']} ({it['cause']})")
    said += _last(facts, "clone")
    return said + [f"  cloned to {it}" for it in facts["clones"]]


def _last(facts: Facts, what: str) -> list[str]:
    """A daemon tells of so many only."""
    count = facts[f"{what}_count"]
    all_told = count == len(facts[f"{what}s"])
    return [] if all_told else [f"  of {count} {what}s the last are told; --config FILE shows all"]
