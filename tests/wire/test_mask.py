"""Command 2."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.wire import mask
from aoe.wire.frame import Fault
from aoe.wire.mask import Directive, Mask
from tests.wire.settings import byte, framed, mac, steady

ONE = bytes.fromhex("020000000001")
TWO = bytes.fromhex("020000000002")

KNOWN = [
    ("00 00 00 00", Mask(0)),
    ("00 01 00 01 0001020000000001", Mask(1, 0, 1, (Directive(1, ONE),))),
    (
        "00 01 00 02 0002020000000001 0001020000000002",
        Mask(1, 0, 2, (Directive(2, ONE), Directive(1, TWO))),
    ),
    (
        "00 00 00 02 0000020000000001 0000020000000002",
        Mask(0, 0, 2, (Directive(0, ONE), Directive(0, TWO))),
    ),
    ("00 01 03 05", Mask(1, 3, 5)),
]

directives = st.builds(Directive, byte, mac)


@pytest.mark.parametrize(("text", "message"), KNOWN)
def test_known_bytes_both_ways(text: str, message: Mask) -> None:
    raw = framed(text)
    assert mask.decode(raw) == message
    assert mask.encode(message) == raw[24:]


@steady
@given(st.lists(directives, max_size=255).map(tuple), st.binary(max_size=20))
def test_round_trip_whatever_follows(entries: tuple[Directive, ...], rest: bytes) -> None:
    for message in (mask.edit(*entries), Mask(0, 0, len(entries), entries)):
        assert mask.decode(framed(mask.encode(message) + rest)) == message


@steady
@given(st.integers(1, 255), byte)
def test_round_trip_of_failures(merror: int, index: int) -> None:
    message = Mask(1, merror, index)
    assert mask.decode(framed(mask.encode(message))) == message


def test_an_edit_counts_its_directives() -> None:
    assert mask.edit() == Mask(1)
    assert mask.edit(Directive(1, ONE), Directive(2, TWO)).dir_count == 2


@pytest.mark.parametrize("length", range(28))
def test_every_truncation_of_the_fixed_part(length: int) -> None:
    assert mask.decode(framed("00 01 00 01 0001020000000001")[:length]) is Fault.TRUNCATED


@pytest.mark.parametrize("mcmd", [0, 1, 2, 0xFF])
@pytest.mark.parametrize("length", range(24))
def test_every_truncation_of_the_directives(mcmd: int, length: int) -> None:
    raw = framed(mask.encode(Mask(mcmd, 0, 3, (Directive(1, ONE),) * 3)))
    assert mask.decode(raw[: 28 + length]) is Fault.LYING_LENGTH


@pytest.mark.parametrize("count", [1, 2, 255])
def test_lying_counts(count: int) -> None:
    assert mask.decode(framed(bytes((0, 1, 0, count)) + bytes(8 * count - 1))) is Fault.LYING_LENGTH


@steady
@given(st.binary(max_size=60))
def test_no_bytes_raise(body: bytes) -> None:
    assert isinstance(mask.decode(framed(body)), Mask | Fault)
