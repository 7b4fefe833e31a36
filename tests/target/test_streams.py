"""Writes of an epoch that is over are not carried out (order rule T9)."""

from aoe.drive.command import STAMPED
from aoe.limits import STREAMS_MAX
from aoe.target.streams import Streams
from aoe.wire.stamp import Stamp, earlier, stamp_of
from tests.target import driver
from tests.target.driver import make_driver

MAC, OTHER = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"


def stamped(raw: bytes, stream: int, epoch: int) -> bytes:
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
        streams.register(MAC, Stamp(number, 0))
    streams.register(MAC, Stamp(1, 0))
    streams.register(OTHER, Stamp(1, 0))
    assert not streams.stale(MAC, Stamp(1, 0))
    assert streams.stale(MAC, Stamp(2, 0))
    assert not streams.stale(MAC, Stamp(3, 0))


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
