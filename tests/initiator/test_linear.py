"""The checker that failover tests rest on: it accepts what is possible, and finds what was planted."""

import itertools
import math
import random

import pytest

from tests.support.checkers.linear import Call, faults


def write(value: int, called: float, returned: float = math.inf) -> Call:
    return Call(True, value, called, returned)


def trim(called: float, returned: float = math.inf) -> Call:
    return Call(True, None, called, returned)


def read(value: int | None, called: float, returned: float) -> Call:
    return Call(False, value, called, returned)


def possible(calls: list[Call]) -> bool:
    """By trying every order; writes that never returned may be left out."""
    for order in itertools.permutations(calls):
        at = {id(call): place for place, call in enumerate(order)}
        if any(a.returned < b.called and at[id(a)] > at[id(b)] for a in calls for b in calls):
            continue
        pending = [call for call in order if call.writes and call.returned == math.inf]
        for left_out in itertools.chain.from_iterable(
            itertools.combinations(pending, n) for n in range(len(pending) + 1)
        ):
            value, good = None, True
            for call in order:
                if call.writes:
                    value = value if call in left_out else call.value  # type: ignore[assignment]
                elif call.value != value:
                    good = False
                    break
            if good:
                return True
    return False


@pytest.mark.parametrize("trims", [False, True])
@pytest.mark.parametrize("seed", range(300))
def test_it_agrees_with_trying_every_order(seed: int, trims: bool) -> None:
    rng = random.Random(seed)
    calls = []
    for value in range(rng.randrange(1, 4)):
        called = rng.randrange(20)
        calls.append(write(value, called, math.inf if rng.random() < 0.2 else called + rng.randrange(1, 8)))
    for _ in range(rng.randrange(3) if trims else 0):
        called = rng.randrange(20)
        calls.append(trim(called, math.inf if rng.random() < 0.2 else called + rng.randrange(1, 8)))
    for _ in range(rng.randrange(1, 4)):
        called = rng.randrange(24) + 0.5
        value = rng.choice([None, *(call.value for call in calls if call.writes)])
        calls.append(Call(False, value, called, called + rng.randrange(1, 8)))
    assert (not faults(calls)) is possible(calls), calls


def sequential(rng: random.Random, length: int = 40) -> list[Call]:
    """A register that works: calls that overlap in time, carried out at some moment between."""
    calls, value, now = [], None, 0.0
    for number in range(length):
        now += 1
        early, late = rng.random() * 3, rng.random() * 3
        chosen = rng.random()
        if chosen < 0.1:
            value = None
            calls.append(trim(now - early, now + late))
        elif chosen < 0.5:
            value = number
            calls.append(write(number, now - early, now + late))
        else:
            calls.append(read(value, now - early, now + late))
    return calls


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_20_of_20_planted_stale_reads(seed: int) -> None:
    rng = random.Random(seed)
    calls = sequential(rng)
    assert not faults(calls)
    writes = [call for call in calls if call.writes and call.value is not None]
    old, new = writes[3], next(call for call in writes[4:] if call.called > writes[3].returned)
    assert faults([*calls, read(old.value, new.returned + 10, new.returned + 11)])  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_20_of_20_planted_lost_writes(seed: int) -> None:
    """The last write was acknowledged, and nobody ever sees it."""
    calls = sequential(random.Random(seed))
    end = max(call.returned for call in calls)
    before = max((call for call in calls if call.writes), key=lambda call: call.called)
    lost = write(999, end + 1, end + 2)
    assert faults([*calls, lost, read(before.value, end + 3, end + 4)])  # type: ignore[arg-type]


def test_what_never_returned_may_have_been_carried_out_or_not() -> None:
    base = [write(1, 0, 1), write(2, 2)]
    assert not faults([*base, read(1, 5, 6)])
    assert not faults([*base, read(1, 5, 6), read(2, 7, 8)])
    assert faults([*base, read(2, 5, 6), read(1, 7, 8)])


def test_what_nobody_wrote_is_a_fault() -> None:
    assert faults([read(7, 0, 1)])
    assert not faults([read(None, 0, 1)])


@pytest.mark.parametrize("seed", range(20))
def test_it_finds_20_of_20_planted_lost_trims(seed: int) -> None:
    """The last TRIM was acknowledged, and what was there before it is still read."""
    calls = sequential(random.Random(seed))
    end = max(call.returned for call in calls)
    late = [write(999, end + 1, end + 2), trim(end + 3, end + 4)]
    assert not faults([*calls, *late, read(None, end + 5, end + 6)])
    assert faults([*calls, *late, read(999, end + 5, end + 6)])


def test_a_trim_that_lands_late_is_a_fault() -> None:
    """Once read, what was written after a TRIM stays, unless another TRIM follows."""
    base = [write(1, 0, 1), trim(2, 3), write(2, 4, 5), read(2, 6, 7)]
    assert faults([*base, read(None, 8, 9)])
    assert not faults([*base, trim(7, 10), read(None, 8, 9)])
    assert not faults([*base, trim(7), read(2, 8, 9), read(None, 10, 11)])
