"""Command 3: the list of MACs that may do I/O (AoEr11 section 3.4)."""

import enum
import struct
from typing import NamedTuple

from aoe.wire.frame import Fault
from aoe.wire.protocol import AOE_HEADER, RESERVE_HEADER

_RESERVE = struct.Struct("!BB")
assert AOE_HEADER + _RESERVE.size == RESERVE_HEADER


class ReserveCommand(enum.IntEnum):
    """RCmd."""

    READ = 0
    SET = 1
    FORCE_SET = 2


class Reserve(NamedTuple):
    """A request or a reply; a set with no MACs releases."""

    rcmd: int
    macs: tuple[bytes, ...] = ()


def decode(frame: bytes) -> Reserve | Fault:
    """Read either direction; a count that the frame does not hold is refused."""
    if len(frame) < RESERVE_HEADER:
        return Fault.TRUNCATED
    rcmd, count = _RESERVE.unpack_from(frame, AOE_HEADER)
    body = frame[RESERVE_HEADER : RESERVE_HEADER + 6 * count]
    if len(body) < 6 * count:
        return Fault.LYING_LENGTH
    return Reserve(rcmd, tuple(body[at : at + 6] for at in range(0, len(body), 6)))


def rcmd_of(frame: bytes) -> int:
    """What a request asks (0 to 255); READ where the frame ends before it says so."""
    return frame[AOE_HEADER] if len(frame) > AOE_HEADER else ReserveCommand.READ


def encode(message: Reserve) -> bytes:
    """The bytes after the AoE header."""
    return _RESERVE.pack(message.rcmd, len(message.macs)) + b"".join(message.macs)
