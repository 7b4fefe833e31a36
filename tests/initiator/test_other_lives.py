"""What a server that has begun another life says of what the one before was asked (order rules T8 to T10)."""

import pytest

from aoe.drive import identify
from aoe.initiator.compiled_core import CompiledCore
from aoe.initiator.core import Core
from aoe.initiator.path import Operation
from aoe.initiator.request import Verb
from aoe.initiator.session import Session
from aoe.wire.stamp import stamp_of
from tests.initiator.play import MS as PLAY_MS
from tests.initiator.play import Play, Server, both
from tests.initiator.test_channel import MS, reply
from tests.initiator.test_session import NOW, advertised, identity, read, sent, settled, write
from tests.initiator.test_streams import SILENT_NS, asked, make_stamped_session, silence

ALONE = identity(streams=True, instance=5, alone=True)
NOT_ALONE = identity(streams=True, instance=5)


def abandoned(session: Session, operation: Operation) -> None:
    """It was sent, and nobody waits for the answer."""
    session.start(operation, NOW)
    session.abandon(operation, NOW)
    sent(session)


def begin_another_life(session: Session, data: bytes, now: int = NOW + MS) -> list[bytes]:
    """The server tells of itself, is asked what it is, and is told of our stream; what is sent then."""
    session.received(0, advertised(), now)
    for _ in range(2):
        session.received(0, reply(asked(session), data), now)
    return sent(session)


def test_it_is_over_where_the_server_alone_has_the_store() -> None:
    session, _ = make_stamped_session()
    operation = write(0)
    abandoned(session, operation)
    begin_another_life(session, ALONE)
    assert settled(session) == [operation]


def test_it_may_still_come_where_it_does_not_say_so() -> None:
    session, _ = make_stamped_session()
    operation = write(0)
    abandoned(session, operation)
    begin_another_life(session, NOT_ALONE)
    assert settled(session) == []


def test_what_named_no_life_may_still_come() -> None:
    session, path = make_stamped_session()
    stamp, path.channel.stamp = path.channel.stamp, path.channel.stamp._replace(stream=0)
    operation = write(0)
    abandoned(session, operation)
    path.channel.stamp = stamp
    begin_another_life(session, ALONE)
    assert settled(session) == []


def test_what_names_the_present_life_may_still_come() -> None:
    session, path = make_stamped_session()
    begin_another_life(session, ALONE)
    operation = write(0)
    abandoned(session, operation)
    path.reborn = True  # as after one that could not be believed
    session.look(path, NOW + 2 * MS)
    session.received(0, reply(asked(session), ALONE), NOW + 2 * MS)
    assert settled(session) == []


@pytest.mark.parametrize("data", [ALONE, NOT_ALONE], ids=["alone", "not alone"])
def test_what_is_open_is_asked_again_at_once(data: bytes) -> None:
    """Reads, too: the next copies would go out when the server has been silent for as long again."""
    session, path = make_stamped_session()
    for operation in (write(0), write(8), read(64), read(72)):
        session.start(operation, NOW)
    sent(session)
    again = begin_another_life(session, data)
    assert [(raw[27], raw[28]) for raw in again] == [(0x24, 64), (0x24, 72), (0x34, 0), (0x34, 8)]
    assert {stamp_of(raw) for raw in again if raw[27] == 0x34} == {path.channel.stamp}


def test_what_was_sent_again_counts_as_sent_once() -> None:
    """The range opens with its answer, and another copy is not waited for as the last of many."""
    session, _ = make_stamped_session()
    operation = write(0)
    session.start(operation, NOW)
    silence(session)
    assert session.paths[0].channel.stuck
    (raw,) = begin_another_life(session, ALONE, NOW + SILENT_NS)
    assert not session.paths[0].channel.stuck
    session.received(0, reply(raw), NOW + SILENT_NS + MS)
    assert settled(session) == [operation]


def test_a_life_that_cannot_be_believed_is_asked_nothing() -> None:
    """One that has another disk by now, until it has ours again."""
    session, path = make_stamped_session()
    session.start(write(0), NOW)
    sent(session)
    session.received(0, advertised(), NOW)
    session.received(0, reply(asked(session), identity("T", streams=True, instance=5, alone=True)), NOW)
    assert [raw for raw in sent(session) if raw[27] == 0x34] == []
    assert path.reborn
    session.tick(path.check_after_ns)
    session.received(0, reply(asked(session), ALONE), path.check_after_ns)
    assert not path.reborn
    assert sent(session)[-1][27] == 0x34, "it waited for a path"


@both
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "not alone"])
def test_a_range_opens_when_the_server_is_back(make: type[Core] | type[CompiledCore], alone: bool) -> None:
    """A write that went out before and after its server was killed, and another one of the same sectors."""
    server = Server(1, streams=True, alone=alone)
    play = Play(make, server).run(300)
    server.deaf = True
    play.start(Verb.WRITE, 0, 512, bytes(512))
    play.run(300)
    server.deaf = False
    server.restart(99)
    began = play.now
    play.arrive(0, server.advertisement())
    assert play.write(0, b"\1" * 512) is not None
    took_ms = (play.now - began) / PLAY_MS
    assert (took_ms < 50) is alone, took_ms
    assert server.store[:512] == b"\1" * 512


def test_the_bit_of_identify() -> None:
    for data, alone in ((ALONE, True), (NOT_ALONE, False)):
        vendor = identify.vendor_of(data)
        assert vendor is not None
        assert (vendor.alone, vendor.streams) == (alone, True)
        assert identify.sums_up(data)
