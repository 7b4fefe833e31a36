"""What targets have carried out, and what their client was told: no write of it is stale, and none is lost.

A write may be carried out again until it was answered, as by the door that comes next: each time it is one of
its own. What is carried out later is a copy that nobody waits for: it shows what the disk held then, as would
a read that began and ended with it. One that lands over a newer write is what no order explains (`linear`).
"""

import math
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from tests.support.checkers import linear
from tests.support.checkers.linear import Call
from tests.support.labs.guests import versions
from tests.support.labs.recorded import Write, known_by


class Execution(NamedTuple):
    """A write of a value to one place, as a target did it, on the clock of the calls."""

    value: Hashable
    began: float
    ended: float


def executions(writes: Iterable[Write], values: Mapping[str, Hashable]) -> list[Execution]:
    """Those of these values, by what a sector of each is known by."""
    return [
        Execution(value, it.began_s, it.ended_s)
        for it in writes
        for value in {values[known]: None for known in it.sectors if known in values}
    ]


def faults(calls: Iterable[Call], done: Iterable[Execution]) -> list[str]:
    """What is wrong with one place, at which first was None: what its clients called, and what was done."""
    history, carried_out = list(calls), list(done)
    until = {it.value: it.returned for it in history if it.writes}
    seen = [Call(it.began <= until.get(it.value, -math.inf), *it) for it in carried_out]
    reads = [it for it in history if not it.writes]
    return [*_never_done(history, carried_out), *linear.faults([*reads, *seen])]


def _never_done(calls: list[Call], done: list[Execution]) -> list[str]:
    """No answer without a write, even where nobody reads what is there."""
    first: dict[Hashable, float] = {}
    for it in done:
        first[it.value] = min(it.ended, first.get(it.value, math.inf))
    return [
        f"{it.value} was acknowledged at {it.returned}, and not carried out before"
        for it in calls
        if it.writes and first.get(it.value, math.inf) > it.returned
    ]


def in_turn(values: Sequence[Hashable], done: Iterable[Execution], over: float = math.inf) -> list[Call]:
    """The calls of a client that wrote these one after the other, all before `over`; its clock is not that of
    its targets. Each was called after the one before had returned, and before it was carried out first: so
    at that moment it was called at the latest, and the one before had returned."""
    first: dict[Hashable, float] = {}
    for it in done:
        first[it.value] = min(it.began, first.get(it.value, math.inf))
    calls = list[Call]()
    for value in reversed(values):
        called = min(first.get(value, math.inf), over)
        calls.append(Call(True, value, called, over))
        over = math.nextafter(called, -math.inf)
    return calls[::-1]


def faults_of_versions(writes: Iterable[Write], newest: Mapping[int, int]) -> list[str]:
    """What is wrong with writers in a guest (`versions`), all of whose writes were acknowledged by now: up to
    which version of each place."""
    over, all_of_them, found = time.monotonic(), list(writes), list[str]()
    for place, last in newest.items():
        written = range(1, last + 1)
        done = executions(all_of_them, {known_by(versions.first_sector(place, it)): it for it in written})
        found += [f"place {place}: {it}" for it in faults(in_turn(written, done, over), done)]
    return found
