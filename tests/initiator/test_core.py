"""Requests of the sans-I/O initiator: what becomes of their pieces."""

from aoe.drive import identify
from aoe.drive.identify import Identity
from aoe.initiator.core import Core
from aoe.initiator.path import Port
from aoe.initiator.ranges import RangeLock, Ranges
from aoe.initiator.request import Verb
from aoe.timing import USUAL
from tests.initiator.test_channel import MS, OWN, reply
from tests.initiator.test_session import ADDRESS, pass_probes, told
from tests.initiator.test_session import sent as sent_by

NOW = 3 * MS + USUAL.settle_in_ns


def sent(core: Core) -> list[bytes]:
    """What it has to say, once."""
    return sent_by(core.session)


def make_core(window: int) -> Core:
    """One path has been looked at and chosen."""
    core = Core(1, [ADDRESS], 1)
    core.set_port(0, Port(OWN, 16, 64, True), MS)
    (query,) = sent(core)
    core.received(0, told(query, buffers=window), 2 * MS)
    (look,) = sent(core)
    core.received(0, reply(look, identify.build(Identity(2048, "S", frame_age_ms=1000))), 3 * MS)
    pass_probes(core.session, 3 * MS)
    core.tick(NOW)
    assert core.chosen
    return core


def test_what_is_abandoned_is_not_sent_as_it_makes_room_for_itself() -> None:
    core = make_core(window=2)
    request = core.start(Verb.WRITE, 0, 8 * 8192, bytes(8 * 8192), NOW)
    assert len(sent(core)) == 2
    core.abandon(request, NOW)
    assert sent(core) == []
    assert core.pending == 2


def test_the_room_goes_to_others() -> None:
    core = make_core(window=1)
    request = core.start(Verb.READ, 0, 3 * 8192, b"", NOW)
    core.start(Verb.READ, 512, 512, b"", NOW)
    assert len(sent(core)) == 1
    core.abandon(request, NOW)
    (other,) = sent(core)
    assert other[28] == 1


def test_a_range_that_is_closed_again_lets_nothing_go_twice() -> None:
    """As one that is compared anew: what waited for it once does not wait for it any more."""
    ranges, compared, first, second = Ranges(), RangeLock(0, 8), RangeLock(0, 8), RangeLock(0, 8)
    ranges.enter(compared)
    ranges.enter(first)
    assert ranges.leave(compared) == [first]
    assert ranges.leave(first) == []
    for lock in (compared, second, first):
        ranges.enter(lock)
    assert ranges.leave(compared) == [second]
    assert first.waits == 1, "for the second"
    assert ranges.leave(second) == [first]
