"""`aoe-target pool`, and what `aoe-target volume` needs of it: the pools of a file, opened to work there."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aoe import timing
from aoe.cli.config_file import load
from aoe.cli.ending import SAID, Ended
from aoe.cli.report import Report
from aoe.config.values import PoolConfig
from aoe.errors import AoeError, ConfigurationError
from aoe.pool import download, store
from aoe.pool.figures import Measured, figures
from aoe.pool.room import Room
from aoe.pool.work import Work
from aoe.printable import plain

_WORDS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


class List(NamedTuple):
    """Look at every pool of a file."""

    config: Path
    json: bool

    def run(self, report: Report) -> int:
        """Say of each how it is. 1 if one is not there, or has in it what does not fit."""
        for pool in named(self.config):
            try:
                with working(pool, locked=False) as work:
                    facts = {"pool": pool.name, **facts_of(work, pool)}
                    report.say(sentence(pool.name, facts), **facts)
                    say_leftovers(work, report)
                    say_downloads(work, report)
            except AoeError as error:
                report.fail(error, pool=pool.name, path=pool.place)
        return int(report.failed)


class Init(NamedTuple):
    """Mark a directory or thin pool as a pool."""

    config: Path
    json: bool
    name: str
    plain: bool

    def run(self, report: Report) -> int:
        """Make it one, or say why not."""
        pool = one(self.config, self.name)
        if self.plain and pool.kind != "directory":
            raise ConfigurationError(f"{pool.name} is no directory; leave out --plain")
        store.init(pool.place, kind=pool.kind, name=pool.name, plain_directory=self.plain)
        with working(pool, locked=False) as work:  # a daemon has it from now on
            shares = work.shares
            how = "volumes are raw and share blocks" if shares else _WITHOUT
            report.say(
                f"{pool.name}: {plain(pool.place)} is a pool now; {how}", pool=pool.name, reflink=shares
            )
        return 0


_WITHOUT = "its file system shares no blocks between files, as XFS and btrfs do, so volumes are qcow2"


def named(config: Path) -> tuple[PoolConfig, ...]:
    """The pools of a file; ConfigurationError where it has none."""
    pools = load(config).pools
    if not pools:
        raise ConfigurationError(f"{plain(str(config))} names no pool; add [[pool]] with name and path")
    return pools


def one(config: Path, name: str) -> PoolConfig:
    """A pool of a file by its name; ConfigurationError where there is none."""
    pools = named(config)
    for pool in pools:
        if pool.name == name:
            return pool
    has = ", ".join(it.name for it in pools)
    raise ConfigurationError(f"{plain(str(config))} names no pool {plain(name)}; it has {has}")


@contextmanager
def working(pool: PoolConfig, *, locked: bool = True) -> Iterator[Work]:
    """Work on a pool, or only look at it."""
    work = Work(pool.place, kind=pool.kind, name=pool.name, reserve=pool.reserve, locked=locked)
    try:
        yield work
    finally:
        work.close()


def facts_of(work: Work, pool: PoolConfig) -> dict[str, Any]:
    """A pool as an object."""
    work.measure()
    found = figures(work, Measured(), timing.POOL_TURN_S)
    return {
        "path": pool.place,
        "kind": pool.kind,
        "total_bytes": found.total,
        "free_bytes": found.free,
        "reserve_percent": pool.reserve,
        "volumes": found.volumes,
        "promised_bytes": found.promised,
        "snapshots": found.snapshots,
        "snapshot_bytes": found.kept,
        "growth_bytes": found.growth,
    }


def sentence(name: str, facts: Mapping[str, Any]) -> str:
    """The same in words; of a daemon's status, too."""
    total, many, kept = facts["total_bytes"], facts["volumes"], facts["snapshots"]
    promised, reserve = facts["promised_bytes"], facts["reserve_percent"]
    low = ", below its reserve" * Room(total, facts["free_bytes"]).is_below(reserve)
    parts = [
        f"{name}: {plain(facts['path'])}",
        f"{in_words(facts['free_bytes'])} of {in_words(total)} free (reserve {reserve} %{low})",
        f"{many or 'no'} volume{'s' * (many != 1)} of {in_words(promised)} in all "
        f"({promised / max(1, total):.2f} of it)",
    ]
    if growth := facts.get("growth_bytes"):  # an older daemon does not say
        over = ", over what is free" * (growth > facts["free_bytes"])
        parts.append(f"which may take {in_words(growth)} more{over}")
    if kept:
        held = in_words(facts["snapshot_bytes"])
        parts.append(f"{kept} snapshot{'s' * (kept != 1)} holding {held} or more")
    return ", ".join(parts)


def say_leftovers(work: Work, report: Report) -> None:
    """What is in a pool that does not fit."""
    for left in work.leftovers:
        report.fail(ConfigurationError(f"{work.name}: {left.sentence}"), pool=work.name, file=left.file)


def say_downloads(work: Work, report: Report) -> None:
    """What was fetched in part for a pool."""
    scratch = work.scratch
    for it in download.waiting(scratch.path):
        changed = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(it.changed))
        file = f"{scratch.path}/{it.file}" if scratch.apart else it.file
        report.warn(
            f"{work.name}: {file}: {in_words(it.bytes)} of {plain(it.url)}, the last at {changed}; "
            "import it again to go on, or remove the file",
            **{"pool": work.name, "file": file, "url": it.url, "bytes": it.bytes, "changed": changed},
        )


def in_words(count: int) -> str:
    """Bytes with one digit behind the point, but whole ones as they are."""
    number, unit = float(count), 0
    while number >= 1024 and unit < len(_WORDS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.0f} {_WORDS[unit]}" if number == int(number) else f"{number:.1f} {_WORDS[unit]}"


def until_a_signal(report: Report, do: Callable[[], int]) -> int:
    """What it returns. A signal ends it where it is: it is to leave nothing half-made."""

    def end(number: int, _: object) -> None:
        raise Ended(number)

    heard = [it for it in SAID if signal.getsignal(it) is not signal.SIG_IGN]
    before = {number: signal.signal(number, end) for number in heard}
    try:
        return do()
    except Ended as ended:
        report.ended(ended)
        return ended.status
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
