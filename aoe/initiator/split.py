"""A request in pieces, each of which fits one message; without I/O. csrc/initiator/split.c does the same."""

import struct
from collections.abc import Iterator

from aoe.initiator.request import Piece, Request
from aoe.wire import protocol
from aoe.wire.protocol import RANGE_SECTORS_MAX

_RANGE = struct.Struct("<Q")


def transfers(request: Request, frame: int) -> Iterator[Piece]:
    """Of so many sectors at most, and the sectors at odd ends whole."""
    first = request.offset // protocol.SECTOR
    last = -(-(request.offset + request.length) // protocol.SECTOR) if request.length else first
    for lba in range(first, last, frame):
        yield Piece(request, lba, min(frame, last - lba))


def trims(request: Request, blocks: int) -> Iterator[Piece]:
    """Whole sectors only; each piece is as many ranges as fit so many blocks."""
    first = -(-request.offset // protocol.SECTOR)
    last = (request.offset + request.length) // protocol.SECTOR
    most = blocks * (protocol.SECTOR // _RANGE.size) * RANGE_SECTORS_MAX
    for start in range(first, last, most):
        end = min(start + most, last)
        data = _ranges(start, end)
        used = -(-len(data) // protocol.SECTOR)
        piece = Piece(request, start, end - start, used)
        piece.data = bytearray(data.ljust(used * protocol.SECTOR, b"\0"))
        yield piece


def _ranges(start: int, end: int) -> bytes:
    ranges = range(start, end, RANGE_SECTORS_MAX)
    return b"".join(_RANGE.pack(lba | min(RANGE_SECTORS_MAX, end - lba) << 48) for lba in ranges)
