"""Command 1: query and set the config string; the discovery message (AoEr11 section 3.2)."""

import enum
import struct
from typing import NamedTuple

from aoe.wire.frame import VERSION, Fault
from aoe.wire.protocol import AOE_HEADER, CONFIG_HEADER, CONFIG_STRING_MAX

_CONFIG = struct.Struct("!HHBBH")
assert AOE_HEADER + _CONFIG.size == CONFIG_HEADER
_VERCMD_AT = AOE_HEADER + 5


class ConfigCommand(enum.IntEnum):
    """CCmd, the low nibble of byte 29."""

    READ = 0
    TEST = 1
    TEST_PREFIX = 2
    SET = 3
    FORCE_SET = 4


class Config(NamedTuple):
    """A query (first three fields zero) or a reply.

    `buffer_count` is in messages, `sector_count` in sectors a request, `firmware` is free.
    """

    ccmd: int
    text: bytes = b""
    buffer_count: int = 0
    firmware: int = 0
    sector_count: int = 0
    version: int = 0


def decode(frame: bytes) -> Config | Fault:
    """Read either direction. For CCmd 0 the string is what is there: clients send junk with a read."""
    if len(frame) < CONFIG_HEADER:
        return Fault.TRUNCATED
    buffers, firmware, sectors, vercmd, length = _CONFIG.unpack_from(frame, AOE_HEADER)
    ccmd = vercmd & 0xF
    text = frame[CONFIG_HEADER : CONFIG_HEADER + length]
    if ccmd != ConfigCommand.READ and (length > CONFIG_STRING_MAX or len(text) < length):
        return Fault.LYING_LENGTH
    return Config(ccmd, text, buffers, firmware, sectors, vercmd >> 4)


def ccmd_of(frame: bytes) -> int:
    """What a query asks (0 to 15); READ where the frame ends before it says so."""
    return frame[_VERCMD_AT] & 0xF if len(frame) > _VERCMD_AT else ConfigCommand.READ


def encode(message: Config) -> bytes:
    """The bytes after the AoE header."""
    ccmd, text, buffers, firmware, sectors, version = message
    return _CONFIG.pack(buffers, firmware, sectors, version << 4 | ccmd, len(text)) + text


def reply(ccmd: int, text: bytes, buffer_count: int, firmware: int, sector_count: int) -> Config:
    """What a target says of itself: the version nibble is 1 in replies only."""
    return Config(ccmd, text, buffer_count, firmware, sector_count, VERSION)
