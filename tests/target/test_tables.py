"""Every command, version and flag byte; every opcode, AFlag and count; every truncation of every message.

What is expected is written down here from the protocol, and not taken from the code under test.
"""

import itertools
import struct
from typing import NamedTuple

import pytest

from aoe.drive.command import Kind
from aoe.target.state import AoeState
from tests.target.driver import (
    CLIENT,
    RIVAL,
    SERVER,
    SHELF,
    SLOT,
    STRANGER,
    TAG,
    Driver,
    Touch,
    ata,
    check_reply,
    config,
    flush,
    framed,
    identify,
    make_driver,
    make_export,
    mask,
    read,
    registers,
    reserve,
    trim,
    write,
)

SECTORS = 66_000
LBA = 100
TRIMMED = (40, 8)


def pattern(sectors: int) -> bytes:
    """Data which, sent with TRIM, means one range: its other entries have no length."""
    block = struct.pack("<Q", TRIMMED[0] | TRIMMED[1] << 48) + b"".join(
        struct.pack("<Q", 0xA0B000000000 | place) for place in range(63)
    )
    return block * sectors


def answered(
    command: int, body: bytes, *, error: int = 0, tag: int = TAG, dst: bytes = CLIENT, src: bytes = SERVER
) -> bytes:
    verfl = 0x1C if error else 0x18
    return framed(command, body, dst=dst, src=src, verfl=verfl, error=error, tag=tag).ljust(60, b"\0")


def make(mtu: int = 9000, sectors: int = SECTORS) -> Driver:
    driver = make_driver(make_export(sectors=sectors), mtu=mtu, buffer_count=16)
    driver.disk[512 * LBA : 512 * (LBA + 16)] = pattern(16)
    driver.checked = False
    return driver


# Header


def expected_of_header(command: int, verfl: int, body: bytes) -> list[bytes]:
    """For the registers of a valid one-sector write, which is a plain read to commands 1 to 3."""
    if verfl & 8:
        return []
    another = 5 if verfl >> 4 != 1 else 0
    if command == 0:
        return [answered(0, body[:12] if another else registers(0, 0, 0x40, LBA), error=another)]
    if command == 1:
        return [answered(1, bytes.fromhex("0010 0001 10 10 0000"), error=another)]
    if command in (2, 3):
        return [answered(command, b"", error=another)]
    return [answered(command, body[:12], error=another or 1)]


def test_256_commands_by_256_version_and_flag_bytes() -> None:
    driver = make()
    body = registers(0, 1, 0x30, LBA) + pattern(1)
    landed = [Touch(Kind.WRITE, ((LBA, 1),), pattern(1))]
    for command, verfl in itertools.product(range(256), range(256)):
        sent = driver.send(framed(command, body, verfl=verfl))
        assert sent == expected_of_header(command, verfl, body), (command, hex(verfl))
        writes = command == 0 and verfl >> 4 == 1 and not verfl & 8
        assert driver.log == (landed if writes else []), (command, hex(verfl))
        driver.log.clear()
    assert len(driver.conflicts) == 128 * 256
    assert driver.responder.active == 0


# Opcodes

READS = {0x20, 0xC8, 0xC4, 0x24, 0x25, 0x29}
WRITES = {0x30, 0xCA, 0xC5, 0x34, 0x35, 0x39, 0x3D, 0xCE}
EXTENDED = {0x24, 0x25, 0x29, 0x34, 0x35, 0x39, 0x3D, 0xCE, 0x42, 0x06}


class Expected(NamedTuple):
    """Registers after a command, the data it returns, and what it does to the disk."""

    status: int = 0x41
    error: int = 0x04
    left: int | None = None
    lba: int | None = None
    data: bytes = b""
    touches: tuple[Touch, ...] = ()


GOOD = Expected(0x40, 0, 0)
ABORTED = Expected()
NOT_FOUND = Expected(error=0x10)


def place(opcode: int, lba: int) -> int:
    return lba if opcode in EXTENDED else lba & 0x0FFFFFFF


def expected_of_ata(opcode: int, count: int, lba: int, most: int, feature: int, identity: bytes) -> Expected:
    """What a drive of SECTORS sectors answers, where the request carries min(count, most) pattern blocks."""
    at = place(opcode, lba)
    if opcode in READS | WRITES:
        if not 1 <= count <= most:
            return ABORTED
        if at + count > SECTORS:
            return NOT_FOUND
        if opcode in READS:
            touch = Touch(Kind.READ, ((at, count),))
            return GOOD._replace(data=pattern(count), touches=(touch,))
        return GOOD._replace(touches=(Touch(Kind.WRITE, ((at, count),), pattern(count)),))
    if opcode in (0x40, 0x42):
        whole = count or (256 if opcode == 0x40 else 65536)
        if at + whole > SECTORS:
            return NOT_FOUND
        return GOOD._replace(touches=(Touch(Kind.VERIFY, ((at, whole),)),))
    if opcode == 0x06:
        if feature != 1 or not 1 <= count <= min(8, most):
            return ABORTED
        return GOOD._replace(touches=(Touch(Kind.TRIM, (TRIMMED,) * count),))
    if opcode == 0xEF:
        switch = {0x02: Kind.CACHE_ON, 0x82: Kind.CACHE_OFF}.get(feature)
        if switch:
            return GOOD._replace(touches=(Touch(switch, ()),))
        return GOOD if feature in (0x03, 0x55, 0xAA) else ABORTED
    if opcode in (0xE7, 0xEA):
        return GOOD._replace(touches=(Touch(Kind.FLUSH, ()),))
    if opcode == 0xEC:
        return GOOD._replace(data=identity)
    if opcode in (0xE0, 0xE1, 0xE2, 0xE3, 0xE6):
        return GOOD
    if opcode == 0xE5:
        return GOOD._replace(left=0xFF)
    if opcode == 0x90:
        return Expected(0x40, 1, 1, 1)
    return ABORTED


def one_reply(expected: Expected, count: int, lba: int) -> bytes:
    left = count if expected.left is None else expected.left
    where = lba if expected.lba is None else expected.lba
    return answered(0, registers(expected.error, left, expected.status, where) + expected.data)


class Row(NamedTuple):
    """A request and its reply, to be completed with the AFlags that both have at byte 24."""

    before: bytes
    after: bytes
    answer_before: bytes
    answer_after: bytes
    touches: list[Touch]


def row(driver: Driver, opcode: int, count: int, lba: int = LBA, feature: int = 1) -> Row:
    most = driver.port.sectors
    request = ata(opcode, count, lba, pattern(min(count, most)), feature=feature)
    expected = expected_of_ata(opcode, count, lba, most, feature, driver.export.identify)
    answer = one_reply(expected, count, lba)
    return Row(request[:24], request[25:], answer[:24], answer[25:], list(expected.touches))


def run(driver: Driver, row: Row, aflags: int) -> None:
    flags = bytes((aflags,))
    sent = driver.send(row.before + flags + row.after)
    assert sent == [row.answer_before + flags + row.answer_after], (row.before, row.after[:12], aflags)
    assert driver.log == row.touches, (row.after[:12], aflags)
    driver.log.clear()


@pytest.mark.parametrize(
    ("mtu", "counts", "step"), [(9000, (0, 1, 2, 16, 255), 1), (1500, (0, 1, 2, 3, 255), 5)]
)
def test_256_opcodes_by_256_aflags_by_5_counts(mtu: int, counts: tuple[int, ...], step: int) -> None:
    driver = make(mtu)
    for opcode, count in itertools.product(range(256), counts):
        case = row(driver, opcode, count)
        for aflags in range(0, 256, step):
            run(driver, case, aflags)
    assert driver.responder.active == 0


@pytest.mark.parametrize(("mtu", "most"), [(534, 1), (1500, 2), (4200, 8), (9000, 16), (65535, 120)])
def test_256_opcodes_by_256_counts_on_every_usual_mtu(mtu: int, most: int) -> None:
    driver = make(mtu)
    assert driver.port.sectors == most
    driver.disk[512 * LBA : 512 * (LBA + most)] = pattern(most)
    counts = [0, 1, most, most + 1, 255] if most > 100 else range(256)
    for opcode, count in itertools.product(sorted(READS | WRITES | {0x06, 0x40, 0x42, 0xEC}), counts):
        run(driver, row(driver, opcode, count), 0x41)


def test_256_opcodes_by_addresses() -> None:
    driver = make()
    ends = [SECTORS - 16, SECTORS - 2, SECTORS - 1, SECTORS]
    top = [0xE0 << 24 | LBA, 0xA0 << 24 | (SECTORS - 1), 0x0FFFFFFF, 1 << 32 | LBA, 0xFFFF << 32 | LBA]
    for opcode, count, lba in itertools.product(range(256), (0, 1, 2, 16, 255), [*ends, *top, (1 << 48) - 1]):
        at = place(opcode, lba)
        driver.disk[512 * at : 512 * (at + 16)] = pattern(max(0, min(16, SECTORS - at)))
        for aflags in (0, 0x40, 0x53):
            run(driver, row(driver, opcode, count, lba), aflags)
        assert len(driver.disk) == 512 * SECTORS


def test_256_features_of_the_opcodes_that_have_any() -> None:
    driver = make()
    for opcode, feature in itertools.product((0x06, 0xEF, 0x24, 0x34, 0xEC, 0xEA, 0xB0), range(256)):
        run(driver, row(driver, opcode, 1, feature=feature), 0)


def test_256_opcodes_while_another_holds_the_reservation() -> None:
    driver = make()
    driver.export.restore(driver.export.state._replace(reserve=(RIVAL,)))
    for opcode, aflags in itertools.product(range(256), (0, 0x01, 0x40, 0xFF)):
        request = ata(opcode, 1, LBA, pattern(1), feature=2, aflags=aflags)
        if opcode == 0xEC:
            body = registers(0, 0, 0x40, LBA, aflags) + driver.export.identify
            assert driver.send(request) == [answered(0, body)]
        else:
            assert driver.send(request) == [answered(0, request[24:36], error=6)], hex(opcode)
    assert not driver.log


def test_256_opcodes_on_a_read_only_export() -> None:
    driver = make_driver(make_export(sectors=SECTORS, read_only=True))
    driver.disk[512 * LBA : 512 * (LBA + 2)] = pattern(2)
    driver.checked = False
    for opcode in range(256):
        request = ata(opcode, 1, LBA, pattern(1), feature=1)
        expected = expected_of_ata(opcode, 1, LBA, 16, 1, driver.export.identify)
        if opcode in WRITES | {0x06}:
            expected = ABORTED
        assert driver.send(request) == [one_reply(expected, 1, LBA)], hex(opcode)
        assert driver.log == list(expected.touches)
        driver.log.clear()


# Truncations


class Kindred(NamedTuple):
    """A message: nothing is answered below `silent` bytes; below `refused` only the refusal of `refusal`."""

    raw: bytes
    silent: int
    refused: int
    refusal: tuple[int, int, int]


SHORT_DATA = (0, 0x41, 0x04)
BAD_ARGUMENT = (2, 0, 0)
THREE = (CLIENT, RIVAL, STRANGER)

MESSAGES = {
    "identify": Kindred(identify(), 36, 36, SHORT_DATA),
    "read": Kindred(read(LBA, 2), 36, 36, SHORT_DATA),
    "write": Kindred(write(LBA, pattern(2)), 36, 36 + 1024, SHORT_DATA),
    "trim": Kindred(trim((40, 8), (60, 1)), 36, 36 + 512, SHORT_DATA),
    "flush": Kindred(flush(), 36, 36, SHORT_DATA),
    "config read": Kindred(config(0, b"0123456789"), 32, 32, BAD_ARGUMENT),
    "config test": Kindred(config(1, b"0123456789"), 32, 42, BAD_ARGUMENT),
    "config prefix": Kindred(config(2, b"01234"), 32, 37, BAD_ARGUMENT),
    "config set": Kindred(config(3, b"0123456789"), 32, 42, BAD_ARGUMENT),
    "config force": Kindred(config(4, b"9876543210" * 4), 32, 72, BAD_ARGUMENT),
    "config other": Kindred(config(9, b"0123456789"), 32, 42, BAD_ARGUMENT),
    "mask read": Kindred(mask(0), 28, 28, BAD_ARGUMENT),
    "mask edit": Kindred(mask(1, *((1, mac) for mac in THREE)), 28, 52, BAD_ARGUMENT),
    "mask other": Kindred(mask(5, *((1, mac) for mac in THREE)), 28, 52, BAD_ARGUMENT),
    "reserve read": Kindred(reserve(0), 26, 26, BAD_ARGUMENT),
    "reserve set": Kindred(reserve(1, *THREE), 26, 44, BAD_ARGUMENT),
    "reserve force": Kindred(reserve(2, *THREE), 26, 44, BAD_ARGUMENT),
    "unknown command": Kindred(framed(0x77, bytes(36)), 24, 24, BAD_ARGUMENT),
    "version 2": Kindred(write(LBA, pattern(1), verfl=0x20), 24, 24, BAD_ARGUMENT),
}


TEXT = b"0123456789"


@pytest.mark.parametrize("name", MESSAGES)
def test_every_truncation(name: str) -> None:
    message = MESSAGES[name]
    driver = make(sectors=2048)
    before = AoeState(config=TEXT)
    driver.export.restore(before)
    for length in range(len(message.raw)):
        sent = driver.send(message.raw[:length])
        if length < message.silent:
            assert not sent, length
        elif length < message.refused:
            error, status, register = message.refusal
            (raw,) = sent
            check_reply(raw, driver.port, [(SHELF, SLOT)])
            assert (raw[14], raw[15]) == (0x1C if error else 0x18, error), length
            assert not status or (raw[27], raw[25]) == (status, register), length
        else:
            assert len(sent) == 1, length
        assert all(touch.kind in (Kind.READ, Kind.FLUSH) for touch in driver.log), length
        assert driver.export.state == before, length
    assert not driver.changes


REFUSED = {"config other", "mask other", "unknown command", "version 2"}
CHANGING = {"config force", "mask edit", "reserve set", "reserve force"}


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("rest", [0, 7, 1500])
def test_whole_messages_are_answered_and_what_follows_them_is_ignored(name: str, rest: int) -> None:
    driver = make(sectors=2048)
    driver.export.restore(AoeState(config=TEXT))
    (raw,) = driver.send(MESSAGES[name].raw + b"\xee" * rest)
    check_reply(raw, driver.port, [(SHELF, SLOT)])
    assert raw[14] == (0x1C if name in REFUSED else 0x18)
    assert (driver.export.state != AoeState(config=TEXT)) == (name in CHANGING)
