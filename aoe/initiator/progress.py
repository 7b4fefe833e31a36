"""How requests get on: a piece may begin, is answered, and the request ends; without I/O.

csrc/initiator/progress.c does the same.
"""

from collections import deque

from aoe.drive import identify
from aoe.initiator.exchange import Kind
from aoe.initiator.path import Answered, Operation
from aoe.initiator.pieces import Pieces, bytes_of, keep, patch
from aoe.initiator.proof import Proof
from aoe.initiator.request import Outcome, Piece, Request, Result, Verb
from aoe.initiator.session import Session
from aoe.wire import ata, protocol
from aoe.wire.ata import AtaReply, AtaRequest
from aoe.wire.frame import FLAG_ERROR
from aoe.wire.stamp import UNSTAMPED


class Progress:
    """Of all requests; `done` are those that have ended."""

    def __init__(self, session: Session, pieces: Pieces, proof: Proof) -> None:
        self._session = session
        self._pieces = pieces
        self._proof = proof
        self.done: deque[Request] = deque()

    def go(self, piece: Piece, now_ns: int) -> None:
        """Its range is its own now. One that no caller waits for gives it up."""
        if piece.request is None:
            self._pieces.rest(piece)
            return
        piece.kind = Kind.READS if piece.patches else Kind.CHANGES
        if piece.kind is Kind.READS or not self._is_looked_for(piece, piece.request, now_ns):
            self._pieces.carry_on(piece, piece.count, now_ns)

    def _is_looked_for(self, piece: Piece, request: Request, now_ns: int) -> bool:
        """Whether a write waits until a server that is to be proved has shown its range."""
        if not self._proof.wanted or request.verb is Verb.TRIM:
            return False
        return self._proof.takes(piece, bytes_of(piece, piece.count), now_ns)

    def flush(self, request: Request, now_ns: int) -> None:
        """As a request of its own, or behind a durable write; where the disk has no cache, it is done."""
        facts = self._session.facts
        assert facts is not None, "without, it was refused"
        opcode = identify.flush_of(facts.data)
        request.changes = self._session.changes()
        if opcode is None:
            request.left = 1
            self._part(request, Result())
            return
        body = ata.encode(AtaRequest(0, 0, 0, opcode, 0))
        self.single(request, Operation(body, kind=Kind.SYNCS, reply_min=protocol.ATA_HEADER), now_ns)

    def single(self, request: Request, operation: Operation, now_ns: int) -> None:
        """What is one message."""
        piece = Piece(request, 0, 1)
        request.left = 1
        request.pieces = [piece]
        self._pieces.add()
        operation.user = piece
        piece.operation = operation
        self._session.start(operation, now_ns)

    def answered(self, piece: Piece, event: Answered, now_ns: int) -> None:
        """What an operation of a piece had for an answer."""
        request = piece.request
        if request is None:
            return
        result = _judged(event)
        if result.outcome is not Outcome.OK:
            self._part(request, result, piece)
            if piece.echo:
                self._proof.given_up(piece, now_ns)
        elif event.operation.sectors:
            self._advance(piece, request, event, now_ns)
        else:
            self._part(request, self._made_of(request, event, now_ns), piece)
        if request.flushes and not request.left and request.result is None:
            request.flushes = False  # a durable write to a disk that knows only FLUSH
            self.flush(request, now_ns)

    def _made_of(self, request: Request, event: Answered, now_ns: int) -> Result:
        """The result of what was one message."""
        if request.verb is Verb.IDENTIFY:
            request.buffer = bytearray(event.raw[protocol.ATA_HEADER : protocol.ATA_HEADER + protocol.SECTOR])
            fits = self._session.identified(event.path, event.raw, UNSTAMPED, now_ns)
            return Result() if fits else Result(Outcome.REFUSED)
        if request.verb is Verb.ASK:
            request.buffer = bytearray(event.raw)
            return Result()
        kept = self._session.flushed(request.changes)
        return Result() if kept else Result(Outcome.CACHE_LOST)

    def _advance(self, piece: Piece, request: Request, event: Answered, now_ns: int) -> None:
        """So much more of a piece was read or changed."""
        sectors = event.operation.sectors
        if piece.kind is Kind.READS:
            data = event.raw[protocol.ATA_HEADER : protocol.ATA_HEADER + sectors * protocol.SECTOR]
            keep(piece, request, data)
        piece.at += sectors
        if piece.at == piece.count and piece.kind is Kind.READS and request.verb is not Verb.READ:
            patch(piece, request)
            if self._is_looked_for(piece, request, now_ns):
                return
        if piece.at < piece.count:
            self._pieces.carry_on(piece, self._session.frame(piece.kind), now_ns)
            return
        self._part(request, Result(), piece)
        if piece.echo:
            self._proof.acknowledged(piece, event.path, now_ns)

    def _part(self, request: Request, result: Result, piece: Piece | None = None) -> None:
        """One piece of a request has its answer."""
        if piece is not None:
            piece.request = None
        request.left -= 1
        if result.outcome is not Outcome.OK and (request.worst is None or result.lba < request.worst.lba):
            request.worst = result
        if request.left or (request.flushes and request.worst is None):
            return
        self.end(request, request.worst or result._replace(data=bytes(request.buffer)))

    def end(self, request: Request, result: Result) -> None:
        """This became of it."""
        request.pieces = []
        request.result = result
        self.done.append(request)


def _judged(event: Answered) -> Result:
    if event.good:
        return Result()
    if event.header.flags & FLAG_ERROR:
        return Result(Outcome.AOE_ERROR, 0, event.header.error)
    said = ata.decode_reply(event.raw)
    assert isinstance(said, AtaReply), "it has its registers, or it would be no reply"
    return Result(Outcome.ATA_ERROR, said.status, said.error, said.lba)
