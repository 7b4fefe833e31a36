"""The Ethernet and AoE header that every message starts with (AoEr11 section 2)."""

import enum
import re
import struct
from typing import NamedTuple

from aoe.wire.protocol import AOE_HEADER, FRAME_MIN

ETHERTYPE = 0x88A2
VERSION = 1
BROADCAST = b"\xff" * 6

FLAG_RESPONSE = 0x8
FLAG_ERROR = 0x4
_ANSWERS = VERSION << 4 | FLAG_RESPONSE

_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:([:-]?)[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}")

_HEADER = struct.Struct("!6s6sHBBHBBI")
assert _HEADER.size == AOE_HEADER

MAC_BYTES = 6
FLAGS_AT = 14
"""Offset of the byte that holds version and flags: packet filters look there."""
TAG_AT = 20
_TAG = slice(TAG_AT, AOE_HEADER)


class Command(enum.IntEnum):
    """Command byte (AoEr11 section 2.5)."""

    ATA = 0
    CONFIG = 1
    MASK = 2
    RESERVE = 3


class Error(enum.IntEnum):
    """Error byte of a reply whose E flag is set (AoEr11 section 2.4)."""

    UNRECOGNIZED_COMMAND = 1
    BAD_ARGUMENT = 2
    DEVICE_UNAVAILABLE = 3
    CONFIG_PRESENT = 4
    UNSUPPORTED_VERSION = 5
    RESERVED = 6


_ERROR_TEXTS: dict[int, str] = {
    Error.UNRECOGNIZED_COMMAND: "it does not know the command",
    Error.BAD_ARGUMENT: "an argument of the command is wrong",
    Error.DEVICE_UNAVAILABLE: "the device is not available, or its state cannot be saved",
    Error.CONFIG_PRESENT: "there is another config string already",
    Error.UNSUPPORTED_VERSION: "it does not know this version of AoE",
    Error.RESERVED: "it is reserved by another host",
}


def error_text(code: int) -> str:
    """The error byte of a reply in words (AoEr11 section 2.4)."""
    said = _ERROR_TEXTS.get(code)
    return f"{said} (AoE error {code})" if said else f"AoE error {code}"


class Fault(enum.StrEnum):
    """Why bytes are not the message they claim to be: a peer's mistake, as a value."""

    RUNT = "runt"
    ETHERTYPE = "wrong_ethertype"
    TRUNCATED = "truncated"
    LYING_LENGTH = "lying_length"


class Header(NamedTuple):
    """The first 24 bytes. `flags` is the low nibble of byte 14, `version` the high one."""

    dst: bytes
    src: bytes
    version: int
    flags: int
    error: int
    shelf: int
    slot: int
    command: int
    tag: int


def decode(frame: bytes) -> Header | Fault:
    """Read the header; unknown flag bits are kept, not judged."""
    if len(frame) < AOE_HEADER:
        return Fault.RUNT
    dst, src, ethertype, verfl, error, shelf, slot, command, tag = _HEADER.unpack_from(frame)
    if ethertype != ETHERTYPE:
        return Fault.ETHERTYPE
    return Header(dst, src, verfl >> 4, verfl & 0xF, error, shelf, slot, command, tag)


def destination(frame: bytes | memoryview) -> bytes | memoryview:
    """The MAC that a frame goes to: its first 6 bytes, or what there is of them."""
    return frame[:MAC_BYTES]


def is_reply(frame: bytes) -> bool:
    """Whether bytes are a frame with the R flag, whatever else is wrong with them."""
    return len(frame) > FLAGS_AT and bool(frame[FLAGS_AT] & FLAG_RESPONSE)


def tag_of(frame: bytes) -> int:
    """The tag of a whole frame, 0 to 2**32 - 1."""
    return int.from_bytes(frame[_TAG], "big")


def encode(header: Header, body: bytes = b"") -> bytes:
    """The frame of a header and the bytes after it, padded with zeros to 60."""
    dst, src, version, flags, error, shelf, slot, command, tag = header
    verfl = version << 4 | flags
    return _padded(_HEADER.pack(dst, src, ETHERTYPE, verfl, error, shelf, slot, command, tag) + body)


def encode_answer(
    request: Header, mac: bytes, shelf: int, slot: int, error: int, body: bytes, data: bytes = b""
) -> bytes:
    """The reply to a request: R set, own address, tag and command echoed; `data` follows the body."""
    verfl = _ANSWERS | FLAG_ERROR if error else _ANSWERS
    _, src, _, _, _, _, _, command, tag = request
    return _padded(_HEADER.pack(src, mac, ETHERTYPE, verfl, error, shelf, slot, command, tag) + body + data)


def _padded(frame: bytes) -> bytes:
    return frame if len(frame) >= FRAME_MIN else frame.ljust(FRAME_MIN, b"\0")


def is_group(mac: bytes) -> bool:
    """Whether a MAC is multicast or broadcast (the I/G bit of IEEE 802)."""
    return bool(mac[0] & 1)


def format_mac(mac: bytes) -> str:
    """`b"\\x02..."` -> `02:...`."""
    return mac.hex(":")


def parse_mac(text: str) -> bytes:
    """Six octets in hex, with colons, dashes or nothing between; ValueError for anything else."""
    if not _MAC.fullmatch(text):
        raise ValueError(f"{text!r} is not a MAC address")
    return bytes.fromhex(text.replace(":", "").replace("-", ""))
