"""The table of a path's life, and that a session goes by it."""

import pytest

from aoe.initiator.core import Core
from aoe.initiator.facts import Reason
from aoe.initiator.life import ROWS, TABLE, Do, Happens, State
from aoe.initiator.session import Session
from tests.initiator.play import Play, Server, both

CANNOT_HAPPEN = {
    Happens.SILENT: {State.DOWN, State.REFUSED},
    Happens.SLOW: {*State} - {State.USABLE},
    Happens.EQUAL: {*State} - {State.COMPARED, State.RETRIED},
    Happens.REPLACED: {*State} - {State.USABLE},
    Happens.CHOSEN: {*State} - {State.USABLE, State.COMPARED},
}
"""Nothing is owed by a path that is not asked, only samples are equal, only an owner is replaced."""


def test_a_pair_has_a_row_or_cannot_happen() -> None:
    missing = {(state, happens) for state in State for happens in Happens} - set(TABLE)
    assert missing == {(state, happens) for happens, states in CANNOT_HAPPEN.items() for state in states}


def test_every_state_is_come_to_and_left() -> None:
    assert {row.to for row in ROWS} == {*State, None}
    for state in State:
        assert {row.to for (was, _), row in TABLE.items() if was is state} - {state, None}


def test_a_loss_gives_up_and_then_turns_to_others() -> None:
    for (state, happens), row in TABLE.items():
        lost = row.to in (State.DOWN, State.REFUSED, State.RETRIED)
        if state is State.USABLE and (lost or happens is Happens.REPLACED):
            assert row.do[-2:] == (Do.GIVE_UP, Do.TURN), (state, happens)
        assert (Do.GIVE_UP in row.do) == (Do.TURN in row.do), (state, happens)


def test_a_lost_path_is_looked_at_again() -> None:
    later = {Do.AGAIN_SOON, Do.AGAIN_SLOW, Do.AGAIN_REFUSED, Do.AGAIN_CONDEMNED}
    at_once = {Happens.UNPLUGGED, Happens.SILENT}
    for (state, happens), row in TABLE.items():
        if row.to in (State.DOWN, State.REFUSED, State.RETRIED):
            assert len(later & {*row.do}) == 1 or happens in at_once, (state, happens)


def test_sizes_are_learned_anew_where_a_path_comes_from_elsewhere() -> None:
    for happens in (Happens.FIT, Happens.UNSURE):
        for state in State:
            row = TABLE[state, happens]
            assert (Do.RESIZE in row.do) is (state is not State.USABLE)
            assert Do.MEASURE in row.do


def test_what_cannot_happen_is_a_mistake_of_ours() -> None:
    play = Play(Core, Server(0)).run(200)
    session: Session = play.core.session
    (path,) = session.paths
    session.note(path, Happens.EQUAL)
    with pytest.raises(AssertionError, match="EQUAL does not happen to a path that is USABLE"):
        session.tick(play.now)


@both
def test_a_path_that_was_lost_is_being_checked_while_it_is_compared(make: type) -> None:
    """It answers; to say that it is down would be wrong."""
    store = bytearray(4096 * 512)
    play = Play(make, Server(0, store), Server(1, store)).run(500)
    (lost,) = (server for server in play.servers if server.mac != play.owner)
    lost.deaf = True
    play.run(12_000)
    assert play.path(lost)[5:7] == (State.DOWN, Reason.SILENT)
    lost.restart(77)
    lost.deaf = False
    play.cut = lambda _, raw, back: back and raw[6:12] == lost.mac and len(raw) > 600
    play.run(1100)
    assert play.core.comparing
    assert play.path(lost)[5:7] == (State.CHECKING, Reason.NONE)
    play.cut = lambda *_: False
    play.run(500)
    assert play.path(lost)[5:7] == (State.USABLE, Reason.NONE)
