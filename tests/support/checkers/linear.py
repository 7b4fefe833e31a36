"""Is a history of reads and writes of one register linearizable? A value may be written more than once.

What a register may hold is followed through time (Lowe, "Testing for linearizability", just-in-time
linearization): each state is a value and those open writes that took effect already. When a call returns,
only the states remain in which it did; when none remains, no order explains the history.
"""

import math
from collections.abc import Hashable, Iterable
from typing import NamedTuple


class Call(NamedTuple):
    """A read or a write of `value`, when it was called and when it returned: infinity if it never did.

    A write with FUA is a write; a TRIM is a write of what is read of a place never written.
    """

    writes: bool
    value: Hashable
    called: float
    returned: float = math.inf


class _State(NamedTuple):
    """What the register holds, and the open calls that took effect."""

    value: Hashable
    done: frozenset[int] = frozenset()


def faults(calls: Iterable[Call], initial: Hashable = None) -> list[str]:
    """What is wrong with a history; nothing, if there is an order of it that explains all reads."""
    history = _that_matter(list(calls))
    states = {_State(initial)}
    opened: dict[int, Call] = {}
    for _, ends, number in sorted(_events(history)):
        call = history[number]
        if not ends:
            opened[number] = call
            continue
        states = {state for state in _reachable(states, opened) if number in state.done}
        states = {state._replace(done=state.done - {number}) for state in states}
        del opened[number]
        if not states:
            return [_complaint(call)]
    return []


def _that_matter(calls: list[Call]) -> list[Call]:
    """Without those that never returned and that no read shows: they may never have been carried out."""
    seen = {call.value for call in calls if not call.writes}
    return [call for call in calls if call.returned < math.inf or (call.writes and call.value in seen)]


def _events(history: list[Call]) -> Iterable[tuple[float, bool, int]]:
    """(when, whether it is the end, which call); of one moment's, the beginnings come first."""
    for number, call in enumerate(history):
        yield call.called, False, number
        if call.returned < math.inf:
            yield call.returned, True, number


def _reachable(states: set[_State], opened: dict[int, Call]) -> set[_State]:
    """All states that calls which are open can make of these."""
    found: set[_State] = set()
    left = [_read(state, opened) for state in states]
    while left:
        state = left.pop()
        if state not in found:
            found.add(state)
            left += [_read(after, opened) for after in _written(state, opened)]
    return found


def _read(state: _State, opened: dict[int, Call]) -> _State:
    """Every open read that can be answered is: that hinders none that follows."""
    answered = {n for n, call in opened.items() if not call.writes and call.value == state.value}
    return state._replace(done=state.done | answered)


def _written(state: _State, opened: dict[int, Call]) -> Iterable[_State]:
    for number, call in opened.items():
        if call.writes and number not in state.done:
            yield _State(call.value, state.done | {number})


def _complaint(read: Call) -> str:
    """Of a read always: a write can take effect in every state."""
    return f"{read.value} was read from {read.called} to {read.returned}, and no order explains it"
