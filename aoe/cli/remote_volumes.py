"""Volumes that a daemon tells of: to users, too, that may not look into its pools themselves."""

from collections.abc import Callable, Iterator
from typing import Any

from aoe.cli.asking import ask
from aoe.cli.pools import sentence
from aoe.cli.report import Report
from aoe.control.hand import Hand
from aoe.errors import ConfigurationError
from aoe.pool.names import VolumeName

Facts = dict[str, Any]


def listing(hand: Hand, only: str | None, report: Report, in_line: Callable[[Facts], str]) -> int:
    """A line for each pool and for each volume, which `in_line` writes. 1 if something does not fit, or a
    pool is not there."""
    known = {str(it["name"]): it for it in ask(hand, "status")["pools"]}
    if only is None and not known:
        raise ConfigurationError("the file of the daemon names no pool; add [[pool]], and apply it")
    for name in known if only is None else [only]:
        _list(hand, name, known.get(name, {}), report, in_line)
    return int(report.failed)


def _list(hand: Hand, pool: str, facts: Facts, report: Report, in_line: Callable[[Facts], str]) -> None:
    if facts.get("problem"):
        report.fail(ConfigurationError(str(facts["problem"])), pool=pool, path=facts["path"])
        return
    if facts and not report.as_json:
        report.say(sentence(pool, facts))
    for told in _portions(hand, pool):
        for volume in told["volumes"]:
            report.say(in_line(volume), **volume)
        for problem in (*told["problems"], *told["leftovers"]):
            report.fail(ConfigurationError(f"{pool}: {problem}"), pool=pool)


def _portions(hand: Hand, pool: str, after: str = "") -> Iterator[Facts]:
    more = True
    while more:
        told = ask(hand, "volumes", pool=pool, after=after)
        yield told
        after, more = str(told["last"]), bool(told["more"])


def shown(hand: Hand, name: VolumeName) -> Facts:
    """One volume. ConfigurationError where there is none."""
    for told in _portions(hand, name.pool):
        for facts in told["volumes"]:
            if facts["volume"] == str(name._replace(snapshot="")):
                return dict(facts)
    raise ConfigurationError(f"there is no volume {name._replace(snapshot='')}")
