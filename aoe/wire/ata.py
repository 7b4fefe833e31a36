"""Command 0: an ATA register file and its data (AoEr11 section 3.1)."""

import struct
from typing import NamedTuple

from aoe.wire.frame import Fault
from aoe.wire.protocol import AOE_HEADER, ATA_HEADER

AFLAG_EXTENDED = 0x40
AFLAG_DEVICE = 0x10
AFLAG_ASYNC = 0x02
AFLAG_WRITE = 0x01

_REGISTERS = struct.Struct("<BBBBIHH")
assert AOE_HEADER + _REGISTERS.size == ATA_HEADER

# What one register says, where reading all of them would cost a frame of the hot path too much.
FEATURE_AT = ERROR_AT = AOE_HEADER + 1
COUNT_AT = AOE_HEADER + 2
COMMAND_AT = STATUS_AT = AOE_HEADER + 3
LBA_AT = AOE_HEADER + 4
"""Of its lowest byte."""
_COMMAND = 3
_LBA = slice(4, 10)
STREAM = slice(AOE_HEADER + 10, ATA_HEADER)
"""The bytes that the standard reserves (order rule T9)."""


class AtaRequest(NamedTuple):
    """Registers as an initiator writes them. `lba` is all six bytes, lba0 least significant."""

    aflags: int
    feature: int
    sector_count: int
    command: int
    lba: int
    data: bytes = b""


class AtaReply(NamedTuple):
    """Registers as a drive leaves them, in the same places."""

    aflags: int
    error: int
    sector_count: int
    status: int
    lba: int
    data: bytes = b""


def decode_request(frame: bytes) -> AtaRequest | Fault:
    """Read a request; `data` is whatever follows, padding included."""
    if len(frame) < ATA_HEADER:
        return Fault.TRUNCATED
    aflags, feature, count, command, low, high, _ = _REGISTERS.unpack_from(frame, AOE_HEADER)
    return AtaRequest(aflags, feature, count, command, low | high << 32, frame[ATA_HEADER:])


def decode_reply(frame: bytes) -> AtaReply | Fault:
    """Read a reply; `data` is whatever follows, padding included."""
    registers = decode_request(frame)
    return registers if isinstance(registers, Fault) else AtaReply(*registers)


def command_of(frame: bytes) -> int | None:
    """The opcode that a frame asks for; None where it ends before its registers do."""
    return frame[COMMAND_AT] if len(frame) >= ATA_HEADER else None


def status_of(frame: bytes) -> int:
    """The status register of a reply that has all its registers."""
    return frame[STATUS_AT]


def command_in(body: bytes) -> int:
    """The opcode of a request, from the bytes after the AoE header."""
    return body[_COMMAND]


def lba_in(body: bytes) -> int:
    """The LBA of a request, from the bytes after the AoE header."""
    return int.from_bytes(body[_LBA], "little")


def encode(message: AtaRequest | AtaReply) -> bytes:
    """The bytes after the AoE header."""
    return encode_registers(message) + message.data


def encode_registers(message: AtaRequest | AtaReply) -> bytes:
    """The bytes between the AoE header and the data."""
    aflags, feature, count, command, lba, _ = message
    return _REGISTERS.pack(aflags, feature, count, command, lba & 0xFFFFFFFF, lba >> 32, 0)
