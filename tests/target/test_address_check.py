"""Who already answers for our addresses."""

import pytest

from aoe.drive import identify
from aoe.drive.identify import Identity
from aoe.target.address_check import AddressCheck, siblings_only
from tests.target.driver import BROADCAST, CLIENT, RIVAL, SERVER, STRANGER, framed, parse, registers

OWN_TOO = bytes.fromhex("0200000000ff")
KEYS = [(7, 3), (7, 4)]


@pytest.fixture
def check() -> AddressCheck:
    return AddressCheck(KEYS, [SERVER, OWN_TOO])


def config_reply(src: bytes = RIVAL, verfl: int = 0x18, **to: int) -> bytes:
    body = bytes.fromhex("0010 4019 02 10 0000")
    return framed(1, body, src=src, dst=BROADCAST, verfl=verfl, **to).ljust(60, b"\0")


def identify_reply(serial: str, src: bytes = RIVAL, tag: int = 0x80000000, verfl: int = 0x18) -> bytes:
    data = identify.build(Identity(2048, serial))
    return framed(0, registers(0, 0, 0x40, 0) + data, src=src, dst=SERVER, tag=tag, verfl=verfl)


def test_queries_ask_everyone_for_each_of_our_addresses(check: AddressCheck) -> None:
    queries = sorted(check.queries(SERVER))
    assert [raw[16:19] for raw in queries] == [bytes((0, 7, 3)), bytes((0, 7, 4))]
    for raw in queries:
        reply = parse(raw)
        assert (reply.dst, reply.src, reply.verfl, reply.command) == (BROADCAST, SERVER, 0x10, 1)
        assert reply.tag == 0x80000000
        assert raw[24:] == bytes(36)


def test_who_answers_is_asked_which_disk_he_serves(check: AddressCheck) -> None:
    (raw,) = check.receive(SERVER, config_reply())
    ask = parse(raw)
    assert (ask.dst, ask.src, ask.shelf, ask.slot, ask.command) == (RIVAL, SERVER, 7, 3, 0)
    assert ask.body[:12] == registers(0, 1, 0xEC, 0xA0000000)
    assert check.answers == {(7, 3): {RIVAL: None}}
    assert check.waiting


def test_what_he_answers_is_remembered(check: AddressCheck) -> None:
    check.receive(SERVER, config_reply())
    assert check.receive(SERVER, identify_reply("THEIRS")) == []
    assert check.answers == {(7, 3): {RIVAL: "THEIRS"}}
    assert not check.waiting


@pytest.mark.parametrize("verfl", [0x08, 0x18, 0x1C])
def test_versions_and_errors_answer_too(check: AddressCheck, verfl: int) -> None:
    """vblade's advertisement has version 0."""
    check.receive(SERVER, config_reply(verfl=verfl))
    assert check.answers == {(7, 3): {RIVAL: None}}


def test_several_rivals_of_several_addresses(check: AddressCheck) -> None:
    for src, slot in ((RIVAL, 3), (STRANGER, 3), (RIVAL, 4)):
        check.receive(SERVER, config_reply(src, slot=slot))
    assert {key: set(found) for key, found in check.answers.items()} == {
        (7, 3): {RIVAL, STRANGER},
        (7, 4): {RIVAL},
    }


@pytest.mark.parametrize(
    "raw",
    [
        config_reply(verfl=0x10),
        config_reply(src=SERVER),
        config_reply(src=OWN_TOO),
        config_reply(slot=5),
        config_reply(shelf=0xFFFF, slot=0xFF),
        config_reply()[:23],
        config_reply()[:12] + b"\x08\x00" + config_reply()[14:],
        b"",
    ],
    ids=["request", "own", "own too", "other address", "wildcard", "runt", "ethertype", "empty"],
)
def test_what_is_no_answer(check: AddressCheck, raw: bytes) -> None:
    assert check.receive(SERVER, raw) == []
    assert check.answers == {}


@pytest.mark.parametrize(
    "raw",
    [
        framed(0, registers(0x04, 0, 0x41, 0), src=RIVAL, verfl=0x18).ljust(60, b"\0"),
        identify_reply("THEIRS", verfl=0x1C),
        identify_reply("THEIRS")[:-1],
        framed(0, b"", src=RIVAL, verfl=0x18),
    ],
    ids=["ATA error", "AoE error", "short", "truncated"],
)
def test_an_answer_without_a_serial_is_a_conflict_all_the_same(check: AddressCheck, raw: bytes) -> None:
    assert check.receive(SERVER, raw) == []
    assert check.answers == {(7, 3): {RIVAL: None}}


def test_only_the_answer_to_our_question_tells_a_serial(check: AddressCheck) -> None:
    """Another program of this host may be reading from the rival at the same moment."""
    check.receive(SERVER, config_reply())
    sector_read = framed(0, registers(0, 0, 0x40, 0) + b"x" * 512, src=RIVAL, dst=SERVER, verfl=0x18, tag=5)
    check.receive(SERVER, sector_read)
    reservation = framed(3, b"\0\xff" + CLIENT * 255, src=RIVAL, dst=SERVER, verfl=0x18, tag=6)
    check.receive(SERVER, reservation)
    assert check.answers == {(7, 3): {RIVAL: None}}


def test_the_table_of_rivals_is_bounded(check: AddressCheck) -> None:
    for number in range(20_000):
        check.receive(SERVER, config_reply(b"\x02\xaa" + number.to_bytes(4, "big")))
    assert len(check.answers[7, 3]) <= 5_000


@pytest.mark.parametrize(
    ("found", "siblings"),
    [
        ({RIVAL: "OURS"}, True),
        ({RIVAL: "OURS", STRANGER: "OURS"}, True),
        ({RIVAL: "OURS", STRANGER: "THEIRS"}, False),
        ({RIVAL: "THEIRS"}, False),
        ({RIVAL: None}, False),
        ({}, True),
    ],
)
def test_siblings_serve_the_same_disk(found: dict[bytes, str | None], siblings: bool) -> None:
    assert siblings_only(found, "OURS") is siblings
