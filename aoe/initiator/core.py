"""Byte ranges become requests of one frame and back: split, put in order, patched at odd ends; without I/O.

A request is split into pieces as large as the owner's frames are then, each with a claim on its sectors.
One that comes to a way that takes less is carried out in parts, one after the other; its claim stays until
the fate of all copies of all parts is known.

This is the whole initiator as arithmetic: frames and clock readings go in, `out` and `done` say what is to be
sent and what is finished. csrc/initiator/core.c is the same in C, and a differential test holds it to this,
frame by frame.
"""

import struct
from collections import Counter, deque
from collections.abc import Iterator, Sequence

from aoe import limits
from aoe.drive import identify
from aoe.initiator.exchange import Kind
from aoe.initiator.proof import Look, Proof
from aoe.initiator.ranges import Claim, Ranges, Write
from aoe.initiator.request import Outcome, Piece, Request, Result, Verb
from aoe.initiator.session import Session
from aoe.initiator.way import Address, Answered, Operation, Policy, Port, Settled, Way, WayStatus
from aoe.wire import ata, protocol
from aoe.wire.ata import AFLAG_EXTENDED, AFLAG_WRITE, AtaReply, AtaRequest
from aoe.wire.frame import FLAG_ERROR, Command
from aoe.wire.opcodes import (
    DATA_SET_MANAGEMENT,
    IDENTIFY_DEVICE,
    READ_SECTORS_EXT,
    WRITE_DMA_FUA_EXT,
    WRITE_SECTORS_EXT,
)
from aoe.wire.protocol import RANGE_SECTORS_MAX
from aoe.wire.stamp import UNSTAMPED

_RANGE = struct.Struct("<Q")


class Core:
    """The disk at `addresses`, over `ports` of ours.

    `out` is what is to be sent, (port, frame), and its sender empties it; `done` what has ended.
    """

    def __init__(
        self, ports: int, addresses: Sequence[Address], first_tag: int, policy: Policy = Policy()
    ) -> None:
        self.session = Session(ports, addresses, first_tag, policy)
        self.done: deque[Request] = deque()
        self.pending = 0
        """Frames' worth of requests that are not settled."""
        self._seen_ns = 0
        """When we were last told the time."""
        self._stood_ns = 0
        self._ranges = Ranges()
        self._pieces: dict[Request, list[Piece]] = {}
        self._proof = Proof(self.session, self._ranges, self)

    @property
    def out(self) -> list[tuple[int, bytes]]:
        """Frames to be sent, and by which port."""
        return self.session.out

    @property
    def news(self) -> int:
        """Rises with every change of a way or of the disk."""
        return self.session.news

    @property
    def chosen(self) -> bool:
        """Whether a way was found and chosen."""
        return self.session.chosen

    @property
    def comparing(self) -> bool:
        """Whether samples of a server are compared with the owner's."""
        return any(way.sampling for way in self.session.ways)

    @property
    def identity(self) -> bytes:
        """What IDENTIFY said of the disk, empty until it did."""
        return self.session.facts.data if self.session.facts else b""

    @property
    def pulse_ns(self) -> int:
        """How soon `tick` is wanted."""
        return self.session.pulse_ns

    @property
    def ways(self) -> list[WayStatus]:
        """The ways to the disk, the preferred one first."""
        return [
            WayStatus(
                way.number,
                way.port,
                *way.path.peer[1:],
                way.state.shown,
                way.reason,
                way is self.session.owner,
                way.path.rtt_ns,
                min(way.sizes.shown[:2]),
                way.sectors,
                way.sizes.narrow,
                way.path.unsettled,
                way.renewed,
                way.trial.proved or not self.session.chosen,
                way.trial.lba,
            )
            for way in self.session.ways
        ]

    @property
    def counters(self) -> Counter[str]:
        """What was counted on all ways, by reason."""
        return sum((way.path.counters for way in self.session.ways), self.session.counters)

    # What comes in

    def own_time_ns(self, now_ns: int) -> int:
        """It is `now_ns`; the time in which we ran until then, by which waiting is measured.

        There is a tick each PULSE_NS at least, and every call tells the time. Where two are GAP_NS apart the
        process was stopped, its machine suspended, or its event loop held up.
        """
        gap_ns = now_ns - self._seen_ns if self._seen_ns else 0
        self._seen_ns = max(self._seen_ns, now_ns)
        if gap_ns >= self.session.timing.gap_ns:
            self._stood_ns += gap_ns
            self._proof.stand_still(gap_ns)
            self.session.stand_still(gap_ns, now_ns)
            self._run(now_ns)
        return now_ns - self._stood_ns

    def set_port(self, number: int, port: Port, now_ns: int) -> None:
        """A port is like this from now on."""
        self.own_time_ns(now_ns)
        self.session.set_port(number, port, now_ns)
        self._run(now_ns)

    def received(self, port: int, raw: bytes, now_ns: int) -> None:
        """A frame came in on a port."""
        self.own_time_ns(now_ns)
        self.session.received(port, raw, now_ns)
        self._run(now_ns)

    def tick(self, now_ns: int) -> None:
        """Time has passed."""
        self.own_time_ns(now_ns)
        self.session.tick(now_ns)
        self._run(now_ns)

    def switch(self, number: int, now_ns: int) -> bool:
        """Make a way the owner, if it is usable."""
        self.own_time_ns(now_ns)
        way = self._way(number)
        done = way is not None and self.session.switch(way, now_ns)
        self._run(now_ns)
        return done

    def fenced(self, number: int, now_ns: int) -> None:
        """The server of a way was made sure to do nothing any more."""
        self.own_time_ns(now_ns)
        way = self._way(number)
        if way is not None:
            self.session.fenced(way, now_ns)
        self._run(now_ns)

    def start(
        self, verb: Verb, offset: int, length: int, data: bytes, now_ns: int, number: int = 0
    ) -> Request:
        """Begin what is asked for, in bytes; ASK goes to the server of the way of that number."""
        self.own_time_ns(now_ns)
        way = self._way(number)
        request = Request(verb, offset, length, data)
        refused = self._refused(request, way)
        if refused is not None:
            self._end(request, refused)
        elif verb in (Verb.FLUSH, Verb.IDENTIFY, Verb.ASK):
            self._single(request, way, now_ns)
        else:
            self._split(request, now_ns)
        self._run(now_ns)
        return request

    def abandon(self, request: Request, now_ns: int) -> None:
        """No caller waits any more. What was sent stays of unknown fate."""
        self.own_time_ns(now_ns)
        open_ = [piece for piece in self._pieces.pop(request, []) if piece.request is not None]
        # What waits first, or it would be sent now.
        for piece in sorted(open_, key=lambda piece: not (piece.operation and piece.operation.waits)):
            piece.request = None
            if piece.operation is not None:
                self.session.abandon(piece.operation, now_ns)
            if piece.echo:
                self._proof.given_up(piece, now_ns)
        self._run(now_ns)

    def _way(self, number: int) -> Way | None:
        """None where there is none any more."""
        return next((way for way in self.session.ways if way.number == number), None)

    # Splitting

    def _refused(self, request: Request, way: Way | None) -> Result | None:
        facts = self.session.facts
        if request.verb is Verb.ASK:
            return None if way is not None else Result(Outcome.OUT_OF_RANGE)
        if facts is None or not self.session.chosen:
            return Result(Outcome.OUT_OF_RANGE)
        if request.offset + request.length > facts.sectors * protocol.SECTOR:
            return Result(Outcome.OUT_OF_RANGE)
        if request.verb is Verb.TRIM and not identify.trim_blocks_of(facts.data):
            return Result(Outcome.UNSUPPORTED)
        return Result(Outcome.TOO_MANY) if self.pending >= limits.REQUESTS_MAX else None

    def _split(self, request: Request, now_ns: int) -> None:
        facts = self.session.facts
        assert facts is not None, "without, it was refused"
        request.buffer = bytearray(request.length if request.verb is Verb.READ else 0)
        request.flushes = request.verb is Verb.WRITE_FUA and not identify.has_fua(facts.data)
        pieces = list(self._trims(request) if request.verb is Verb.TRIM else self._transfers(request))
        request.left = len(pieces)
        self._pieces[request] = pieces
        if not pieces:
            self._end(request, Result())
        for piece in pieces:
            self.pending += 1
            if request.verb is Verb.READ:
                piece.free = not self._ranges.touched(piece.first, piece.last)
                self._carry_on(piece, piece.count, now_ns)
            else:
                self._ranges.enter(piece)
                if not piece.waits:
                    self._go(piece, now_ns)

    def _transfers(self, request: Request) -> Iterator[Piece]:
        first = request.offset // protocol.SECTOR
        last = -(-(request.offset + request.length) // protocol.SECTOR) if request.length else first
        frame = self.session.frame(Kind.READS if request.verb is Verb.READ else Kind.CHANGES)
        for lba in range(first, last, frame):
            yield Piece(request, lba, min(frame, last - lba))

    def _trims(self, request: Request) -> Iterator[Piece]:
        """Whole sectors only; each piece is as many ranges as fit one request."""
        facts = self.session.facts
        assert facts is not None, "without, it was refused"
        blocks = min(identify.trim_blocks_of(facts.data), self.session.frame(Kind.CHANGES))
        first = -(-request.offset // protocol.SECTOR)
        last = (request.offset + request.length) // protocol.SECTOR
        most = blocks * (protocol.SECTOR // _RANGE.size) * RANGE_SECTORS_MAX
        for start in range(first, last, most):
            end = min(start + most, last)
            ranges = [
                _RANGE.pack(lba | min(RANGE_SECTORS_MAX, end - lba) << 48)
                for lba in range(start, end, RANGE_SECTORS_MAX)
            ]
            data = b"".join(ranges)
            used = -(-len(data) // protocol.SECTOR)
            piece = Piece(request, start, end - start, used)
            piece.data = bytearray(data.ljust(used * protocol.SECTOR, b"\0"))
            yield piece

    def _single(self, request: Request, way: Way | None, now_ns: int) -> None:
        """What is one message."""
        session = self.session
        piece = Piece(request, 0, 1)
        request.left = 1
        request.changes = session.changes()
        self._pieces[request] = [piece]
        self.pending += 1
        if request.verb is Verb.ASK:
            command = Command(request.offset)
            piece.operation = Operation(
                request.data,
                kind=Kind.READS,
                reply_min=request.length,
                command=command,
                only=way,
                user=piece,
            )
        elif request.verb is Verb.IDENTIFY:
            body = ata.encode(AtaRequest(0, 0, 1, IDENTIFY_DEVICE, 0xA0 << 24))
            least = protocol.ATA_HEADER + protocol.SECTOR
            piece.operation = Operation(body, kind=Kind.READS, reply_min=least, user=piece)
        else:
            self._flush(piece)
        if piece.operation is not None:
            session.start(piece.operation, now_ns)

    def _flush(self, piece: Piece) -> None:
        """Prepare it; where the disk has no cache to flush, it is done."""
        facts, request = self.session.facts, piece.request
        assert facts is not None, "without, it was refused"
        assert request is not None, "a caller waits for it"
        opcode = identify.flush_of(facts.data)
        if opcode is None:
            self.pending -= 1
            self._part(request, Result())
            return
        body = ata.encode(AtaRequest(0, 0, 0, opcode, 0))
        piece.operation = Operation(body, kind=Kind.SYNCS, reply_min=protocol.ATA_HEADER, user=piece)

    # A piece's life

    def _go(self, piece: Piece, now_ns: int) -> None:
        """Its range is its own now."""
        piece.kind = Kind.READS if piece.patches else Kind.CHANGES
        if piece.kind is Kind.READS or not self._is_looked_for(piece, now_ns):
            self._carry_on(piece, piece.count, now_ns)

    def _is_looked_for(self, piece: Piece, now_ns: int) -> bool:
        """Whether a write waits until a server that is to be proved has shown its range."""
        request = piece.request
        if not self._proof.wanted or request is None or request.verb is Verb.TRIM:
            return False
        return self._proof.takes(piece, self._bytes(piece, piece.count), now_ns)

    def _carry_on(self, piece: Piece, most: int, now_ns: int) -> None:
        """Ask for what comes next of it, at most so many sectors."""
        before, count = piece.operation, min(most, piece.count - piece.at)
        if before is not None:
            piece.older += before.kind is Kind.CHANGES
        reads = piece.kind is Kind.READS
        message = self._reading(piece, count) if reads else self._writing(piece, count)
        piece.operation = Operation(
            ata.encode(message),
            kind=piece.kind,
            reply_min=protocol.ATA_HEADER + (count * protocol.SECTOR if reads else 0),
            free=piece.free,
            sectors=count,
            user=piece,
        )
        self.session.start(piece.operation, now_ns)

    def _reading(self, piece: Piece, count: int) -> AtaRequest:
        return AtaRequest(AFLAG_EXTENDED, 0, count, READ_SECTORS_EXT, piece.first + piece.at)

    def _writing(self, piece: Piece, count: int) -> AtaRequest:
        request, flags = piece.request, AFLAG_EXTENDED | AFLAG_WRITE
        assert request is not None, "a caller waits for it"
        data = self._bytes(piece, count)
        if request.verb is Verb.TRIM:
            return AtaRequest(flags, 1, count, DATA_SET_MANAGEMENT, 0, data)
        fua = request.verb is Verb.WRITE_FUA and not request.flushes
        opcode = WRITE_DMA_FUA_EXT if fua else WRITE_SECTORS_EXT
        return AtaRequest(flags, 0, count, opcode, piece.first + piece.at, data)

    def _bytes(self, piece: Piece, count: int) -> bytes:
        """What is written by the next sectors of it."""
        request, at = piece.request, piece.at * protocol.SECTOR
        assert request is not None, "a caller waits for it"
        if piece.data is None:
            at += piece.first * protocol.SECTOR - request.offset
        return bytes((piece.data or request.data)[at : at + count * protocol.SECTOR])

    def _run(self, now_ns: int) -> None:
        """Nothing is left to be done now."""
        self._conclude(now_ns)
        if self._proof.works or self._proof.news != self.session.news:
            self._proof.step(now_ns)
            self._conclude(now_ns)

    def _conclude(self, now_ns: int) -> None:
        """What became of operations means this for requests."""
        events = self.session.events
        while events:
            event = events.popleft()
            piece = event.operation.user
            if isinstance(piece, Look):
                self._proof.became(piece, event, now_ns)
                continue
            assert isinstance(piece, Piece), "every other operation is a piece's"
            if isinstance(event, Answered):
                self._answered(piece, event, now_ns)
            elif isinstance(event, Settled):
                self._settled(piece, event.operation, now_ns)
            else:
                self._carry_on(piece, event.sectors, now_ns)

    def _answered(self, piece: Piece, event: Answered, now_ns: int) -> None:
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
        elif request.verb is Verb.IDENTIFY:
            request.buffer = bytearray(event.raw[protocol.ATA_HEADER : protocol.ATA_HEADER + protocol.SECTOR])
            fits = self.session.identified(event.way, event.raw, UNSTAMPED, now_ns)
            self._part(request, Result() if fits else Result(Outcome.REFUSED), piece)
        elif request.verb is Verb.ASK:
            request.buffer = bytearray(event.raw)
            self._part(request, Result(), piece)
        else:
            kept = self.session.flushed(request.changes)
            self._part(request, Result() if kept else Result(Outcome.CACHE_LOST), piece)
        if request.flushes and not request.left and request.result is None and piece.request is None:
            self._flush_behind(request, now_ns)

    def _advance(self, piece: Piece, request: Request, event: Answered, now_ns: int) -> None:
        """So much more of a piece was read or changed."""
        sectors = event.operation.sectors
        if piece.kind is Kind.READS:
            data = event.raw[protocol.ATA_HEADER : protocol.ATA_HEADER + sectors * protocol.SECTOR]
            self._keep(piece, request, data)
        piece.at += sectors
        if piece.at == piece.count and piece.kind is Kind.READS and request.verb is not Verb.READ:
            self._patch(piece, request)
            if self._is_looked_for(piece, now_ns):
                return
        if piece.at < piece.count:
            self._carry_on(piece, self.session.frame(piece.kind), now_ns)
            return
        self._part(request, Result(), piece)
        if piece.echo:
            self._proof.acknowledged(piece, event.way, now_ns)

    def _keep(self, piece: Piece, request: Request, data: bytes) -> None:
        """What was read: the caller's, or what is to be patched."""
        if request.verb is not Verb.READ:
            piece.data = (piece.data or bytearray()) + data
            return
        first = (piece.first + piece.at) * protocol.SECTOR
        start, skip = max(0, first - request.offset), max(0, request.offset - first)
        size = min(len(data) - skip, request.length - start)
        request.buffer[start : start + size] = data[skip : skip + size]

    def _patch(self, piece: Piece, request: Request) -> None:
        """The sectors as they are, with the part of them that the request covers: this is written."""
        assert piece.data is not None, "read before"
        first = piece.first * protocol.SECTOR
        start, skip = max(0, first - request.offset), max(0, request.offset - first)
        size = min(len(piece.data) - skip, request.length - start)
        piece.data[skip : skip + size] = request.data[start : start + size]
        piece.kind, piece.at = Kind.CHANGES, 0

    def _flush_behind(self, request: Request, now_ns: int) -> None:
        """A durable write to a disk that knows only FLUSH."""
        request.flushes = False
        request.left = 1
        request.changes = self.session.changes()
        piece = Piece(request, 0, 1)
        self._pieces[request] = [piece]
        self.pending += 1
        self._flush(piece)
        if piece.operation is not None:
            self.session.start(piece.operation, now_ns)

    def _part(self, request: Request, result: Result, piece: Piece | None = None) -> None:
        """One piece of a request has its answer."""
        if piece is not None:
            piece.request = None
        request.left -= 1
        if result.outcome is not Outcome.OK and (request.worst is None or result.lba < request.worst.lba):
            request.worst = result
        if request.left or (request.flushes and request.worst is None):
            return
        self._end(request, request.worst or result._replace(data=bytes(request.buffer)))

    def _end(self, request: Request, result: Result) -> None:
        self._pieces.pop(request, None)
        request.result = result
        self.done.append(request)

    def _settled(self, piece: Piece, operation: Operation, now_ns: int) -> None:
        """Nothing of an operation can do anything any more. Reads before the last one do not matter."""
        if operation is piece.operation:
            piece.operation = None
        elif operation.kind is Kind.CHANGES:
            piece.older -= 1
        else:
            return
        if piece.operation is not None or piece.older or piece.echo:
            return
        if piece in self._ranges:
            self._leave(piece, now_ns)
        else:
            self.pending -= 1

    # For the proof

    def close(self, sample: Claim) -> None:
        """Keep our writes out of a range that none of them holds."""
        self.pending += 1
        self._ranges.enter(sample)

    def open(self, sample: Claim, now_ns: int) -> None:
        """Let them in."""
        self._leave(sample, now_ns)

    def write(self, piece: Write, now_ns: int) -> None:
        """Send one that was looked for."""
        assert isinstance(piece, Piece), "only pieces are looked for"
        if piece.request is None:
            self.rest(piece, now_ns)
        else:
            self._carry_on(piece, piece.count, now_ns)

    def rest(self, piece: Write, now_ns: int) -> None:
        """One is not looked for any more."""
        assert isinstance(piece, Piece), "only pieces are looked for"
        if piece.operation is None and not piece.older and piece in self._ranges:
            self._leave(piece, now_ns)

    def _leave(self, piece: Claim, now_ns: int) -> None:
        """The range is given up; those behind may go. One that no caller waits for leaves at once, too: a
        queue, as there may be many behind each other."""
        leaving: deque[Claim] = deque([piece])
        while leaving:
            self.pending -= 1
            for follower in self._ranges.leave(leaving.popleft()):
                assert isinstance(follower, Piece), "only pieces claim ranges"
                if follower.request is None:
                    leaving.append(follower)
                else:
                    self._go(follower, now_ns)


def _judged(event: Answered) -> Result:
    if event.good:
        return Result()
    if event.header.flags & FLAG_ERROR:
        return Result(Outcome.AOE_ERROR, 0, event.header.error)
    said = ata.decode_reply(event.raw)
    assert isinstance(said, AtaReply), "it has its registers, or it would be no reply"
    return Result(Outcome.ATA_ERROR, said.status, said.error, said.lba)
