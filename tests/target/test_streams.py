"""Writes of an epoch that is over are not carried out (order rule T9)."""

import itertools
import random

from aoe.drive.command import STAMPED
from aoe.limits import REPLAY_WINDOW, STREAMS_MAX
from aoe.target.streams import Streams
from aoe.wire.stamp import Stamp, earlier, stamp_of
from tests.target import driver
from tests.target.driver import make_driver

MAC, OTHER = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"


tags = itertools.count(100)


def stamped(raw: bytes, stream: int, epoch: int, tag: int = 0) -> bytes:
    """With a tag that nobody had before, unless told."""
    raw = raw[:20] + (1 << 31 | (tag or next(tags))).to_bytes(4, "big") + raw[24:]
    return raw[:25] + bytes((epoch,)) + raw[26:34] + stream.to_bytes(2, "big") + raw[36:]


def write(stream: int, epoch: int, fill: int = 1, lba: int = 0) -> bytes:
    return stamped(driver.ata(0x34, 1, lba, bytes([fill]) * 512, aflags=0x41), stream, epoch)


def identify(stream: int, epoch: int) -> bytes:
    return stamped(driver.identify(), stream, epoch)


def flush(stream: int, epoch: int) -> bytes:
    return stamped(driver.flush(), stream, epoch)


def test_half_of_the_epochs_are_earlier() -> None:
    for epoch in range(256):
        before = {other for other in range(256) if earlier(other, epoch)}
        assert before == {(epoch - n) % 256 for n in range(1, 128)}


def test_a_stamp_is_where_the_standard_has_nothing() -> None:
    assert stamp_of(write(0x1234, 7)) == Stamp(0x1234, 7)
    assert stamp_of(driver.flush()) == Stamp(0, 0)
    assert {0x34, 0x3D, 0xE7, 0xEA} < STAMPED
    assert not STAMPED & {0x24, 0xEC, 0x06}


def test_who_was_not_heard_for_longest_is_forgotten_first() -> None:
    streams = Streams()
    for number in range(1, STREAMS_MAX + 1):
        streams.register(MAC, Stamp(number, 0), 1)
    streams.register(MAC, Stamp(1, 0), 2)
    streams.register(OTHER, Stamp(1, 0), 3)
    assert not streams.stale(MAC, Stamp(1, 0), 4)
    assert streams.stale(MAC, Stamp(2, 0), 5)
    assert not streams.stale(MAC, Stamp(3, 0), 6)


def test_a_write_of_an_earlier_epoch_is_dropped() -> None:
    target = make_driver()
    target.send(identify(5, 0))
    assert target.send(write(5, 0))
    assert target.send(flush(5, 1))
    assert not target.send(write(5, 0, 2))
    assert target.responder.counters["stale"] == 1
    assert target.send(write(5, 1, 3))


def test_a_later_epoch_counts_from_the_first_write_on() -> None:
    target = make_driver()
    target.send(identify(5, 0))
    assert target.send(write(5, 1))
    assert not target.send(write(5, 0))
    assert not target.send(flush(5, 0)), "it could vouch for nothing"


def test_who_did_not_register_is_dropped_and_so_is_its_flush() -> None:
    target = make_driver()
    assert not target.send(write(5, 0))
    assert not target.send(flush(5, 0))
    target.send(identify(5, 0))
    assert target.send(write(5, 0))
    assert not target.send(write(6, 0))


def test_everybody_else_is_not_concerned() -> None:
    target = make_driver()
    target.send(identify(5, 9))
    assert target.send(driver.ata(0x34, 1, 0, bytes(512), aflags=0x41))
    assert target.send(driver.flush())
    assert not target.responder.counters["stale"]


def test_a_frame_that_the_network_repeats_is_carried_out_once() -> None:
    target = make_driver()
    target.send(identify(5, 0))
    first = write(5, 0, 1)
    assert target.send(first)
    assert target.send(write(5, 0, 2))
    assert not target.send(first)
    assert target.export is not None
    assert target.disk[:512] == bytes([2]) * 512


def test_the_window_of_tags_is_exact() -> None:
    """Against a set that remembers everything; tags come round at 2**31."""
    rng = random.Random(1)
    streams, done = Streams(), set[int]()
    newest = (1 << 31) - 3000
    streams.register(MAC, Stamp(1, 0), newest, changes=False)
    done.add(newest)
    for _ in range(20_000):
        place = newest + rng.choice([1, 1, 1, 2, 70, 2000]) - rng.choice([0, 0, 0, 5, 300, 1500])
        stale = streams.stale(MAC, Stamp(1, 0), place % (1 << 31))
        assert stale is (place in done or place <= newest - REPLAY_WINDOW)
        if not stale:
            streams.register(MAC, Stamp(1, 0), place % (1 << 31))
            done.add(place)
            newest = max(newest, place)


def test_a_flush_that_is_too_old_vouches_for_no_epoch() -> None:
    """Its epoch was not heeded, so earlier writes may still come."""
    target = make_driver()
    target.send(identify(5, 0))
    assert not target.send(flush(5, 1), age_ns=1001 * driver.MS)
    assert target.send(write(5, 0))
    assert target.send(driver.flush(), age_ns=1001 * driver.MS), "everybody else's is answered"
