"""Command 3."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.wire import reserve
from aoe.wire.frame import Fault
from aoe.wire.reserve import Reserve
from tests.wire.settings import byte, framed, mac, steady

ONE = bytes.fromhex("020000000001")
TWO = bytes.fromhex("020000000002")

KNOWN = [
    ("00 00", Reserve(0)),
    ("01 01 020000000001", Reserve(1, (ONE,))),
    ("02 02 020000000001 020000000002", Reserve(2, (ONE, TWO))),
    ("01 00", Reserve(1)),
]


@pytest.mark.parametrize(("text", "message"), KNOWN)
def test_known_bytes_both_ways(text: str, message: Reserve) -> None:
    raw = framed(text)
    assert reserve.decode(raw) == message
    assert reserve.encode(message) == raw[24:]


@steady
@given(byte, st.lists(mac, max_size=255).map(tuple), st.binary(max_size=20))
def test_round_trip_whatever_follows(rcmd: int, macs: tuple[bytes, ...], rest: bytes) -> None:
    message = Reserve(rcmd, macs)
    assert reserve.decode(framed(reserve.encode(message) + rest)) == message


@pytest.mark.parametrize("length", range(26))
def test_every_truncation_of_the_fixed_part(length: int) -> None:
    assert reserve.decode(framed("01 01 020000000001")[:length]) is Fault.TRUNCATED


@pytest.mark.parametrize("length", range(18))
def test_every_truncation_of_the_list(length: int) -> None:
    raw = framed(reserve.encode(Reserve(1, (ONE, TWO, ONE))))
    assert reserve.decode(raw[: 26 + length]) is Fault.LYING_LENGTH


@pytest.mark.parametrize("count", [1, 2, 255])
def test_lying_counts(count: int) -> None:
    assert reserve.decode(framed(bytes((1, count)) + bytes(6 * count - 1))) is Fault.LYING_LENGTH


@steady
@given(st.binary(max_size=60))
def test_no_bytes_raise(body: bytes) -> None:
    assert isinstance(reserve.decode(framed(body)), Reserve | Fault)
