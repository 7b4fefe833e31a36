"""Readers of one field: they say what decoding the whole frame says, and stop where the frame does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.wire import ata, config, frame, mask, reserve
from aoe.wire.frame import FLAG_RESPONSE, Fault, Header
from tests.wire.settings import mac, steady

HEADER = bytes(12) + bytes.fromhex("88a2")
whole = st.binary(min_size=24, max_size=48).map(lambda rest: HEADER + rest)
pieces = st.binary(max_size=40)


@steady
@given(whole)
def test_fields_of_the_header(raw: bytes) -> None:
    header = frame.decode(raw)
    assert isinstance(header, Header)
    assert frame.tag_of(raw) == header.tag
    assert frame.is_reply(raw) == bool(header.flags & FLAG_RESPONSE)
    assert frame.destination(raw) == header.dst


@steady
@given(whole)
def test_what_is_asked(raw: bytes) -> None:
    request = ata.decode_request(raw)
    assert ata.command_of(raw) == (None if isinstance(request, Fault) else request.command)
    said = config.decode(raw)
    assert isinstance(said, Fault) or config.ccmd_of(raw) == said.ccmd
    edit = mask.decode_request(raw)
    assert isinstance(edit, Fault) or mask.mcmd_of(raw) == edit.mcmd
    held = reserve.decode(raw)
    assert isinstance(held, Fault) or reserve.rcmd_of(raw) == held.rcmd


@steady
@given(pieces)
def test_what_is_missing_reads_as_zero(raw: bytes) -> None:
    filled = raw.ljust(40, b"\0")
    for read in (config.ccmd_of, mask.mcmd_of, reserve.rcmd_of, frame.is_reply):
        assert read(raw) == read(filled)
    assert ata.command_of(raw) == (ata.command_of(filled) if len(raw) >= 36 else None)


@pytest.mark.parametrize("length", [0, 3, 6, 60])
def test_the_destination_is_what_there_is_of_it(length: int) -> None:
    raw = bytes(range(length))
    assert frame.destination(raw) == raw[:6]
    assert frame.destination(memoryview(raw)) == raw[:6]


@steady
@given(mac, mac, st.integers(0, 2**32 - 1))
def test_a_tag_is_read_as_it_was_written(dst: bytes, src: bytes, tag: int) -> None:
    assert frame.tag_of(frame.encode(Header(dst, src, 1, 0, 0, 1, 2, 0, tag))) == tag
