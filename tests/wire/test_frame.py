"""The header that every message starts with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.wire import frame
from aoe.wire.frame import Fault, Header
from tests.wire.settings import HEADER_HEX, byte, mac, nibble, steady, u16, u32

CLIENT = bytes.fromhex("020000000001")
SERVER = bytes.fromhex("0200000000fe")

KNOWN = [
    (HEADER_HEX, Header(b"\xff" * 6, CLIENT, 1, 0, 0, 0xFFFF, 0xFF, 1, 0)),
    (
        "020000000001 0200000000fe 88a2 1c 06 1234 56 03 89abcdef",
        Header(CLIENT, SERVER, 1, 0xC, 6, 0x1234, 0x56, 3, 0x89ABCDEF),
    ),
    (
        "020000000001 0200000000fe 88a2 08 00 0007 03 01 00000000",
        Header(CLIENT, SERVER, 0, 8, 0, 7, 3, 1, 0),
    ),
    (
        "0200000000fe 020000000001 88a2 11 00 0007 03 00 80000001",
        Header(SERVER, CLIENT, 1, 1, 0, 7, 3, 0, 0x80000001),
    ),
]

headers = st.builds(Header, mac, mac, nibble, nibble, byte, u16, byte, byte, u32)


@pytest.mark.parametrize(("text", "header"), KNOWN, ids=["discovery", "error", "version 0", "reserved bit"])
def test_known_bytes_both_ways(text: str, header: Header) -> None:
    raw = bytes.fromhex(text)
    assert frame.decode(raw) == header
    assert frame.encode(header)[:24] == raw


@steady
@given(headers, st.binary(max_size=80))
def test_round_trip(header: Header, body: bytes) -> None:
    raw = frame.encode(header, body)
    assert frame.decode(raw) == header
    assert raw[24 : 24 + len(body)] == body


@pytest.mark.parametrize("length", range(70))
def test_padding_is_zero_and_only_up_to_60(length: int) -> None:
    header = KNOWN[0][1]
    raw = frame.encode(header, b"\xa5" * length)
    assert len(raw) == max(60, 24 + length)
    assert raw[24 + length :] == bytes(len(raw) - 24 - length)


@pytest.mark.parametrize("length", range(24))
def test_runts(length: int) -> None:
    assert frame.decode(bytes.fromhex(HEADER_HEX)[:length]) is Fault.RUNT


@pytest.mark.parametrize("ethertype", ["0800", "88a1", "a288", "8100", "0000"])
def test_other_ethertypes(ethertype: str) -> None:
    raw = bytes.fromhex(HEADER_HEX.replace("88a2", ethertype))
    assert frame.decode(raw) is Fault.ETHERTYPE


@steady
@given(st.binary(max_size=100))
def test_no_bytes_raise(raw: bytes) -> None:
    assert isinstance(frame.decode(raw), Header | Fault)


@pytest.mark.parametrize(("error", "flags"), [(0, 8), (1, 0xC), (6, 0xC)])
def test_answer_swaps_addresses_and_echoes(error: int, flags: int) -> None:
    request = Header(b"\xff" * 6, CLIENT, 3, 7, 9, 0xFFFF, 0xFF, 2, 0xDEADBEEF)
    raw = frame.encode_answer(request, SERVER, 7, 3, error, b"body", b"data" * 9)
    assert raw == frame.encode(
        Header(CLIENT, SERVER, 1, flags, error, 7, 3, 2, 0xDEADBEEF), b"body" + b"data" * 9
    )


def test_a_short_answer_is_padded() -> None:
    raw = frame.encode_answer(KNOWN[0][1], SERVER, 7, 3, 0, b"body")
    assert raw[24:] == b"body" + bytes(32)


@pytest.mark.parametrize(
    ("text", "group"),
    [("ffffffffffff", True), ("01005e000001", True), ("020000000001", False), ("fe0000000000", False)],
)
def test_group_addresses(text: str, group: bool) -> None:
    assert frame.is_group(bytes.fromhex(text)) is group


@pytest.mark.parametrize("text", ["02:ab:CD:00:00:01", "02-ab-cd-00-00-01", "02abcd000001", "02ABCD000001"])
def test_parse_mac_forms(text: str) -> None:
    assert frame.parse_mac(text) == bytes.fromhex("02abcd000001")


@steady
@given(mac)
def test_format_mac_is_read_back(raw: bytes) -> None:
    assert frame.parse_mac(frame.format_mac(raw)) == raw


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02",
        "02:00:00:00:00",
        "02:00:00:00:00:0",
        "02:00:00:00:00:0g",
        "02:00:00:00:00:01:02",
        "02.00.00.00.00.01",
        "0200.0000.0001",
        "0200:0000:0001",
        "02 00 00 00 00 01",
        " 02000000001",
        "02:00:00:00:00:01 ",
        "eth0",
        "-" * 17,
        "٠٢٠٠٠٠٠٠٠٠٠١",
    ],
)
def test_parse_mac_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a MAC address|non-hexadecimal"):
        frame.parse_mac(text)


@pytest.mark.parametrize("text", [":::::020000000001", "020000000001-----", "0:20:00:00:00:001"])
def test_parse_mac_refuses_separators_in_the_wrong_places(text: str) -> None:
    with pytest.raises(ValueError, match="is not a MAC address"):
        frame.parse_mac(text)
