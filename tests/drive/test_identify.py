"""Every word of IDENTIFY DEVICE, against a table written from the standard and not from the code."""

import struct
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.drive import identify
from aoe.drive.identify import NO_STORE_ID, Identity, StoreId, StoreKind, Vendor
from tests.wire.settings import steady

Words = dict[int, int]

LBA28_MAX = 0x0FFFFFFF

IDENTITIES = {
    "one sector": Identity(1, "S1"),
    "1 MiB": Identity(2048, "ABCDEFGHIJKLMNOPQRST"),
    "less than a cylinder": Identity(1007, "X"),
    "exactly LBA28": Identity(LBA28_MAX, "A"),
    "one more than LBA28": Identity(LBA28_MAX + 1, "A"),
    "3 TiB": Identity(3 << 31, "big"),
    "the most LBA48 says": Identity((1 << 48) - 1, "huge"),
    "512e": Identity(1 << 21, "4k", physical_block=4096),
    "512e, misaligned": Identity(1 << 21, "4k", physical_block=4096, alignment=1),
    "2 KiB blocks": Identity(1 << 21, "2k", physical_block=2048),
    "64 KiB blocks": Identity(1 << 21, "64k", physical_block=65536, alignment=7),
    "volatile cache on": Identity(1 << 21, "wb", cache=True, cache_on=True),
    "volatile cache off": Identity(1 << 21, "wb", cache=True, cache_on=False),
    "TRIM": Identity(1 << 21, "t", trim_blocks=8),
    "TRIM to zeroes": Identity(1 << 21, "t", trim_blocks=1, trim_zeroes=True),
    "promises": Identity(1 << 21, "p", frame_age_ms=1000, instance=0x1122334455667788),
    "it drains": Identity(1 << 21, "d", frame_age_ms=1000, instance=1, streams=True, draining=True),
    "a store with an id": Identity(
        1 << 21, "i", instance=1, store_id=StoreId(StoreKind.FILE, bytes(range(0x10, 0x20)))
    ),
}


def words_of(data: bytes) -> tuple[int, ...]:
    return struct.unpack("<256H", data)


def ata_text(words: tuple[int, ...], first: int, last: int) -> str:
    return b"".join(word.to_bytes(2, "big") for word in words[first : last + 1]).decode("ascii")


def expected(identity: Identity) -> Words:
    """All words that are not text, not the WWN and not the checksum; what is not here must be zero."""
    sectors = identity.sectors
    cylinders = min(sectors // 1008, 16383)
    chs = cylinders * 1008
    low = min(sectors, LBA28_MAX)
    shift = identity.physical_block.bit_length() - 10
    cached = 0x20 if identity.cache else 0
    return {
        0: 0x0040,
        1: cylinders,
        3: 16,
        6: 63,
        47: 0x8001,
        48: 0x4000,
        49: 0x0F00,
        50: 0x4000,
        53: 0x0007,
        54: cylinders,
        55: 16,
        56: 63,
        57: chs & 0xFFFF,
        58: chs >> 16,
        59: 0x0101,
        60: low & 0xFFFF,
        61: low >> 16,
        63: 0x0007,
        64: 0x0003,
        65: 120,
        66: 120,
        67: 120,
        68: 120,
        69: 0x4020 if identity.trim_zeroes else 0,
        80: 0x01F0,
        82: 0x4048 | cached,
        83: 0x7400,
        84: 0x4140,
        85: 0x4048 | (cached if identity.cache_on else 0),
        86: 0xB400,
        87: 0x4140,
        88: 0x203F,
        100: sectors & 0xFFFF,
        101: sectors >> 16 & 0xFFFF,
        102: sectors >> 32 & 0xFFFF,
        105: identity.trim_blocks,
        106: 0x6000 | shift if shift else 0x4000,
        119: 0x4000,
        120: 0x4000,
        129: int.from_bytes(b"Ao", "little"),
        130: int.from_bytes(b"Et", "little"),
        131: 1,
        132: identity.frame_age_ms & 0xFFFF,
        133: identity.frame_age_ms >> 16,
        134: identity.instance & 0xFFFF,
        135: identity.instance >> 16 & 0xFFFF,
        136: identity.instance >> 32 & 0xFFFF,
        137: identity.instance >> 48,
        138: (2 | 16) * identity.streams + 4 * identity.draining,
        139: identity.store_id.kind,
        **{
            140 + i: identity.store_id.digest[2 * i] | identity.store_id.digest[2 * i + 1] << 8
            for i in range(8)
        },
        169: 1 if identity.trim_blocks else 0,
        209: 0x4000 | identity.alignment if shift else 0,
        217: 1,
    }


OF_OTHER_TESTS = {*range(10, 20), *range(23, 27), *range(27, 47), *range(108, 112), 255}


@pytest.mark.parametrize("identity", IDENTITIES.values(), ids=IDENTITIES.keys())
def test_every_word(identity: Identity) -> None:
    words = words_of(identify.build(identity))
    wanted = expected(identity)
    shown = {place: word for place, word in enumerate(words) if place not in OF_OTHER_TESTS}
    assert shown == {place: wanted.get(place, 0) for place in shown}


@pytest.mark.parametrize("identity", IDENTITIES.values(), ids=IDENTITIES.keys())
def test_checksum(identity: Identity) -> None:
    data = identify.build(identity)
    assert len(data) == 512
    assert data[510] == 0xA5
    assert sum(data) % 256 == 0


@pytest.mark.parametrize("identity", IDENTITIES.values(), ids=IDENTITIES.keys())
def test_texts_are_byte_swapped_and_padded(identity: Identity) -> None:
    words = words_of(identify.build(identity))
    assert ata_text(words, 10, 19) == identity.serial.ljust(20)
    assert ata_text(words, 23, 26) == identify.FIRMWARE.ljust(8)
    assert ata_text(words, 27, 46) == identify.MODEL.ljust(40)


def test_the_release_is_that_of_the_package() -> None:
    """A daemon and its clients tell releases apart by it: whoever makes a release changes both."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["version"][:8] == identify.FIRMWARE


def test_a_drive_is_read_as_it_says() -> None:
    data = identify.build(Identity(1, "S"))
    assert (identify.model_of(data), identify.release_of(data)) == (identify.MODEL, identify.FIRMWARE)
    assert (identify.model_of(bytes(512)), identify.release_of(b"\xff" * 512)) == ("", "\ufffd" * 8)


def test_only_the_release_may_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    one = identify.build(Identity(1, "S"))
    monkeypatch.setattr(identify, "FIRMWARE", "9.9.9")
    assert identify.build(Identity(1, "S")) != one
    assert identify.says_the_same(identify.build(Identity(1, "S")), one)
    assert not identify.says_the_same(identify.build(Identity(2, "S")), one)
    assert not identify.says_the_same(identify.build(Identity(1, "T")), one)


def test_the_first_character_is_in_the_high_byte() -> None:
    assert identify.build(Identity(1, "AB"))[20:24] == b"BA  "
    assert identify.text_words("ABC", 4) == b"BA C"


def test_texts_too_long_or_not_ascii() -> None:
    assert identify.text_words("ABCDEF", 4) == b"BADC"
    assert identify.text_words("ä", 2) == b" ?"
    data = identify.build(Identity(1, "0123456789" * 3))
    assert ata_text(words_of(data), 10, 19) == "01234567890123456789"


@pytest.mark.parametrize("sectors", [1 << 48, (1 << 48) + 1, 1 << 60])
def test_what_lba48_cannot_say_is_cut(sectors: int) -> None:
    words = words_of(identify.build(Identity(sectors, "S")))
    assert words[100:104] == (0xFFFF, 0xFFFF, 0xFFFF, 0)


@pytest.mark.parametrize("sectors", [LBA28_MAX - 1, LBA28_MAX, LBA28_MAX + 1, 1 << 32, (1 << 48) - 1])
def test_both_sizes(sectors: int) -> None:
    data = identify.build(Identity(sectors, "S"))
    assert struct.unpack_from("<I", data, 120)[0] == min(sectors, LBA28_MAX)
    # Linux and WinAoE read words 100-103 as one 64-bit number.
    assert struct.unpack_from("<Q", data, 200)[0] == sectors
    assert identify.sectors_of(data) == sectors


def test_size_of_a_drive_without_lba48() -> None:
    data = bytearray(identify.build(Identity(5000, "S")))
    data[200:208] = bytes(8)
    struct.pack_into("<H", data, 166, 0x4000)
    assert identify.sectors_of(bytes(data)) == 5000


def test_nothing_is_claimed_unless_told() -> None:
    words = words_of(identify.build(Identity(1, "S")))
    assert [words[place] for place in (69, 105, 169, 209, *range(132, 138))] == [0] * 10
    assert not (words[82] | words[85]) & 0x20


def test_a_cache_that_is_not_there_cannot_be_on() -> None:
    words = words_of(identify.build(Identity(1, "S", cache=False, cache_on=True)))
    assert not words[82] & 0x20
    assert not words[85] & 0x20


def test_wwn_is_naa_3_and_follows_the_serial() -> None:
    names = []
    for serial in ("ONE", "ONE", "TWO"):
        words = words_of(identify.build(Identity(1, serial)))
        assert words[108] >> 12 == 3
        names.append(words[108] << 48 | words[109] << 32 | words[110] << 16 | words[111])
        assert names[-1] == identify.wwn(serial)
    assert names[0] == names[1] != names[2]


serials = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)


@steady
@given(serials, st.integers(0, 0xFFFFFFFF), st.integers(0, (1 << 64) - 1), st.integers(1, (1 << 48) - 1))
def test_what_an_initiator_reads_back(serial: str, age_ms: int, instance: int, sectors: int) -> None:
    data = identify.build(Identity(sectors, serial, frame_age_ms=age_ms, instance=instance))
    assert identify.serial_of(data) == serial
    assert identify.vendor_of(data) == Vendor(age_ms, instance, False)
    assert identify.sectors_of(data) == sectors
    assert sum(data) % 256 == 0


@pytest.mark.parametrize("place", [258, 259, 261, 262, 263])
def test_vendor_words_of_another_drive(place: int) -> None:
    data = bytearray(identify.build(Identity(1, "S", frame_age_ms=1000)))
    data[place] ^= 1
    assert identify.vendor_of(bytes(data)) is None
    assert identify.vendor_of(bytes(512)) is None


@pytest.mark.parametrize("name", IDENTITIES)
def test_an_initiator_reads_what_was_meant(name: str) -> None:
    meant = IDENTITIES[name]
    data = identify.build(meant)
    assert identify.physical_block_of(data) == meant.physical_block
    assert identify.trim_blocks_of(data) == meant.trim_blocks
    assert identify.trims_to_zeroes(data) is meant.trim_zeroes
    assert identify.has_fua(data)
    assert identify.flush_of(data) == 0xEA


@pytest.mark.parametrize(("word", "opcode"), [(0x7400, 0xEA), (0x5400, 0xE7), (0x4400, None), (0, None)])
def test_how_a_cache_is_emptied_where_a_drive_says_less(word: int, opcode: int | None) -> None:
    data = bytearray(512)
    struct.pack_into("<H", data, 2 * 83, word)
    assert identify.flush_of(data) == opcode


@pytest.mark.parametrize("word", [0, 0x0040, 0x8040, 0xC040])
def test_fua_is_believed_only_where_its_word_is_valid(word: int) -> None:
    data = bytearray(512)
    struct.pack_into("<H", data, 2 * 84, word)
    assert not identify.has_fua(data)


# The store's id, in words 139-147


def test_the_id_of_a_store_is_a_hash_of_its_text() -> None:
    made = StoreId.of(StoreKind.DEVICE, "LVM-abc")
    assert made == StoreId(1, bytes.fromhex("1311554311b1632996708833f3b31790"))


@pytest.mark.parametrize("kind", [StoreKind.DEVICE, StoreKind.RBD, StoreKind.FILE, 0xBEEF])
def test_the_id_of_a_store_is_read_back(kind: int) -> None:
    told = StoreId(kind, bytes(range(16)))
    data = identify.build(Identity(1, "S", frame_age_ms=7, instance=9, store_id=told))
    assert identify.vendor_of(data) == Vendor(7, 9, False, told)
    assert struct.unpack_from("<H", data, 2 * 139) == (kind,)
    assert data[2 * 140 : 2 * 148] == told.digest


def test_a_store_without_an_id_shows_nothing() -> None:
    assert StoreId.of(StoreKind.NONE, "text") == NO_STORE_ID
    data = bytearray(identify.build(Identity(1, "S")))
    assert data[2 * 139 : 2 * 148] == bytes(18)
    data[2 * 140] = 7  # of no kind: means nothing
    vendor = identify.vendor_of(bytes(data))
    assert vendor is not None
    assert vendor.store_id == NO_STORE_ID


def test_what_is_left_of_a_drive_beside_one_that_can_do_less() -> None:
    able = identify.build(Identity(2048, "S", trim_blocks=8, trim_zeroes=True))
    plain = identify.build(Identity(2048, "S"))
    assert identify.lessened(able, able) == able
    assert identify.lessened(plain, able) == plain
    assert identify.trim_blocks_of(identify.lessened(able, plain)) == 0
    assert not identify.trims_to_zeroes(identify.lessened(able, plain))
    nothing = bytes(512)
    assert not identify.has_fua(identify.lessened(able, nothing))
    assert identify.flush_of(identify.lessened(able, nothing)) == 0xEA
    twice = identify.lessened(identify.lessened(able, nothing), nothing)
    assert twice == identify.lessened(able, nothing)
    assert identify.sectors_of(twice) == 2048
