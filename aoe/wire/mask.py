"""Command 2: the list of MACs that are served (AoEr11 section 3.3)."""

import enum
import struct
from typing import NamedTuple

from aoe.wire.frame import Fault
from aoe.wire.protocol import AOE_HEADER, MASK_HEADER

_MASK = struct.Struct("!BBBB")
_DIRECTIVE = struct.Struct("!BB6s")
assert AOE_HEADER + _MASK.size == MASK_HEADER
_MCMD_AT = AOE_HEADER + 1


class MaskCommand(enum.IntEnum):
    """MCmd."""

    READ = 0
    EDIT = 1


class MaskError(enum.IntEnum):
    """MError of a reply."""

    NONE = 0
    UNSPECIFIED = 1
    BAD_DIRECTIVE = 2
    LIST_FULL = 3


class DirectiveCommand(enum.IntEnum):
    """DCmd of one directive."""

    NONE = 0
    ADD = 1
    DELETE = 2


class Directive(NamedTuple):
    """One edit, or with DCmd 0 one entry of a reply's list."""

    dcmd: int
    mac: bytes


class Mask(NamedTuple):
    """A request or a reply. `dir_count` is len(directives), or the index of the directive that failed."""

    mcmd: int
    merror: int = MaskError.NONE
    dir_count: int = 0
    directives: tuple[Directive, ...] = ()


def edit(*directives: Directive) -> Mask:
    """A request to change the list."""
    return Mask(MaskCommand.EDIT, MaskError.NONE, len(directives), directives)


def decode(frame: bytes) -> Mask | Fault:
    """Read a reply; a count that the frame does not hold is refused, but for a failed edit's."""
    mask = decode_request(frame)
    if len(frame) < MASK_HEADER:
        return Fault.TRUNCATED
    _, mcmd, merror, count = _MASK.unpack_from(frame, AOE_HEADER)
    return Mask(mcmd, merror, count) if merror else mask


def decode_request(frame: bytes) -> Mask | Fault:
    """Read a request, in which the error byte means nothing."""
    if len(frame) < MASK_HEADER:
        return Fault.TRUNCATED
    _, mcmd, _, count = _MASK.unpack_from(frame, AOE_HEADER)
    if mcmd == MaskCommand.EDIT or count:
        body = frame[MASK_HEADER : MASK_HEADER + count * _DIRECTIVE.size]
        if len(body) < count * _DIRECTIVE.size:
            return Fault.LYING_LENGTH
        directives = tuple(Directive(dcmd, mac) for _, dcmd, mac in _DIRECTIVE.iter_unpack(body))
        return Mask(mcmd, MaskError.NONE, count, directives)
    return Mask(mcmd)


def mcmd_of(frame: bytes) -> int:
    """What a request asks (0 to 255); READ where the frame ends before it says so."""
    return frame[_MCMD_AT] if len(frame) > _MCMD_AT else MaskCommand.READ


def encode(message: Mask) -> bytes:
    """The bytes after the AoE header."""
    mcmd, merror, count, directives = message
    body = b"".join(_DIRECTIVE.pack(0, dcmd, mac) for dcmd, mac in directives)
    return _MASK.pack(0, mcmd, merror, count) + body
