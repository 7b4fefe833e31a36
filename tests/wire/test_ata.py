"""Command 0."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.wire import ata
from aoe.wire.ata import AtaReply, AtaRequest
from aoe.wire.frame import Fault
from tests.wire.settings import byte, framed, steady, u48

KNOWN = [
    # What the Linux driver sends and gets: IDENTIFY, an LBA48 write, an LBA28 read, an error with an address.
    ("00 00 01 ec 000000a00000 0000", AtaRequest(0, 0, 1, 0xEC, 0xA0000000)),
    ("41 00 02 34 665544332211 0000 aabb", AtaRequest(0x41, 0, 2, 0x34, 0x112233445566, b"\xaa\xbb")),
    ("00 00 08 20 0c0b0aef0000 0000", AtaRequest(0, 0, 8, 0x20, 0xEF0A0B0C)),
    ("53 04 ff 41 ffffffffffff 0000", AtaRequest(0x53, 4, 0xFF, 0x41, 0xFFFFFFFFFFFF)),
]

registers = st.tuples(byte, byte, byte, byte, u48, st.binary(max_size=64))


@pytest.mark.parametrize(("text", "message"), KNOWN)
def test_known_bytes_both_ways(text: str, message: AtaRequest) -> None:
    raw = framed(text)
    assert ata.decode_request(raw) == message
    assert ata.decode_reply(raw) == AtaReply(*message)
    assert ata.encode(message) == raw[24:]
    assert ata.encode(AtaReply(*message)) == raw[24:]


def test_flags() -> None:
    flags = (ata.AFLAG_EXTENDED, ata.AFLAG_DEVICE, ata.AFLAG_ASYNC, ata.AFLAG_WRITE)
    assert flags == (0x40, 0x10, 0x02, 0x01)


@steady
@given(registers)
def test_round_trip(values: tuple[int, int, int, int, int, bytes]) -> None:
    raw = framed(ata.encode(AtaRequest(*values)))
    assert ata.decode_request(raw) == AtaRequest(*values)
    assert ata.decode_reply(raw) == AtaReply(*values)


@pytest.mark.parametrize("length", range(37))
def test_truncations(length: int) -> None:
    raw = framed("00 00 01 ec 000000a00000 0000")[:length]
    short = length < 36
    assert (ata.decode_request(raw) is Fault.TRUNCATED) == short
    assert (ata.decode_reply(raw) is Fault.TRUNCATED) == short


def test_reserved_bytes_are_ignored_and_sent_as_zero() -> None:
    message = ata.decode_request(framed("00 00 01 ec 000000a00000 ffff"))
    assert isinstance(message, AtaRequest)
    assert ata.encode(message).endswith(b"\0\0")


def test_each_byte_of_the_address_has_its_place() -> None:
    for place in range(6):
        body = ata.encode(AtaRequest(0, 0, 0, 0, 0xA5 << 8 * place))
        assert body == bytes(4 + place) + b"\xa5" + bytes(7 - place)


@steady
@given(st.binary(max_size=60))
def test_no_bytes_raise(body: bytes) -> None:
    assert isinstance(ata.decode_request(framed(body)), AtaRequest | Fault)
    assert isinstance(ata.decode_reply(body), AtaReply | Fault)
