"""Which way carries an operation, and what it means for the operation when it ends."""

from aoe.drive import identify
from aoe.drive.identify import Identity
from aoe.initiator.path import Path, Peer
from aoe.initiator.session import Effect, Operation, Send, Session, Settled, State, Way
from aoe.wire import ata
from aoe.wire.ata import AtaRequest
from tests.initiator.test_path import MS, OWN, SERVER, reply


def make_session(window_max: int = 64) -> tuple[Session, Way]:
    """A session whose one way has been looked at."""
    way = Way("way", Path(Peer(OWN, SERVER, 7, 3), window_max=window_max, first_tag=1, quiesce_ns=0))
    session = Session([way])
    (look,) = sent(session.begin(0))
    session.received(way, reply(look, identify.build(Identity(2048, "S", frame_age_ms=1000))), MS)
    assert way.state is State.USABLE
    assert session.owner is way
    return session, way


def sent(effects: list[Effect]) -> list[bytes]:
    return [effect.frame for effect in effects if isinstance(effect, Send)]


def settled(effects: list[Effect]) -> list[Operation]:
    return [effect.operation for effect in effects if isinstance(effect, Settled)]


def write(lba: int) -> Operation:
    body = ata.encode(AtaRequest(0x41, 0, 1, 0x34, lba, bytes(512)))
    return Operation(body, changes=True, reply_min=36)


def test_what_waits_for_the_window_settles_once_when_it_is_abandoned() -> None:
    session, _ = make_session(window_max=1)
    session.start(write(0), MS)
    waiting = write(1)
    assert not sent(session.start(waiting, MS))
    assert settled(session.abandon(waiting, MS)) == [waiting]


def test_what_waits_for_a_way_settles_once_when_it_is_abandoned() -> None:
    session, way = make_session()
    session.link_changed(way, False, MS)
    waiting = write(0)
    assert not sent(session.start(waiting, MS))
    assert settled(session.abandon(waiting, MS)) == [waiting]


def test_what_was_sent_settles_once_when_nothing_can_come_of_it() -> None:
    session, _ = make_session()
    operation = write(0)
    assert sent(session.start(operation, MS))
    assert settled(session.abandon(operation, MS)) == []
    assert settled(session.tick(3001 * MS)) == [operation]
    assert settled(session.tick(9000 * MS)) == []
