"""A TRIM settles as a write does (order rules I2, T9): what overwrites its sectors waits for no time to pass,
where the server asks a TRIM for its stream."""

from collections.abc import Callable
from typing import Any

import pytest

from aoe.drive.identify import VENDOR_ALONE, VENDOR_STREAMS
from aoe.initiator.compiled_core import CompiledCore
from aoe.initiator.core import Core
from aoe.initiator.exchange import Kind
from aoe.initiator.path import Operation
from aoe.initiator.request import Outcome, Result, Verb
from aoe.initiator.session import Session
from aoe.wire import ata
from aoe.wire.ata import AtaRequest
from aoe.wire.stamp import stamp_of
from tests.initiator.play import MS as PLAY_MS
from tests.initiator.play import Play, Server, both, resealed
from tests.initiator.test_channel import MS, reply
from tests.initiator.test_other_lives import ALONE, abandoned, begin_another_life
from tests.initiator.test_session import NOW, identity, sent, settled, write
from tests.initiator.test_streams import asked, attached, make_stamped_session

TRIM, WRITE = 0x06, 0x34
ROUND_TRIPS_MS = 50
BY_TIME_MS = 500
"""Less than what settles by time takes longer."""
BEFORE = VENDOR_STREAMS | VENDOR_ALONE
"""What the version before this says in vendor word 138."""


Make = type[Core] | type[CompiledCore]


def trim() -> Operation:
    body = ata.encode(AtaRequest(0x41, 1, 1, TRIM, 0, bytes(512)))
    return Operation(body, kind=Kind.CHANGES, reply_min=36)


def of_before(data: bytes) -> bytes:
    """IDENTIFY as the version before this would say it."""
    return resealed(data, w138=BEFORE)


def make_session_of_before() -> Session:
    """Its server heeds streams, and asks no TRIM for its."""
    old = of_before(identity(streams=True))
    session, path = attached(old)
    session.received(0, reply(asked(session), old), 3 * MS)
    session.tick(NOW)
    assert path.channel.stamp.stream
    return session


def test_it_carries_its_stamp_behind_the_ranges() -> None:
    session, path = make_stamped_session()
    path.channel.stamp = path.channel.stamp._replace(epoch=9)
    session.start(trim(), NOW)
    (raw,) = sent(session)
    assert stamp_of(raw) == path.channel.stamp
    assert (raw[25], raw[28:34], len(raw)) == (1, b"\x09" + bytes(5), 36 + 512 + 12)


def test_one_for_a_server_of_the_version_before_is_as_it_was() -> None:
    session = make_session_of_before()
    session.start(trim(), NOW)
    (raw,) = sent(session)
    assert raw[24:] == trim().body
    session.start(write(8), NOW)
    (raw,) = sent(session)
    assert stamp_of(raw) is not None


def test_a_drain_of_the_next_epoch_settles_it_at_once() -> None:
    session, _ = make_stamped_session()
    operation = trim()
    abandoned(session, operation)
    session.tick(NOW + 5 * MS)
    (drain,) = sent(session)
    assert (drain[27], drain[25]) == (0xEA, 1)
    session.received(0, reply(drain), NOW + 6 * MS)
    assert settled(session) == [operation]


def test_it_is_over_once_its_server_alone_has_the_store() -> None:
    session, _ = make_stamped_session()
    operation = trim()
    abandoned(session, operation)
    begin_another_life(session, ALONE)
    assert settled(session) == [operation]


def test_it_may_still_come_where_the_next_life_is_of_the_version_before() -> None:
    """That one does not ask a TRIM which life it names."""
    session, _ = make_stamped_session()
    operation, other = trim(), write(64)
    abandoned(session, operation)
    abandoned(session, other)
    begin_another_life(session, of_before(ALONE))
    assert settled(session) == [other]


def test_one_that_carried_none_may_still_come_in_the_next_life() -> None:
    session = make_session_of_before()
    operation = trim()
    abandoned(session, operation)
    begin_another_life(session, ALONE)
    assert settled(session) == []


def make_server(number: int, before: bool = False, **how: Any) -> Server:
    """That has TRIM; `before`: of the version before this."""
    server = Server(number, streams=True, trim_blocks=2, **how)
    if before:
        server.says(w138=BEFORE)
    return server


def change(play: Play, verb: Verb) -> Any:
    """Begin one of the first sectors."""
    return play.start(verb, 0, 4096, b"" if verb is Verb.TRIM else bytes(4096))


def overwritten(play: Play) -> float:
    """How long a write of the first sector takes, in milliseconds."""
    began = play.now
    assert play.write(0, bytes([1]) * 512) == Result(Outcome.OK)
    return (play.now - began) / PLAY_MS


def after_a_kill(make: Make, verb: Verb, before: bool = False) -> float:
    """The change went out before and after its server was killed."""
    server = make_server(1, before, alone=True)
    play = Play(make, server).run(300)
    server.deaf = True
    change(play, verb)
    play.run(300)
    server.deaf = False
    server.restart(99)
    play.arrive(0, server.advertisement())
    return overwritten(play)


def after_a_loss(make: Make, verb: Verb, before: bool = False) -> float:
    """It was sent twice, and one copy was answered."""
    play = Play(make, make_server(1, before)).run(300)
    lost: set[bytes] = set()

    def cut(_: int, raw: bytes, from_server: bool) -> bool:
        tags = {said[20:24] for said in play.said if (said[19], said[27]) in ((0, TRIM), (0, WRITE))}
        first = from_server and not lost and raw[20:24] in tags
        lost.update([raw[20:24]] * first)
        return first

    play.cut = cut
    assert play.wait(change(play, verb)) == Result(Outcome.OK)
    assert lost
    return overwritten(play)


def after_a_failover(make: Make, verb: Verb, before: bool = False) -> float:
    """The answers of a primary were lost, so that it went to the other one, too. Now the first is back."""
    store = bytearray(4096 * 512)
    one, two = (make_server(number, before, store=store) for number in (1, 2))
    two.port = 1
    play = Play(make, one, two).run(500)
    (owner,) = [server for server in (one, two) if server.mac == play.owner]
    play.cut = lambda port, _, from_server: from_server and port == owner.port
    assert play.wait(change(play, verb)) == Result(Outcome.OK)
    opcode = TRIM if verb is Verb.TRIM else WRITE
    assert min(one.count(opcode), two.count(opcode)) > 0
    play.cut = lambda *_: False
    play.arrive(owner.port, owner.advertisement())
    return overwritten(play)


@both
@pytest.mark.parametrize("happens", [after_a_kill, after_a_loss, after_a_failover])
def test_what_overwrites_a_trim_waits_no_longer_than_what_overwrites_a_write(
    make: Make, happens: Callable[..., float]
) -> None:
    took_ms = happens(make, Verb.TRIM)
    assert took_ms <= happens(make, Verb.WRITE) + ROUND_TRIPS_MS
    assert happens(make, Verb.TRIM, before=True) > took_ms + BY_TIME_MS, "a server of the version before"
