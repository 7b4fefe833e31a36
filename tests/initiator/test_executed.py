"""The checker of what targets have carried out accepts what may be, and finds what was planted."""

import random
from typing import NamedTuple

import pytest

from tests.support.checkers.executed import Execution, executions, faults, in_turn
from tests.support.checkers.linear import Call
from tests.support.labs.recorded import Write

OVER = 1000.0


class History(NamedTuple):
    """Of one place, where nothing is wrong with it."""

    calls: list[Call]
    done: list[Execution]


def history(seed: int) -> History:
    """One write after the other; some were carried out once more, as by the door that came next, before their
    answer came."""
    rng, now, made = random.Random(seed), 0.0, History([], [])
    for value in range(12):
        called = now
        for _ in range(rng.choice((1, 1, 2))):
            began = now + rng.random()
            now = began + rng.random()
            made.done.append(Execution(value, began, now))
        now += rng.random()
        made.calls.append(Call(True, value, called, now))
        now += rng.random()
    return made


def both_ways(there: History, done: list[Execution]) -> list[list[str]]:
    """What is found by the client's clock, and without it."""
    turns = in_turn([it.value for it in there.calls], done, OVER)
    return [faults(there.calls, done), faults(turns, done)]


@pytest.mark.parametrize("seed", range(20))
def test_what_was_carried_out_again_before_it_was_answered_is_right(seed: int) -> None:
    there = history(seed)
    assert both_ways(there, there.done) == [[], []]


@pytest.mark.parametrize("seed", range(20))
def test_an_older_write_that_lands_over_a_newer_one_is_found(seed: int) -> None:
    """Whether or not the newer one was answered by then, and is carried out once more."""
    there, rng = history(seed), random.Random(seed)
    newer = there.done[rng.randrange(6, len(there.done))]
    older = next(it.value for it in there.done if it.value != newer.value)
    late = newer.ended + 1e-6
    for more in ([], [Execution(newer.value, late + 2e-6, late + 3e-6)]):
        assert all(both_ways(there, [*there.done, Execution(older, late, late + 1e-6), *more]))


@pytest.mark.parametrize("seed", range(20))
def test_a_write_that_was_answered_and_never_done_is_found(seed: int) -> None:
    """Though nobody reads it, and the last one, too."""
    there, lost = history(seed), random.Random(seed).choice((5, 11))
    found = both_ways(there, [it for it in there.done if it.value != lost])
    assert [len([it for it in some if it.startswith(f"{lost} was acknowledged")]) for some in found] == [1, 1]


def test_a_write_that_never_returned_may_be_done_or_not() -> None:
    calls = [Call(True, 1, 0, 3), Call(True, 2, 4)]
    assert not faults(calls, [Execution(1, 1, 2)])
    assert not faults(calls, [Execution(1, 1, 2), Execution(2, 5, 6)])


def test_writes_that_are_open_at_one_time_are_carried_out_in_turns() -> None:
    """Each once more by the door that comes next; but not when both were answered."""
    calls = [Call(True, 1, 0, 8), Call(True, 2, 0, 9)]
    done = [Execution(value, at, at + 0.5) for at, value in enumerate((1, 2, 1, 2), 1)]
    assert not faults(calls, done)
    assert not faults(calls, [*done, Execution(2, 10, 11)])
    assert faults(calls, [*done, Execution(1, 10, 11)])


def test_one_write_of_several_places_is_one_of_each() -> None:
    write = Write(1.0, 2.0, 8, ("a", "a", "x", "b", "b"))
    assert executions([write], {"a": (0, 7), "b": (1, 9)}) == [
        Execution((0, 7), 1.0, 2.0),
        Execution((1, 9), 1.0, 2.0),
    ]
