"""Registers to operations and outcomes to registers: the tables of opcodes, counts and errors, row by row."""

import struct
from collections import Counter

import pytest

from aoe.drive.command import (
    Drive,
    Extent,
    Identify,
    Kind,
    Operation,
    conclude,
    done,
    failed,
    interpret,
    joined,
)
from aoe.errors import DiskError, DiskFailed
from aoe.wire.ata import AtaReply, AtaRequest

SECTORS = 1 << 20
MAX = 16
DRIVE = Drive(SECTORS, trim_blocks=8)
BIG = Drive(1 << 40, trim_blocks=8)
ABRT, IDNF, UNC = 0x04, 0x10, 0x40

READS_28, READS_48 = (0x20, 0xC8, 0xC4), (0x24, 0x25, 0x29)
WRITES_28, WRITES_48 = (0x30, 0xCA, 0xC5), (0x34, 0x35, 0x39, 0x3D, 0xCE)
FUA = (0x3D, 0xCE)
READS, WRITES = READS_28 + READS_48, WRITES_28 + WRITES_48
NARROW, WIDE = READS_28 + WRITES_28, READS_48 + WRITES_48
VERIFIES = (0x40, 0x42)
FLUSHES = (0xE7, 0xEA)
POWER_NO_OPS = (0xE0, 0xE1, 0xE2, 0xE3, 0xE6)
OTHERS = (0x06, 0x90, 0xE5, 0xEC, 0xEF)
SUPPORTED = {*READS, *WRITES, *VERIFIES, *FLUSHES, *POWER_NO_OPS, *OTHERS}


def ask(
    command: int,
    count: int = 1,
    lba: int = 0,
    *,
    feature: int = 0,
    aflags: int = 0,
    data: bytes | None = None,
    drive: Drive = DRIVE,
    most: int = MAX,
) -> Operation | Identify | AtaReply:
    payload = b"w" * 512 * count if data is None else data
    return interpret(AtaRequest(aflags, feature, count, command, lba, payload), drive, most)


def refusal(error: int, count: int = 1, lba: int = 0, aflags: int = 0) -> AtaReply:
    return AtaReply(aflags, error, count, 0x41, lba)


def success(lba: int = 0, aflags: int = 0, count: int = 0) -> AtaReply:
    return AtaReply(aflags, 0, count, 0x40, lba)


# Opcodes


@pytest.mark.parametrize("command", READS)
def test_reads(command: int) -> None:
    assert ask(command, 2, 7) == Operation(Kind.READ, (Extent(7, 2),))


@pytest.mark.parametrize("command", WRITES)
def test_writes(command: int) -> None:
    assert ask(command, 2, 7) == Operation(Kind.WRITE, (Extent(7, 2),), b"w" * 1024, command in FUA)


@pytest.mark.parametrize("command", FLUSHES)
def test_flushes(command: int) -> None:
    assert ask(command, 0, 0xFFFFFFFFFFFF, data=b"") == Operation(Kind.FLUSH)


@pytest.mark.parametrize("count", [0, 1, 2, 255])
@pytest.mark.parametrize("lba", [0, 0xA0000000, 0xE0000000, 0xFFFFFFFFFFFF])
@pytest.mark.parametrize("aflags", [0, 0x40, 0x41])
def test_identify_ignores_registers(count: int, lba: int, aflags: int) -> None:
    assert ask(0xEC, count, lba, aflags=aflags) is Identify.DEVICE


@pytest.mark.parametrize("command", POWER_NO_OPS)
def test_power_commands_do_nothing(command: int) -> None:
    assert ask(command, 5, 9, aflags=0x40) == success(9, 0x40)


def test_check_power_mode_says_active() -> None:
    assert ask(0xE5, 0, 9) == success(9, count=0xFF)


def test_device_diagnostic_says_ata_signature() -> None:
    assert ask(0x90, 0, 0x112233445566) == AtaReply(0, 1, 1, 0x40, 1)


@pytest.mark.parametrize("command", sorted(set(range(256)) - SUPPORTED))
def test_every_other_opcode_is_refused(command: int) -> None:
    assert ask(command, 1, 3, aflags=0x53) == refusal(ABRT, 1, 3, 0x53)


@pytest.mark.parametrize("command", [0x00, 0xA0, 0xA1, 0xB0, 0x2F, 0xF8, 0x27, 0xF1, 0xF6, 0x91, 0x10, 0x70])
def test_named_in_the_table_as_refused(command: int) -> None:
    assert command not in SUPPORTED
    assert ask(command, 1) == refusal(ABRT)


# Addresses


@pytest.mark.parametrize("command", NARROW)
@pytest.mark.parametrize("high", [0, 0x40, 0xA0, 0xE0, 0xF0])
@pytest.mark.parametrize("aflags", [0, 0x01, 0x40, 0x50])
def test_narrow_opcodes_take_28_bits_whatever_the_flags(command: int, high: int, aflags: int) -> None:
    lba = 0x0A0B0C0D | high << 24 | 0xFFFF << 32
    operation = ask(command, 1, lba, aflags=aflags, drive=BIG)
    assert isinstance(operation, Operation)
    assert operation.extents == (Extent(0x0A0B0C0D, 1),)


@pytest.mark.parametrize("command", WIDE)
@pytest.mark.parametrize("aflags", [0, 0x01, 0x40, 0x50])
def test_wide_opcodes_take_48_bits_whatever_the_flags(command: int, aflags: int) -> None:
    operation = ask(command, 1, 0x00A0B0C0D0E0, aflags=aflags, drive=BIG)
    assert isinstance(operation, Operation)
    assert operation.extents == (Extent(0xA0B0C0D0E0, 1),)


@pytest.mark.parametrize("command", READS + WRITES)
@pytest.mark.parametrize("count", [1, 2, MAX])
def test_the_end_of_the_disk(command: int, count: int) -> None:
    assert isinstance(ask(command, count, SECTORS - count), Operation)
    for lba in (SECTORS - count + 1, SECTORS, SECTORS + 1):
        assert ask(command, count, lba) == refusal(IDNF, count, lba)


@pytest.mark.parametrize("command", WIDE)
def test_the_last_address_there_is(command: int) -> None:
    assert ask(command, 1, (1 << 48) - 1) == refusal(IDNF, 1, (1 << 48) - 1)


@pytest.mark.parametrize("command", NARROW)
def test_the_last_address_28_bits_can_say(command: int) -> None:
    operation = ask(command, 2, 0x0FFFFFFF, drive=BIG)
    assert isinstance(operation, Operation)
    assert operation.extents == (Extent(0x0FFFFFFF, 2),)


# Counts and data


@pytest.mark.parametrize("command", READS + WRITES)
@pytest.mark.parametrize("most", [1, 2, 16, 255])
def test_counts(command: int, most: int) -> None:
    for count in range(256):
        answer = ask(command, count, 0, most=most)
        if 1 <= count <= most:
            assert isinstance(answer, Operation)
            assert answer.extents == (Extent(0, count),)
        else:
            assert answer == refusal(ABRT, count)


@pytest.mark.parametrize("command", READS)
def test_reads_ignore_payload(command: int) -> None:
    for data in (b"", b"x", b"x" * 1024):
        assert ask(command, 1, 5, aflags=1, data=data) == Operation(Kind.READ, (Extent(5, 1),))


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("missing", [1, 511, 512, 1024])
def test_short_data_is_refused_whole(command: int, missing: int) -> None:
    assert ask(command, 2, 5, data=b"w" * (1024 - missing)) == refusal(ABRT, 2, 5)


@pytest.mark.parametrize("command", WRITES)
@pytest.mark.parametrize("aflags", [0, 0x01, 0x03])
def test_data_beyond_the_count_is_not_written(command: int, aflags: int) -> None:
    operation = ask(command, 1, 5, aflags=aflags, data=b"a" * 512 + b"b" * 600)
    assert operation == Operation(Kind.WRITE, (Extent(5, 1),), b"a" * 512, command in FUA)


@pytest.mark.parametrize("command", [*WRITES, 0x06])
def test_read_only(command: int) -> None:
    drive = Drive(SECTORS, read_only=True, trim_blocks=8)
    assert ask(command, 1, 5, feature=1, drive=drive) == refusal(ABRT, 1, 5)


@pytest.mark.parametrize("command", [*READS, *VERIFIES, *FLUSHES])
def test_read_only_still_reads(command: int) -> None:
    assert isinstance(ask(command, drive=Drive(SECTORS, read_only=True)), Operation)


# VERIFY


@pytest.mark.parametrize(("command", "whole"), [(0x40, 256), (0x42, 65536)])
def test_verify_counts(command: int, whole: int) -> None:
    for count, sectors in ((0, whole), (1, 1), (17, 17), (255, 255)):
        assert ask(command, count, 4, data=b"") == Operation(Kind.VERIFY, (Extent(4, sectors),))
        assert isinstance(ask(command, count, SECTORS - sectors), Operation)
        lba = SECTORS - sectors + 1
        assert ask(command, count, lba) == refusal(IDNF, count, lba)


def test_verify_addresses() -> None:
    narrow = ask(0x40, 1, 0xFFFFE0000007, aflags=0x40)
    assert narrow == Operation(Kind.VERIFY, (Extent(7, 1),))
    wide = ask(0x42, 1, 0x0700000000, drive=BIG)
    assert wide == Operation(Kind.VERIFY, (Extent(0x0700000000, 1),))


# SET FEATURES


@pytest.mark.parametrize("feature", range(256))
def test_set_features(feature: int) -> None:
    answer = ask(0xEF, 0, feature=feature)
    if feature in (0x02, 0x82):
        assert answer == Operation(Kind.CACHE_ON if feature == 0x02 else Kind.CACHE_OFF)
    elif feature in (0x03, 0x55, 0xAA):
        assert answer == success()
    else:
        assert answer == refusal(ABRT, 0)


# TRIM


def ranges(*entries: tuple[int, int], blocks: int = 1) -> bytes:
    return b"".join(struct.pack("<Q", lba | sectors << 48) for lba, sectors in entries).ljust(
        512 * blocks, b"\0"
    )


def trim(data: bytes, count: int = 1, *, feature: int = 1, drive: Drive = DRIVE) -> Operation | AtaReply:
    answer = ask(0x06, count, 0x33, feature=feature, data=data, drive=drive)
    assert not isinstance(answer, Identify)
    return answer


def trimmed(*extents: tuple[int, int]) -> Operation:
    return Operation(Kind.TRIM, tuple(Extent(*extent) for extent in extents))


def test_trim_ranges_in_their_order() -> None:
    entries = ((5, 1), (100, 65535), (5, 1), (0, 7))
    assert trim(ranges(*entries)) == trimmed(*entries)


def test_trim_skips_entries_of_length_zero_wherever_they_point() -> None:
    data = ranges((0xFFFFFFFFFFFF, 0), (5, 1), (0, 0), (SECTORS, 0), (6, 2))
    assert trim(data) == trimmed((5, 1), (6, 2))


@pytest.mark.parametrize(
    ("extents", "pieces"),
    [
        ([], []),
        ([(0, 65535), (65535, 1)], [(0, 65536)]),
        ([(8 * place, 8) for place in range(512)], [(0, 4096)]),
        ([(0, 8), (9, 8), (17, 1)], [(0, 8), (9, 9)]),
        ([(8, 8), (0, 8)], [(8, 8), (0, 8)]),
        ([(0, 8), (0, 8)], [(0, 8), (0, 8)]),
    ],
)
def test_extents_that_touch_are_joined(extents: list[tuple[int, int]], pieces: list[tuple[int, int]]) -> None:
    assert joined(Extent(*it) for it in extents) == [Extent(*it) for it in pieces]


def test_trim_of_nothing() -> None:
    assert trim(bytes(512)) == trimmed()


def test_trim_of_many_full_blocks() -> None:
    entries = [(8 * place, 8) for place in range(512)]
    assert trim(ranges(*entries), 8) == trimmed(*entries)


def test_trim_reads_only_as_many_blocks_as_counted() -> None:
    data = ranges((5, 1)) + ranges((6, 1))
    assert trim(data, 1) == trimmed((5, 1))
    assert trim(data, 2) == trimmed((5, 1), (6, 1))


@pytest.mark.parametrize(
    "bad", [(SECTORS, 1), (SECTORS - 1, 2), (0xFFFFFFFFFFFF, 1), (SECTORS - 65534, 65535)]
)
def test_trim_out_of_range_does_nothing_at_all(bad: tuple[int, int]) -> None:
    for entries in ((bad,), ((5, 1), bad), (bad, (5, 1))):
        assert trim(ranges(*entries)) == refusal(IDNF, 1, 0x33)
    assert trim(ranges(*[(5, 1)] * 63, bad)) == refusal(IDNF, 1, 0x33)


def test_trim_up_to_the_end() -> None:
    assert trim(ranges((SECTORS - 65535, 65535), (SECTORS - 1, 1))) == trimmed(
        (SECTORS - 65535, 65535), (SECTORS - 1, 1)
    )


@pytest.mark.parametrize("feature", [0, 2, 3, 0x80, 0x81, 0xFF])
def test_trim_needs_its_feature(feature: int) -> None:
    assert trim(ranges((5, 1)), feature=feature) == refusal(ABRT, 1, 0x33)


@pytest.mark.parametrize(("count", "there"), [(0, 1), (9, 9), (255, 255), (2, 1), (8, 7)])
def test_trim_counts(count: int, there: int) -> None:
    assert trim(bytes(512 * there), count) == refusal(ABRT, count, 0x33)
    assert trim(bytes(512 * max(count, 1) - 1), count) == refusal(ABRT, count, 0x33)


def test_trim_where_the_store_cannot() -> None:
    assert trim(ranges((5, 1)), drive=Drive(SECTORS)) == refusal(ABRT, 1, 0x33)


# Replies


def request(command: int, lba: int = 0, count: int = 2) -> AtaRequest:
    return AtaRequest(0x41, 0x77, count, command, lba)


def test_success_leaves_nothing_and_echoes_the_address() -> None:
    assert done(request(0x24, 9), b"data") == AtaReply(0x41, 0, 0, 0x40, 9, b"data")


def test_failure_without_an_address_echoes_the_request() -> None:
    assert failed(request(0x24, 9), ABRT) == AtaReply(0x41, ABRT, 2, 0x41, 9)


@pytest.mark.parametrize("command", [*READS_28, *WRITES_28, 0x40])
def test_failing_address_in_28_bits_keeps_the_device_bits(command: int) -> None:
    reply = failed(request(command, 0xE0000005), UNC, 0x0ABCDEF6)
    assert reply == AtaReply(0x41, UNC, 2, 0x41, 0xEABCDEF6)


@pytest.mark.parametrize("command", [*READS_48, *WRITES_48, 0x42, 0x06])
def test_failing_address_in_48_bits_fills_all_six_bytes(command: int) -> None:
    reply = failed(request(command, 0xE00000000005), UNC, 0x000123456789)
    assert reply == AtaReply(0x41, UNC, 2, 0x41, 0x000123456789)


OPERATIONS = {
    Kind.READ: (0x24, Operation(Kind.READ, (Extent(8, 2),))),
    Kind.VERIFY: (0x42, Operation(Kind.VERIFY, (Extent(8, 2),))),
    Kind.WRITE: (0x34, Operation(Kind.WRITE, (Extent(8, 2),), bytes(1024))),
    Kind.TRIM: (0x06, Operation(Kind.TRIM, (Extent(8, 2), Extent(100, 1)))),
    Kind.FLUSH: (0xEA, Operation(Kind.FLUSH)),
    Kind.CACHE_OFF: (0xEF, Operation(Kind.CACHE_OFF)),
    Kind.CACHE_ON: (0xEF, Operation(Kind.CACHE_ON)),
}


@pytest.mark.parametrize("kind", OPERATIONS)
def test_conclude_success(kind: Kind) -> None:
    command, operation = OPERATIONS[kind]
    data = b"r" * 1024 if kind is Kind.READ else b""
    assert conclude(request(command, 8), operation, data, None) == AtaReply(0x41, 0, 0, 0x40, 8, data)


@pytest.mark.parametrize("kind", [Kind.READ, Kind.VERIFY, Kind.WRITE, Kind.TRIM])
def test_conclude_tells_where_it_failed(kind: Kind) -> None:
    command, operation = OPERATIONS[kind]
    error = UNC if kind in (Kind.READ, Kind.VERIFY) else ABRT
    reply = conclude(request(command, 8), operation, b"", DiskError("broken", 9 * 512 + 5, 5))
    assert reply == AtaReply(0x41, error, 2, 0x41, 9)


@pytest.mark.parametrize("kind", [Kind.FLUSH, Kind.CACHE_OFF, Kind.CACHE_ON])
def test_conclude_of_a_failed_sync(kind: Kind) -> None:
    command, operation = OPERATIONS[kind]
    reply = conclude(request(command, 8), operation, b"", DiskError("broken", 0, 5))
    assert reply == AtaReply(0x41, ABRT, 2, 0x41, 8)


@pytest.mark.parametrize("kind", OPERATIONS)
def test_conclude_after_a_failed_sync_is_a_device_fault(kind: Kind) -> None:
    command, operation = OPERATIONS[kind]
    reply = conclude(request(command, 8), operation, b"", DiskFailed("broken before", 0, 5))
    assert reply == AtaReply(0x41, ABRT, 2, 0x61, 8)


@pytest.mark.parametrize("kind", [Kind.READ, Kind.WRITE])
def test_conclude_does_not_send_data_with_an_error(kind: Kind) -> None:
    command, operation = OPERATIONS[kind]
    assert conclude(request(command, 8), operation, b"partial", DiskError("broken", 8 * 512)).data == b""


@pytest.mark.parametrize(("kind", "offset"), [(Kind.READ, 7 * 512), (Kind.WRITE, 7 * 512), (Kind.TRIM, 0)])
def test_conclude_never_names_a_sector_that_was_not_asked_for(kind: Kind, offset: int) -> None:
    """A 4 KiB block read for one of its sectors fails at its start, the sync behind a TRIM at 0."""
    command, operation = OPERATIONS[kind]
    reply = conclude(request(command, 8), operation, b"", DiskError("elsewhere", offset, 5))
    assert any(lba <= reply.lba < lba + sectors for lba, sectors in operation.extents)


def test_a_kind_is_the_same_key_as_the_name_of_its_counter() -> None:
    """And is hashed as text is, which costs a fifth of what Enum's own hash does."""
    counted = Counter([Kind.READ, Kind.READ, Kind.WRITE])
    assert (counted["reads"], counted["writes"]) == (2, 1)
    assert type(Kind.READ).__hash__ is str.__hash__
