"""The stream and the epoch of an ATA request, and by what a frame of ours is known (order rule T9).

They are where the standard has nothing: in the two reserved bytes (AoEr11 section 3.1), and in the Feature
register, which writes, FLUSH and IDENTIFY do not use; TRIM does, but not the LBA (ATA8-ACS section 7.9), so
that its epoch is in the lowest byte there. Others may leave anything there, so that these bytes
say nothing by themselves. Ours is a frame whose tag has the highest bit, and that has a trailer behind
header and data: 4 bytes that no client sends by accident, and the id that the target gave itself in IDENTIFY.
"""

from typing import NamedTuple

from aoe.wire.ata import COMMAND_AT, COUNT_AT, FEATURE_AT, LBA_AT, STREAM, command_in
from aoe.wire.frame import TAG_AT
from aoe.wire.opcodes import DATA_SET_MANAGEMENT, FLUSHES, IDENTIFY_DEVICE
from aoe.wire.protocol import AOE_HEADER, ATA_HEADER, SECTOR, STAMP_TRAILER, USER_TAG

STREAM_SIGNATURE = b"\xd3\x1f\xb6\x4a"
AWAY = 1
"""LBA of an IDENTIFY of ours to a server that drains: another server has what this host asks for."""
UNPROVED = 2
"""Another one: it uses this server still, as no write of its own has proved the other one yet."""
BACKGROUND = 0x100
"""Beside these: what this host asks for can wait while others ask."""
_INSTANCE_AT = len(STREAM_SIGNATURE)
_MARK = USER_TAG >> 24
"""In the first byte of a tag."""
_WITHOUT_DATA = FLUSHES | {IDENTIFY_DEVICE}
"""FLUSH and IDENTIFY: what follows their header is the trailer. Others say by Sector Count where it is."""
_STREAM = STREAM.start - AOE_HEADER
_DATA = slice(ATA_HEADER - AOE_HEADER, None)
"""Of the bytes after the AoE header."""


class Stamp(NamedTuple):
    """`stream` is 1 to 65535, or 0 for none; `epoch` 0 to 255, after which it begins again; `instance` is
    the target's, of 64 bits: to another life of it the frame says nothing."""

    stream: int
    epoch: int
    instance: int


UNSTAMPED = Stamp(0, 0, 0)


class StreamLeft(NamedTuple):
    """A stream of an initiator as one life of a target leaves it to the next. `seen` has a bit for each tag
    of the window that ends with `newest`, by tag modulo the window."""

    mac: bytes
    number: int
    epoch: int
    forged: bool
    newest: int
    seen: int


def stamp_of(frame: bytes) -> Stamp | None:
    """Of a whole frame with an ATA header; None where it is not one of ours."""
    at = ATA_HEADER if frame[COMMAND_AT] in _WITHOUT_DATA else ATA_HEADER + SECTOR * frame[COUNT_AT]
    if not frame[TAG_AT] & _MARK or frame[at : at + _INSTANCE_AT] != STREAM_SIGNATURE:
        return None
    end = at + STAMP_TRAILER
    if len(frame) < end:
        return None
    instance = int.from_bytes(frame[at + _INSTANCE_AT : end], "little")
    return Stamp(int.from_bytes(frame[STREAM], "big"), frame[_epoch_at(frame[COMMAND_AT])], instance)


def _epoch_at(opcode: int) -> int:
    return LBA_AT if opcode == DATA_SET_MANAGEMENT else FEATURE_AT


def stamped(body: bytes, stamp: Stamp) -> bytes:
    """The bytes after the AoE header, with a stamp."""
    stream, epoch, instance = stamp
    trailer = STREAM_SIGNATURE + instance.to_bytes(STAMP_TRAILER - _INSTANCE_AT, "little")
    at = _epoch_at(command_in(body)) - AOE_HEADER
    head = body[:at], bytes((epoch,)), body[at + 1 : _STREAM], stream.to_bytes(2, "big")
    return b"".join((*head, body[_DATA], trailer))


def earlier(one: int, other: int) -> bool:
    """Whether an epoch comes before another one; of 256, half are before."""
    return 0 < (other - one) % 256 < 128
