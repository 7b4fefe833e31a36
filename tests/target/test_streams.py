"""Writes of an epoch that is over are not carried out (order rule T9), and foreign frames are none of its."""

import itertools
import os
import random
from typing import Any

import pytest

from aoe import timing
from aoe.drive import identify as drive_identify
from aoe.drive.command import STAMPED
from aoe.drive.identify import Vendor
from aoe.limits import REPLAY_WINDOW, STREAMS_MAX
from aoe.target.effects import Forged
from aoe.target.streams import Place, Streams
from aoe.wire.protocol import MTU_MIN, STAMP_TRAILER, STAMPED_SECTORS_MIN, sectors_per_frame
from aoe.wire.stamp import Stamp, earlier, stamp_of
from aoe.wire.stamp import stamped as wire_stamped
from tests.support.checkers.foreign import Foreigner
from tests.target import driver
from tests.target.driver import MS, SECOND, Driver, make_driver, make_export

MAC, OTHER = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
INSTANCE, BEFORE = 0x1122334455667788, 0x99
AGE_NS = 1000 * MS
LIFE_NS = timing.NETWORK_LIFETIME_NS + AGE_NS
FOREIGN_FRAMES = int(os.environ.get("AOE_FOREIGN_FRAMES", "100000"))

tags = itertools.count(100)


def stamped(raw: bytes, stream: int, epoch: int, instance: int = INSTANCE, tag: int = 0) -> bytes:
    """With a tag that nobody had before, unless told."""
    return driver.stamped(raw, stream, epoch, instance, tag or next(tags))


def write(stream: int, epoch: int, fill: int = 1, **how: int) -> bytes:
    return stamped(driver.write(0, bytes([fill]) * 512), stream, epoch, **how)


def identify(stream: int, epoch: int, src: bytes = driver.CLIENT, **how: int) -> bytes:
    return stamped(driver.identify(src=src), stream, epoch, **how)


def flush(stream: int, epoch: int, **how: int) -> bytes:
    return stamped(driver.flush(), stream, epoch, **how)


def make_target(instance: int = INSTANCE) -> Driver:
    """Its checks of replies know one request for each tag, and the frames here come again."""
    about = {"instance": instance, "frame_age_ms": 1000, "streams": True}
    target = make_driver(make_export(identity=about))
    target.checked = False
    return target


def registers(target: Driver, raw: bytes, **how: int) -> bool:
    """Whether the answer to an IDENTIFY says that its stream is known."""
    return answered(target, raw, **how).streams


def answered(target: Driver, raw: bytes, **how: int) -> Vendor:
    """What the answer to an IDENTIFY says; its checksum is right whatever that is."""
    data = target.ask(raw, **how).data
    assert sum(data) % 256 == 0
    vendor = drive_identify.vendor_of(data)
    assert vendor is not None
    assert vendor.instance == target.export.identity.instance
    return vendor


def flood(target: Driver, first: int = 1000, number: int = STREAMS_MAX) -> int:
    """So many others register; how many there was a place for."""
    return sum(registers(target, identify(first + n, 0, src=OTHER)) for n in range(number))


# Stamps


def test_half_of_the_epochs_are_earlier() -> None:
    for epoch in range(256):
        before = {other for other in range(256) if earlier(other, epoch)}
        assert before == {(epoch - n) % 256 for n in range(1, 128)}


def test_a_stamp_is_where_the_standard_has_nothing() -> None:
    trim = stamped(driver.trim((0, 1)), 0x1234, 7)
    for raw in (write(0x1234, 7), identify(0x1234, 7), flush(0x1234, 7), trim):
        assert stamp_of(raw) == Stamp(0x1234, 7, INSTANCE)
        assert stamp_of(raw + bytes(12)) == Stamp(0x1234, 7, INSTANCE), "padding may follow"
    assert {0x34, 0x3D, 0xE7, 0xEA, 0x06} < STAMPED
    assert not STAMPED & {0x24, 0x42, 0xEC, 0xEF}


def test_what_the_initiator_writes_is_what_the_target_reads() -> None:
    for raw in (driver.write(0, bytes(1024)), driver.identify(), driver.flush(), driver.trim((0, 1))):
        body = wire_stamped(raw[24:], Stamp(9, 3, INSTANCE))
        assert raw[:20] + b"\x80\0\0\7" + body == stamped(raw, 9, 3, tag=7)


@pytest.mark.parametrize("ours", [write(5, 0), identify(5, 0), flush(5, 0)])
def test_what_lacks_anything_of_a_stamp_is_not_ours(ours: bytes) -> None:
    assert stamp_of(ours[:20] + b"\x7f" + ours[21:]) is None, "the tag of another client"
    for end in range(36, len(ours)):
        assert stamp_of(ours[:end]) is None
    for place in range(len(ours) - STAMP_TRAILER, len(ours) - 8):
        for bit in range(8):
            assert stamp_of(ours[:place] + bytes((ours[place] ^ 1 << bit,)) + ours[place + 1 :]) is None


def test_a_trailer_among_the_data_is_data() -> None:
    """An image may hold recorded frames."""
    for data in (driver.TRAILER + bytes(508), bytes(500) + write(5, 0)[-12:]):
        assert stamp_of(driver.write(0, data, tag=1 << 31)) is None


def test_a_stamped_frame_fits_the_mtu() -> None:
    for mtu in range(MTU_MIN, 9101):
        sectors = sectors_per_frame(mtu)
        assert sectors < STAMPED_SECTORS_MIN or 36 + 512 * sectors + 12 <= mtu + 14
    assert sectors_per_frame(MTU_MIN) == 1, "where there is no room for it"


# The table


def test_who_was_not_heard_for_longest_makes_room_once_nothing_of_it_is_under_way() -> None:
    streams = Streams()
    for number in range(1, STREAMS_MAX + 1):
        assert streams.register(MAC, Stamp(number, 0, 0), 1, number, 0)
    streams.see(MAC, Stamp(1, 0, 0), 2, 1000)
    assert not streams.register(OTHER, Stamp(1, 0, 0), 3, 1000, since_ns=2), "the second was heard since"
    assert streams.register(OTHER, Stamp(1, 0, 0), 3, 1000, since_ns=3)
    assert not streams.stale(MAC, Stamp(1, 0, 0), 4)
    assert streams.stale(MAC, Stamp(2, 0, 0), 5)
    assert not streams.stale(MAC, Stamp(3, 0, 0), 6)


def test_what_is_late_does_not_make_it_older() -> None:
    streams = Streams()
    streams.register(MAC, Stamp(1, 0, 0), 1, 500, 0)
    streams.see(MAC, Stamp(1, 0, 0), 2, 400)
    for number in range(2, STREAMS_MAX + 1):
        streams.register(MAC, Stamp(number, 0, 0), 1, 600, 0)
    assert not streams.register(OTHER, Stamp(1, 0, 0), 3, 700, since_ns=500)
    assert streams.register(OTHER, Stamp(1, 0, 0), 3, 700, since_ns=501)


@pytest.mark.parametrize("others", [1, STREAMS_MAX, 3 * STREAMS_MAX])
def test_others_that_register_let_no_old_write_in(others: int) -> None:
    target = make_target()
    hello, old = identify(5, 0), write(5, 0, 1)
    assert registers(target, hello)
    assert target.send(old)
    assert target.send(write(5, 0, 2))
    assert flood(target, number=others) == min(others, STREAMS_MAX - 1)
    target.send(hello)
    assert not target.send(old)
    assert target.disk[:512] == bytes([2]) * 512


def test_an_epoch_that_is_over_stays_so_whoever_registers() -> None:
    """The old write was never here before, so that no tag tells."""
    target = make_target()
    hello, old = identify(5, 0), write(5, 0, 1)
    target.send(hello)
    assert target.send(flush(5, 1))
    assert target.send(write(5, 1, 2))
    flood(target)
    target.send(hello)
    assert not target.send(old)
    assert target.disk[:512] == bytes([2]) * 512


def test_who_finds_no_place_is_told_so_and_is_served_without() -> None:
    target = make_target()
    assert flood(target, number=STREAMS_MAX) == STREAMS_MAX
    assert registers(target, driver.identify()), "we heed streams"
    assert not registers(target, identify(5, 0))
    assert not target.send(write(5, 0))
    assert target.send(driver.write(0, bytes(512)))
    target.now_ns += LIFE_NS
    assert not registers(target, identify(5, 0)), "something of them may be under way to the nanosecond"
    target.now_ns += 1
    assert registers(target, identify(5, 0))
    assert target.send(write(5, 0))


def test_a_stream_that_is_used_keeps_its_place() -> None:
    target = make_target()
    assert registers(target, identify(5, 0))
    for _ in range(8):
        target.now_ns += LIFE_NS
        assert target.send(write(5, 0))
        flood(target, first=next(tags))
    assert target.send(write(5, 0))


def test_a_stepped_clock_makes_nobody_old() -> None:
    target = make_target()
    target.clock(target.now_ns, 1 * SECOND)
    hello, old = identify(5, 0), write(5, 0, 1)
    assert registers(target, hello)
    assert target.send(old)
    assert target.send(write(5, 0, 2))
    target.clock(target.now_ns + 3600 * SECOND, 1 * SECOND)
    target.responder.drained(target.port)
    flood(target)
    target.send(hello)
    assert not target.send(old)
    assert target.disk[:512] == bytes([2]) * 512


# Who registers


def test_only_who_names_the_present_life_registers() -> None:
    target = make_target()
    assert registers(target, driver.identify())
    assert not target.send(write(5, 0)), "the first question asks, it does not register"
    target.send(identify(5, 0, instance=BEFORE))
    assert not target.send(write(5, 0))
    assert registers(target, identify(5, 0))
    assert target.send(write(5, 0))


def test_garbage_in_the_reserved_bytes_of_identify_registers_nothing() -> None:
    target = make_target()
    raw = bytearray(driver.identify(tag=1 << 31 | 7))
    raw[25], raw[34:36] = 9, b"\0\5"
    assert registers(target, bytes(raw))
    assert not target.send(write(5, 0))


def test_an_identify_that_is_too_old_is_answered_and_registers_nothing() -> None:
    target = make_target()
    assert not registers(target, identify(5, 0), age_ns=AGE_NS + 1)
    assert not target.send(write(5, 0))
    assert not registers(target, identify(5, 0), age_ns=-1), "from the future: the clock was stepped"
    assert not target.send(write(5, 0))
    assert registers(target, identify(5, 0), age_ns=AGE_NS)
    assert target.send(write(5, 0))


@pytest.mark.parametrize("age_ns", [AGE_NS + 1, 30 * AGE_NS, -1])
def test_an_identify_that_is_too_old_is_told_that_its_stream_is_known_already(age_ns: int) -> None:
    """It waited while no process served. Its stream goes on, and nobody is to take another one for that."""
    target = make_target()
    assert registers(target, identify(5, 0))
    assert registers(target, identify(5, 0), age_ns=age_ns)
    assert not registers(target, identify(6, 0), age_ns=age_ns)
    assert not registers(target, identify(5, 0, src=OTHER), age_ns=age_ns), "that is another client's"
    assert target.send(write(5, 0))


def test_one_that_is_too_old_keeps_no_place() -> None:
    streams = Streams()
    for number in range(1, STREAMS_MAX + 1):
        streams.register(MAC, Stamp(number, 0, 0), 1, number, 0)
    assert streams.place(MAC, Stamp(1, 0, 0), 2) is Place.KNOWN
    assert streams.register(OTHER, Stamp(1, 0, 0), 3, 1000, since_ns=2) is Place.KNOWN
    assert streams.place(MAC, Stamp(1, 0, 0), 4) is Place.NONE


def test_a_question_to_everybody_registers_nothing() -> None:
    target = make_target()
    raw = stamped(driver.identify(shelf=0xFFFF, slot=0xFF), 5, 0)
    assert not registers(target, raw)
    assert not target.send(write(5, 0))


def test_an_earlier_life_is_dropped_whoever_registers_its_stream_again() -> None:
    """A restart within a second forgets nothing: what is left of the old one names another instance."""
    before = make_target(BEFORE)
    hello, old = identify(5, 0, instance=BEFORE), write(5, 0, 1, instance=BEFORE)
    late = flush(5, 1, instance=BEFORE)
    assert before.send(hello)
    assert before.send(old)
    after = make_target()
    assert registers(after, driver.identify())
    assert registers(after, identify(5, 0))
    assert after.send(write(5, 0, 2))
    assert after.send(hello), "it is answered: who asks is to learn of the present one"
    assert not after.send(old)
    assert not after.send(late)
    assert after.responder.counters["stale"] == 2
    assert after.disk[:512] == bytes([2]) * 512
    assert after.send(write(5, 0, 3)), "nor does the old FLUSH end anything"


def test_what_was_sent_before_it_registered_is_not_carried_out() -> None:
    target = make_target()
    early = write(5, 0)
    assert registers(target, identify(5, 0))
    assert not target.send(early)
    assert target.send(write(5, 0))


# Who is heeded


def heeded(target: Driver, raw: bytes, **how: int) -> bool:
    return answered(target, raw, **how).heeded


def test_who_names_a_stream_that_is_known_is_told_that_it_is_heeded() -> None:
    target = make_target()
    assert not heeded(target, driver.identify())
    assert heeded(target, identify(5, 0))
    assert heeded(target, identify(5, 0)), "it is known already"
    assert heeded(target, identify(5, 0), age_ns=AGE_NS + 1)
    assert not heeded(target, identify(6, 0), age_ns=AGE_NS + 1)
    assert not heeded(target, identify(5, 0, instance=BEFORE))
    assert not heeded(target, stamped(driver.identify(shelf=0xFFFF, slot=0xFF), 5, 0))


@pytest.mark.parametrize("age_ns", [0, AGE_NS + 1])
def test_who_names_an_epoch_that_is_over_is_not_heeded(age_ns: int) -> None:
    """As after a FLUSH of another host: the stream has its place, and what is sent in it is dropped."""
    target = make_target()
    assert heeded(target, identify(5, 0))
    assert target.send(flush(5, 1))
    found = answered(target, identify(5, 0), age_ns=age_ns)
    assert (found.streams, found.heeded) == (True, False)
    assert not target.send(write(5, 0))
    assert heeded(target, identify(5, 1), age_ns=age_ns)
    assert target.send(write(5, 1))


def test_who_is_behind_the_window_of_tags_is_not_heeded() -> None:
    """As after a write that another host sent, with a tag far ahead."""
    target = make_target()
    assert heeded(target, identify(5, 0, tag=10))
    assert target.send(write(5, 0, tag=20 + REPLAY_WINDOW))
    assert not heeded(target, identify(5, 0, tag=20))
    assert not target.send(write(5, 0, tag=20))
    assert heeded(target, identify(5, 0, tag=21))
    assert target.send(write(5, 0, tag=21))


def test_who_gets_a_place_that_was_lost_is_heeded_from_then_on() -> None:
    target = make_target()
    assert registers(target, identify(5, 0))
    early = write(5, 0)
    target.now_ns += 2 * LIFE_NS
    assert flood(target) == STREAMS_MAX
    target.now_ns += 2 * LIFE_NS
    assert heeded(target, identify(5, 0))
    assert not target.send(early)
    assert target.send(write(5, 0))


# Epochs and tags


def test_a_write_of_an_earlier_epoch_is_dropped() -> None:
    target = make_target()
    target.send(identify(5, 0))
    assert target.send(write(5, 0))
    assert target.send(flush(5, 1))
    assert not target.send(write(5, 0, 2))
    assert target.responder.counters["stale"] == 1
    assert target.send(write(5, 1, 3))


def test_a_later_epoch_counts_from_the_first_write_on() -> None:
    target = make_target()
    target.send(identify(5, 0))
    assert target.send(write(5, 1))
    assert not target.send(write(5, 0))
    assert not target.send(flush(5, 0)), "it could vouch for nothing"


@pytest.mark.parametrize("to", [{"dst": OTHER}, {"slot": driver.SLOT + 1}])
def test_what_was_sent_to_another_host_or_disk_begins_no_epoch(to: dict[str, Any]) -> None:
    target = make_target()
    assert registers(target, identify(5, 0))
    elsewhere = driver.write(0, bytes([9]) * 512, **to), driver.flush(**to)
    for raw in elsewhere:
        assert target.send(stamped(raw, 5, 9)) == []
    target.ask(write(5, 1, fill=7))
    assert target.disk[0] == 7


def test_who_did_not_register_is_dropped_and_so_is_its_flush() -> None:
    target = make_target()
    assert not target.send(write(5, 0))
    assert not target.send(flush(5, 0))
    target.send(identify(5, 0))
    assert target.send(write(5, 0))
    assert not target.send(write(6, 0))


def test_a_frame_that_the_network_repeats_is_carried_out_once() -> None:
    target = make_target()
    target.send(identify(5, 0))
    first = write(5, 0, 1)
    assert target.send(first)
    assert target.send(write(5, 0, 2))
    assert not target.send(first)
    assert target.disk[:512] == bytes([2]) * 512


@pytest.mark.parametrize("away", [1 << 30, (1 << 30) + 1, (1 << 31) - REPLAY_WINDOW])
def test_a_tag_from_the_other_half_of_all_tags_is_behind(away: int) -> None:
    target = make_target()
    target.send(identify(5, 0, tag=7))
    assert not target.send(write(5, 0, tag=7 + away))
    assert not target.send(flush(5, 1, tag=7 + away))
    assert target.responder.counters["stale"] == 2
    assert target.send(write(5, 0, tag=7 + (1 << 30) - 1))


def test_the_window_of_tags_is_exact() -> None:
    """Against a set that remembers everything; tags come round at 2**31."""
    rng = random.Random(1)
    streams, done = Streams(), set[int]()
    first = newest = (1 << 31) - 3000
    streams.register(MAC, Stamp(1, 0, 0), newest, 0, 0)
    for _ in range(20_000):
        place = newest + rng.choice([1, 1, 1, 2, 70, 2000]) - rng.choice([0, 0, 0, 5, 300, 1500])
        stale = streams.stale(MAC, Stamp(1, 0, 0), place % (1 << 31))
        assert stale is (place in done or place <= max(first, newest - REPLAY_WINDOW))
        if not stale:
            streams.see(MAC, Stamp(1, 0, 0), place % (1 << 31), 0)
            done.add(place)
            newest = max(newest, place)
    assert len(done) > 10_000


def test_a_flush_that_is_too_old_vouches_for_no_epoch() -> None:
    """Its epoch was not heeded, so earlier writes may still come."""
    target = make_target()
    target.send(identify(5, 0))
    assert not target.send(flush(5, 1), age_ns=1001 * MS)
    assert target.send(write(5, 0))
    assert target.send(driver.flush(), age_ns=1001 * MS), "everybody else's is answered"


# Everybody else


def test_everybody_else_is_not_concerned() -> None:
    target = make_target()
    target.send(identify(5, 9))
    assert target.send(driver.ata(0x34, 1, 0, bytes(512), aflags=0x41))
    assert target.send(driver.flush())
    assert not target.responder.counters["stale"]


def test_whatever_foreign_clients_leave_in_their_frames_they_are_served() -> None:
    """Reserved bytes, Feature, tag and filler at random; 100,000, or as AOE_FOREIGN_FRAMES has it."""
    target = make_target()
    target.send(identify(5, 3))
    foreign = Foreigner(random.Random(1), driver.SERVER, driver.SHELF, driver.SLOT, sectors=2048)
    for _ in range(FOREIGN_FRAMES):
        asked = foreign.request()
        (raw,) = target.send(asked)
        foreign.check(asked, raw)
        target.log.clear()
    assert not target.responder.counters["stale"]
    assert bytes(target.disk) == foreign.disk


# Who ends the writes of others


def forged(target: Driver, raw: bytes) -> list[bytes]:
    """Whose writes, a frame tells us, were ended by somebody else."""
    effects = target.responder.receive(target.port, "origin", raw, target.now_ns, target.now_ns)
    return [effect.mac for effect in effects if isinstance(effect, Forged)]


def test_a_flush_that_the_client_did_not_send_is_told_of_once_the_client_goes_on() -> None:
    target = make_target()
    assert not forged(target, identify(5, 0))
    assert target.send(write(5, 0))
    assert target.send(flush(5, 100))
    assert not target.send(write(5, 0, 2)), "its own frames are of an epoch that is over"
    assert not forged(target, identify(5, 0))
    assert forged(target, identify(6, 0)) == [driver.CLIENT]
    assert target.send(write(6, 0, 3))
    assert not forged(target, identify(7, 0)), "it is told once"


def test_what_is_only_late_is_not_taken_for_a_forgery() -> None:
    target = make_target()
    target.send(identify(5, 0))
    late = write(5, 0)
    assert target.send(flush(5, 1))
    target.send(identify(5, 2))
    assert not target.send(late)
    assert target.send(write(5, 1))
    assert not forged(target, identify(6, 0))
