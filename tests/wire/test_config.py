"""Command 1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.wire import config
from aoe.wire.config import Config
from aoe.wire.frame import Fault
from tests.wire.settings import byte, framed, nibble, steady, u16

KNOWN = [
    # The discovery query of Linux and iPXE; set from aoecfg; the reply of a target; a forced clear.
    ("0000 0000 00 00 0000", Config(0)),
    ("0000 0000 00 03 0003 616263", Config(3, b"abc")),
    ("0010 4019 02 10 0002 00ff", Config(0, b"\x00\xff", 16, 0x4019, 2, 1)),
    ("0000 0000 00 04 0000", Config(4)),
]

messages = st.builds(
    Config,
    ccmd=nibble,
    text=st.binary(max_size=1024),
    buffer_count=u16,
    firmware=u16,
    sector_count=byte,
    version=nibble,
)


@pytest.mark.parametrize(("text", "message"), KNOWN)
def test_known_bytes_both_ways(text: str, message: Config) -> None:
    raw = framed(text)
    assert config.decode(raw) == message
    assert config.encode(message) == raw[24:]


@steady
@given(messages, st.binary(max_size=40))
def test_round_trip_whatever_follows(message: Config, rest: bytes) -> None:
    assert config.decode(framed(config.encode(message) + rest)) == message


@pytest.mark.parametrize("length", range(32))
def test_every_truncation_of_the_fixed_part(length: int) -> None:
    assert config.decode(framed("0000 0000 00 03 0003 616263")[:length]) is Fault.TRUNCATED


@pytest.mark.parametrize("ccmd", range(1, 16))
@pytest.mark.parametrize("length", range(10))
def test_every_truncation_of_the_string(ccmd: int, length: int) -> None:
    raw = framed(config.encode(Config(ccmd, b"0123456789")))
    assert config.decode(raw[: 32 + length]) is Fault.LYING_LENGTH


@pytest.mark.parametrize("ccmd", range(1, 16))
@pytest.mark.parametrize("length", [1025, 1026, 0x8000, 0xFFFF])
def test_strings_that_no_target_may_hold(ccmd: int, length: int) -> None:
    body = bytes((0, 0, 0, 0, 0, ccmd)) + length.to_bytes(2, "big") + bytes(length)
    assert config.decode(framed(body)) is Fault.LYING_LENGTH


@pytest.mark.parametrize("ccmd", range(1, 16))
def test_the_longest_string(ccmd: int) -> None:
    text = bytes(range(256)) * 4
    assert config.decode(framed(config.encode(Config(ccmd, text)))) == Config(ccmd, text)


@pytest.mark.parametrize("declared", [0, 1, 12, 1024, 1025, 0xFFFF])
@pytest.mark.parametrize("there", [0, 1, 12, 1024])
def test_a_read_may_carry_junk(declared: int, there: int) -> None:
    """aoeping sends CCmd 0 with 1024 bytes of filler, aoecfg 1056 bytes uninitialised."""
    body = bytes.fromhex("0000 0000 00 00") + declared.to_bytes(2, "big") + b"\xee" * there
    message = config.decode(framed(body))
    assert isinstance(message, Config)
    assert (message.ccmd, message.text) == (0, b"\xee" * min(declared, there))


def test_the_version_nibble_is_of_replies_only() -> None:
    assert config.encode(config.reply(2, b"", 64, 1, 16)).hex(" ") == "00 40 00 01 10 12 00 00"
    assert config.encode(Config(2)).hex(" ") == "00 00 00 00 00 02 00 00"


@steady
@given(st.binary(max_size=60))
def test_no_bytes_raise(body: bytes) -> None:
    assert isinstance(config.decode(framed(body)), Config | Fault)
