"""A TRIM is of a stream and an epoch as a write is (order rule T9); one of a foreign client is none of it."""

import pytest

from aoe.drive import identify as drive_identify
from aoe.drive.identify import VENDOR_TRIMS, Identity
from aoe.wire.stamp import Stamp, stamp_of
from tests.target import driver
from tests.target.driver import MS, Driver, make_driver, make_export
from tests.target.test_streams import BEFORE, INSTANCE, flush, identify, registers, stamped, write

SECTORS = 2048
DONE, NOT_THERE, ABORTED = (0x40, 0), (0x41, 0x10), (0x41, 0x04)
ZEROES, WRITTEN = bytes(512), bytes([1]) * 512


def make_target() -> Driver:
    """It has our stream 5, and something to be trimmed."""
    about = {"instance": INSTANCE, "frame_age_ms": 1000, "streams": True}
    target = make_driver(make_export(identity=about))
    target.checked = False
    assert registers(target, identify(5, 0))
    assert target.send(write(5, 0))
    return target


def trim(stream: int, epoch: int, *, lba: int = 0, **how: int) -> bytes:
    return stamped(driver.trim((lba, 1)), stream, epoch, **how)


def is_stale(target: Driver, raw: bytes, **how: int) -> bool:
    """Whether it is dropped as such, and nothing is trimmed."""
    before = target.responder.counters["stale"]
    answers = target.send(raw, **how)
    return not answers and target.responder.counters["stale"] == before + 1 and target.disk[:512] == WRITTEN


def test_its_epoch_is_in_the_register_that_it_does_not_use() -> None:
    raw = driver.trim((0, 1))
    ours = stamped(raw, 0x1234, 7)
    assert stamp_of(ours) == Stamp(0x1234, 7, INSTANCE)
    assert (ours[25], ours[28:34]) == (1, b"\7\0\0\0\0\0")
    assert ours[36:-12] == raw[36:]


def test_one_of_the_present_epoch_is_carried_out() -> None:
    target = make_target()
    answer = target.ask(trim(5, 0))
    assert (answer.status, target.disk[:512]) == (DONE, ZEROES)


def test_one_of_an_earlier_epoch_is_dropped() -> None:
    target = make_target()
    late = trim(5, 0)
    assert target.send(flush(5, 1))
    assert is_stale(target, late)
    assert target.send(trim(5, 1))


def test_it_begins_an_epoch_itself() -> None:
    target = make_target()
    assert target.send(trim(5, 3, lba=8))
    assert is_stale(target, write(5, 2))
    assert is_stale(target, trim(5, 2))


def test_one_whose_stream_did_not_register_is_dropped() -> None:
    assert is_stale(make_target(), trim(6, 0))


@pytest.mark.parametrize("instance", [BEFORE, 0])
def test_one_for_another_life_is_dropped(instance: int) -> None:
    assert is_stale(make_target(), trim(5, 0, instance=instance))


def test_what_the_network_repeats_is_carried_out_once() -> None:
    target = make_target()
    first = trim(5, 0)
    assert target.send(first)
    assert target.send(write(5, 0))
    assert is_stale(target, first)


def test_one_that_cannot_be_done_counts_as_seen_too() -> None:
    target = make_target()
    wrong = trim(5, 2, lba=1 << 40)
    assert target.ask(wrong).status == NOT_THERE
    assert is_stale(target, wrong)
    assert is_stale(target, write(5, 1))


def test_one_that_is_too_old_begins_no_epoch() -> None:
    target = make_target()
    assert not target.send(trim(5, 1), age_ns=1001 * MS)
    assert target.responder.counters["expired"] == 1
    assert target.send(write(5, 0))


def test_an_error_names_no_epoch_as_the_sector_that_failed() -> None:
    target = make_target()
    answer = target.ask(trim(5, 9, lba=1 << 40))
    assert (answer.status, answer.lba) == (NOT_THERE, 0)


@pytest.mark.parametrize("feature", [0, 2, 3, 255])
def test_another_function_of_the_same_command_is_refused_as_before(feature: int) -> None:
    target = make_target()
    raw = trim(5, 0)
    assert target.ask(raw[:25] + bytes((feature,)) + raw[26:]).status == ABORTED
    assert target.disk[:512] == WRITTEN


@pytest.mark.parametrize("lba", [0, 7, 0xA0 << 24, 0xFFFFFFFFFFFF])
def test_one_of_a_foreign_client_is_served_whatever_its_lba_says(lba: int) -> None:
    """Also behind the highest bit of a tag, and once an epoch is over."""
    target = make_target()
    assert target.send(flush(5, 9))
    raw = bytearray(driver.trim((0, 1), tag=1 << 31))
    raw[28:34] = lba.to_bytes(6, "little")
    answer = target.ask(bytes(raw))
    assert (answer.status, answer.lba, target.disk[:512]) == (DONE, lba, ZEROES)
    assert not target.responder.counters["stale"]


def test_identify_says_that_it_is_so() -> None:
    """An initiator stamps none for a target of the version before, which would not ask for it."""
    for streams in (False, True):
        data = drive_identify.build(Identity(SECTORS, "S", streams=streams, instance=INSTANCE))
        vendor = drive_identify.vendor_of(data)
        assert vendor is not None
        assert (vendor.streams, vendor.trims) == (streams, streams)
    vendor = drive_identify.vendor_of(drive_identify.without_streams(data))
    assert vendor is not None
    assert (vendor.streams, vendor.trims) == (False, True), "it is true of those that are known"
    assert VENDOR_TRIMS == 1 << 4
