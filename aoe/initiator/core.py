"""Byte ranges become requests of one frame and back: split, put in order, patched at odd ends; without I/O.

A request is split into pieces as large as the owner's frames are then, each with a lock on its sectors.
One that comes to a path that takes less is carried out in parts, one after the other; its lock stays until
the fate of all copies of all parts is known.

This is the whole initiator as arithmetic: frames and clock readings go in, `out` and `done` say what is to be
sent and what is finished. csrc/initiator/core.c is the same in C, and a differential test holds it to this,
frame by frame.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence

from aoe import limits
from aoe.drive import identify
from aoe.initiator.debts import NO_LEGACY, Debt, Legacy
from aoe.initiator.exchange import Kind
from aoe.initiator.look import Look
from aoe.initiator.path import (
    Address,
    Answered,
    Event,
    Operation,
    Path,
    PathSnapshot,
    Policy,
    Port,
    Settled,
)
from aoe.initiator.pieces import Pieces
from aoe.initiator.progress import Progress
from aoe.initiator.proof import Proof
from aoe.initiator.request import Outcome, Piece, Request, Result, Verb
from aoe.initiator.session import Session
from aoe.initiator.split import transfers, trims
from aoe.wire import ata, protocol
from aoe.wire.ata import AtaRequest
from aoe.wire.frame import Command
from aoe.wire.opcodes import IDENTIFY_DEVICE


class Core:
    """The disk at `addresses`, over `ports` of ours.

    `out` is what is to be sent, (port, frame), and its sender empties it; `done` what has ended.
    """

    def __init__(
        self,
        ports: int,
        addresses: Sequence[Address],
        first_tag: int,
        policy: Policy = Policy(),
        legacy: Legacy = NO_LEGACY,
    ) -> None:
        self.session = Session(ports, addresses, first_tag, policy, legacy)
        self._seen_ns = 0
        """When we were last told the time."""
        self._stood_ns = 0
        self._pieces = Pieces(self.session)
        self._proof = Proof(self.session, self._pieces)
        self._progress = Progress(self.session, self._pieces, self._proof)
        self.done: deque[Request] = self._progress.done

    @property
    def out(self) -> list[tuple[int, bytes]]:
        """Frames to be sent, and by which port."""
        return self.session.out

    @property
    def pending(self) -> int:
        """Frames' worth of requests that are not settled."""
        return self._pieces.pending

    @property
    def news(self) -> int:
        """Rises with every change of a path or of the disk."""
        return self.session.news

    @property
    def chosen(self) -> bool:
        """Whether a path was found and chosen."""
        return self.session.chosen

    @property
    def comparing(self) -> bool:
        """Whether samples of a server are compared with the owner's."""
        return any(path.sampling for path in self.session.paths)

    @property
    def debts(self) -> list[Debt]:
        """What the next life is to know before what is in `out` is sent."""
        return self.session.debts.all

    @property
    def left(self) -> int:
        """How much of what an earlier life had under way is not over; until then no path is chosen."""
        return len(self.session.debts.left)

    @property
    def identity(self) -> bytes:
        """What IDENTIFY said of the disk, empty until it did."""
        return self.session.facts.data if self.session.facts else b""

    @property
    def pulse_ns(self) -> int:
        """How soon `tick` is wanted."""
        return self.session.pulse_ns

    @property
    def paths(self) -> list[PathSnapshot]:
        """The paths to the disk, the preferred one first."""
        return [
            PathSnapshot(
                path.number,
                path.port,
                *path.channel.peer[1:],
                path.state.shown,
                path.reason,
                path is self.session.owner,
                path.channel.rtt_ns,
                min(path.sizes.shown[:2]),
                path.sectors,
                path.sizes.narrow,
                path.channel.unsettled,
                path.renewed,
                path.trial.proved or not self.session.chosen,
                path.trial.lba,
                path.draining,
                path.trial.copy,
            )
            for path in self.session.paths
        ]

    @property
    def counters(self) -> Counter[str]:
        """What was counted on all paths, by reason."""
        return sum((path.channel.counters for path in self.session.paths), self.session.counters)

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
        """Make a path the owner, if it is usable."""
        self.own_time_ns(now_ns)
        path = self._path(number)
        done = path is not None and self.session.switch(path, now_ns)
        self._run(now_ns)
        return done

    def fenced(self, number: int, now_ns: int) -> None:
        """The server of a path was made sure to do nothing any more."""
        self.own_time_ns(now_ns)
        path = self._path(number)
        if path is not None:
            self.session.fenced(path, now_ns)
        self._run(now_ns)

    def left_is_over(self, now_ns: int, server: tuple[bytes, int, int] | None = None) -> None:
        """What an earlier life had under way at a server, which has this MAC and address, can do nothing any
        more; None: at any server."""
        self.own_time_ns(now_ns)
        self.session.debts.over(server)
        self._run(now_ns)

    def late(self, since_ns: int, until_ns: int) -> None:
        """What was made since then had left only by `until_ns`."""
        self.session.debts.sent(since_ns, until_ns)

    def start(
        self, verb: Verb, offset: int, length: int, data: bytes, now_ns: int, number: int = 0
    ) -> Request:
        """Begin what is asked for, in bytes; ASK goes to the server of the path of that number."""
        self.own_time_ns(now_ns)
        path = self._path(number)
        request = Request(verb, offset, length, data)
        refused = self._refused(request, path)
        if refused is not None:
            self._progress.end(request, refused)
        elif verb is Verb.FLUSH:
            self._progress.flush(request, now_ns)
        elif verb in (Verb.IDENTIFY, Verb.ASK):
            self._progress.single(request, _question(request, path), now_ns)
        else:
            self._split(request, now_ns)
        self._run(now_ns)
        return request

    def abandon(self, request: Request, now_ns: int) -> None:
        """No caller waits any more. What was sent stays of unknown fate."""
        self.own_time_ns(now_ns)
        open_ = [piece for piece in request.pieces if piece.request is not None]
        request.pieces = []
        # What waits first, or it would be sent now.
        for piece in sorted(open_, key=lambda piece: not (piece.operation and piece.operation.waits)):
            piece.request = None
            if piece.operation is not None:
                self.session.abandon(piece.operation, now_ns)
            if piece.echo:
                self._proof.given_up(piece, now_ns)
        self._run(now_ns)

    def _path(self, number: int) -> Path | None:
        """None where there is none any more."""
        return next((path for path in self.session.paths if path.number == number), None)

    # Splitting

    def _refused(self, request: Request, path: Path | None) -> Result | None:
        facts = self.session.facts
        if request.verb is Verb.ASK:
            return None if path is not None else Result(Outcome.OUT_OF_RANGE)
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
        request.pieces = list(self._pieces_of(request, facts.data))
        request.left = len(request.pieces)
        if not request.pieces:
            self._progress.end(request, Result())
        for piece in request.pieces:
            self._begin(piece, request, now_ns)

    def _pieces_of(self, request: Request, identity: bytes) -> Iterator[Piece]:
        frame = self.session.frame(Kind.READS if request.verb is Verb.READ else Kind.CHANGES)
        if request.verb is Verb.TRIM:
            return trims(request, min(identify.trim_blocks_of(identity), frame))
        return transfers(request, frame)

    def _begin(self, piece: Piece, request: Request, now_ns: int) -> None:
        if request.verb is Verb.READ:
            self._pieces.add()
            piece.free = not self._pieces.touched(piece.first, piece.last)
            self._pieces.carry_on(piece, piece.count, now_ns)
            return
        self._pieces.enter(piece)
        if not piece.waits:
            self._progress.go(piece, now_ns)

    # What became of it

    def _run(self, now_ns: int) -> None:
        """Nothing is left to be done now."""
        self._conclude(now_ns)
        if self._proof.works or self._proof.news != self.session.news:
            self._proof.step(now_ns)
            self._conclude(now_ns)

    def _conclude(self, now_ns: int) -> None:
        """One after the other; what holds its range now goes before anything else is looked at."""
        events, ready = self.session.events, self._pieces.ready
        while events or ready:
            if ready:
                self._progress.go(ready.popleft(), now_ns)
            else:
                self._became(events.popleft(), now_ns)

    def _became(self, event: Event, now_ns: int) -> None:
        """What became of an operation means this for requests."""
        piece = event.operation.user
        if isinstance(piece, Look):
            self._proof.became(piece, event, now_ns)
            return
        assert isinstance(piece, Piece), "every other operation is a piece's"
        if isinstance(event, Answered):
            self._progress.answered(piece, event, now_ns)
        elif isinstance(event, Settled):
            self._pieces.settled(piece, event.operation)
        else:
            self._pieces.carry_on(piece, event.sectors, now_ns)


def _question(request: Request, path: Path | None) -> Operation:
    """What is one message, and changes nothing."""
    if request.verb is Verb.ASK:
        command, least = Command(request.offset), request.length
        return Operation(request.data, kind=Kind.READS, reply_min=least, command=command, only=path)
    body = ata.encode(AtaRequest(0, 0, 1, IDENTIFY_DEVICE, 0xA0 << 24))
    return Operation(body, kind=Kind.READS, reply_min=protocol.ATA_HEADER + protocol.SECTOR)
