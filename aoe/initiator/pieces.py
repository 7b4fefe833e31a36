"""The pieces of requests: what each of them asks for, and which ranges they hold, without I/O.

csrc/initiator/pieces.c does the same.
"""

from collections import deque

from aoe.initiator.exchange import Kind
from aoe.initiator.path import Operation
from aoe.initiator.ranges import RangeLock, Ranges
from aoe.initiator.request import Piece, Request, Verb
from aoe.initiator.session import Session
from aoe.wire import ata, protocol
from aoe.wire.ata import AFLAG_EXTENDED, AFLAG_WRITE, AtaRequest
from aoe.wire.opcodes import (
    DATA_SET_MANAGEMENT,
    READ_SECTORS_EXT,
    WRITE_DMA_FUA_EXT,
    WRITE_SECTORS_EXT,
)


class Pieces:
    """All that are not settled."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ranges = Ranges()
        self.pending = 0
        """Frames' worth of requests, and ranges that the proof keeps closed."""
        self.ready: deque[Piece] = deque()
        """Those whose range became their own; the core lets them go, one after the other."""

    def touched(self, first: int, last: int) -> bool:
        """Whether one holds any of the sectors, or waits for them."""
        return self._ranges.touched(first, last)

    def add(self) -> None:
        """One more, that holds no range."""
        self.pending += 1

    def enter(self, lock: RangeLock) -> None:
        """It is there, and behind those that it overlaps."""
        self.pending += 1
        self._ranges.enter(lock)

    def leave(self, lock: RangeLock) -> None:
        """Its range is given up; those behind may go."""
        self.pending -= 1
        for follower in self._ranges.leave(lock):
            assert isinstance(follower, Piece), "samples wait for nothing"
            self.ready.append(follower)

    def rest(self, piece: Piece) -> None:
        """It is gone, unless something of it can still do something, or the proof keeps its range closed."""
        if piece.operation is not None or piece.older or piece.echo:
            return
        if piece in self._ranges:
            self.leave(piece)
        else:
            self.pending -= 1

    def settled(self, piece: Piece, operation: Operation) -> None:
        """Nothing of an operation can do anything any more. Reads before the last one do not matter."""
        if operation is piece.operation:
            piece.operation = None
        elif operation.kind is Kind.CHANGES:
            piece.older -= 1
        else:
            return
        self.rest(piece)

    def carry_on(self, piece: Piece, most: int, now_ns: int) -> None:
        """Ask for what comes next of it, at most so many sectors."""
        before, count = piece.operation, min(most, piece.count - piece.at)
        if before is not None:
            piece.older += before.kind is Kind.CHANGES
        reads = piece.kind is Kind.READS
        message = _reading(piece, count) if reads else _writing(piece, count)
        piece.operation = Operation(
            ata.encode(message),
            kind=piece.kind,
            reply_min=protocol.ATA_HEADER + (count * protocol.SECTOR if reads else 0),
            free=piece.free,
            sectors=count,
            user=piece,
        )
        self._session.start(piece.operation, now_ns)

    def write(self, piece: Piece, now_ns: int) -> None:
        """Send one that the proof has looked for, if a caller still waits for it."""
        if piece.request is None:
            self.rest(piece)
        else:
            self.carry_on(piece, piece.count, now_ns)


def bytes_of(piece: Piece, count: int) -> bytes:
    """What is written by the next sectors of it."""
    request, at = piece.request, piece.at * protocol.SECTOR
    assert request is not None, "a caller waits for it"
    if piece.data is None:
        at += piece.first * protocol.SECTOR - request.offset
    return bytes((piece.data or request.data)[at : at + count * protocol.SECTOR])


def keep(piece: Piece, request: Request, data: bytes) -> None:
    """What was read: the caller's, or what is to be patched."""
    if request.verb is not Verb.READ:
        piece.data = (piece.data or bytearray()) + data
        return
    first = (piece.first + piece.at) * protocol.SECTOR
    start, skip = max(0, first - request.offset), max(0, request.offset - first)
    size = min(len(data) - skip, request.length - start)
    request.buffer[start : start + size] = data[skip : skip + size]


def patch(piece: Piece, request: Request) -> None:
    """The sectors as they are, with the part of them that the request covers: this is written."""
    assert piece.data is not None, "read before"
    first = piece.first * protocol.SECTOR
    start, skip = max(0, first - request.offset), max(0, request.offset - first)
    size = min(len(piece.data) - skip, request.length - start)
    piece.data[skip : skip + size] = request.data[start : start + size]
    piece.kind, piece.at = Kind.CHANGES, 0


def _reading(piece: Piece, count: int) -> AtaRequest:
    return AtaRequest(AFLAG_EXTENDED, 0, count, READ_SECTORS_EXT, piece.first + piece.at)


def _writing(piece: Piece, count: int) -> AtaRequest:
    request, flags = piece.request, AFLAG_EXTENDED | AFLAG_WRITE
    assert request is not None, "a caller waits for it"
    data = bytes_of(piece, count)
    if request.verb is Verb.TRIM:
        return AtaRequest(flags, 1, count, DATA_SET_MANAGEMENT, 0, data)
    fua = request.verb is Verb.WRITE_FUA and not request.flushes
    opcode = WRITE_DMA_FUA_EXT if fua else WRITE_SECTORS_EXT
    return AtaRequest(flags, 0, count, opcode, piece.first + piece.at, data)
