"""Whether a second server has the same disk as the owner.

Serial, size and equal blocks prove nothing, as two clones of one template have them; an instance says nothing
of the store; and a stamp would write to the user's disk. So:

Samples. A server that is to join is read beside the owner: the first and the last MiB, and 16 blocks between.
While a range is compared, it is closed to our writes. Where it differs, another host may just have written
there: it is read three times, and then the server is refused, with the LBA. A range that writes of ours hold
is tried again, three times, and then left out; so is one that cannot be read. Equal samples are required, but
the server is unproved.

Echo. An unproved server is proved by one write of ours: read through it before the write is sent, its range
had other bytes; then the owner acknowledged the write; read once more, the range has the new bytes; and it
was closed all the time. Only what is stored together does that: not a clone, a stale replica, a foreign page
cache or the other half of a split brain. Another host may write between: it takes 8 writes that are not seen,
and none that is, to refuse the server, with the LBA.

Which servers are asked. The owner is what the disk is. An unproved server carries nothing but this, unless
the owner is lost before the proof: then it takes over, and the others have to be proved against it. What was
refused is compared again from time to time, and stays refused until it passes.

Nothing is sent from here that waited for a range: a range that opens only notes what may go (`Pieces.ready`).
The core takes that afterwards, as it may be the next write to be looked for.

Nothing here holds up work: one write at a time waits for one read over a path that is idle, a range is closed
for PROOF_NS at most, and when the owner or the server is lost all of it is given up at once.

csrc/initiator/proof.c does the same.
"""

import enum
from collections import deque
from collections.abc import Iterator

from aoe import limits
from aoe.initiator.exchange import Kind
from aoe.initiator.facts import Reason
from aoe.initiator.life import State
from aoe.initiator.path import Answered, Event, Operation, Path, TooLarge
from aoe.initiator.pieces import Pieces
from aoe.initiator.ranges import RangeLock
from aoe.initiator.request import Piece
from aoe.initiator.session import Session
from aoe.wire import ata, protocol
from aoe.wire.ata import AFLAG_EXTENDED, AtaRequest

_READ_EXT = 0x24


class Look:
    """A read through one server, for the proof."""

    __slots__ = ("data", "of", "operation")

    def __init__(self, of: "Sample | Echo", path: Path, lba: int, sectors: int) -> None:
        self.of = of
        self.data: bytes | None = None
        """None until it is answered, empty if that was an error."""
        body = ata.encode(AtaRequest(AFLAG_EXTENDED, 0, sectors, _READ_EXT, lba))
        least = protocol.ATA_HEADER + sectors * protocol.SECTOR
        self.operation = Operation(
            body, kind=Kind.READS, reply_min=least, only=path, sectors=sectors, user=self
        )

    def answered(self, event: Answered, sectors: int) -> None:
        """By the server."""
        end = protocol.ATA_HEADER + sectors * protocol.SECTOR
        self.data = event.raw[protocol.ATA_HEADER : end] if event.good else b""


class Sample(RangeLock):
    """A range that is read through both servers. `again_ns` is when it may be tried again."""

    __slots__ = ("again_ns", "differed", "held", "looks", "since_ns")

    def __init__(self, first: int, last: int) -> None:
        super().__init__(first, last)
        self.looks: list[Look] = []
        self.differed = 0
        self.held = 0
        self.since_ns = 0
        self.again_ns = 0

    @property
    def sectors(self) -> int:
        """How many it has."""
        return self.last - self.first

    def cut(self, sectors: int) -> "Sample":
        """It keeps so many; the rest of it."""
        rest = Sample(self.first + sectors, self.last)
        rest.differed, rest.held = self.differed, self.held
        self.last = rest.first
        return rest


class Stage(enum.IntEnum):
    """Of an echo."""

    BEFORE = 0
    WRITING = 1
    AFTER = 2


class Echo:
    """A write that is looked for: `owner` acknowledges it, `path` has to show it."""

    def __init__(self, owner: Path, path: Path, piece: Piece, data: bytes, now_ns: int) -> None:
        self.owner = owner
        self.path = path
        self.lives = _lives(owner, path)
        self.piece = piece
        self.data = data
        self.stage = Stage.BEFORE
        self.since_ns = now_ns
        self.look: Look | None = None

    @property
    def sectors(self) -> int:
        """How many are compared."""
        return len(self.data) // protocol.SECTOR


def ranges_of(sectors: int) -> Iterator[Sample]:
    """What is compared of a disk."""
    end, blocks, size = limits.SAMPLE_END_SECTORS, limits.SAMPLE_BLOCKS, limits.SAMPLE_BLOCK_SECTORS
    runs = [(0, sectors)]
    if sectors > 2 * end + blocks * size:
        between = [sectors // (blocks + 1) * number for number in range(1, blocks + 1)]
        runs = [(0, end), (sectors - end, sectors), *((lba, lba + size) for lba in between)]
    for first, last in runs:
        yield Sample(first, last)


class Proof:
    """Of the servers of one disk."""

    def __init__(self, session: Session, pieces: Pieces) -> None:
        self._session = session
        self._pieces = pieces
        self.news = -1
        """When it last looked at the paths."""
        self.works = False
        """Whether there is something to go on with."""
        self.wanted = False
        """Whether a write is wanted that can be looked for."""
        self._owner: Path | None = None
        self._subject: Path | None = None
        """Whose samples are compared with the owner's."""
        self._lives: tuple[int | None, int | None] = (None, None)
        self._began_ns = 0
        self._left: deque[Sample] = deque()
        self._flying: dict[Sample, None] = {}
        self._echo: Echo | None = None

    def step(self, now_ns: int) -> None:
        """Something happened, or time has passed."""
        if self._echo is not None:
            self._watch_echo(self._echo, now_ns)
        if self._subject is not None:
            self._watch_samples(self._subject, now_ns)
            self._go_on(now_ns)
        while self._subject is None and self._begin_samples(now_ns):
            self._go_on(now_ns)
        self.news = self._session.news
        self.wanted = any(self._is_doubtful(path) for path in self._session.paths)
        self.works = self._echo is not None or self._subject is not None

    def became(self, look: Look, event: Event, now_ns: int) -> None:
        """Of a read of ours."""
        if isinstance(event, TooLarge):
            self._shrink(look, now_ns)
        elif isinstance(event, Answered):
            look.answered(event, look.of.sectors)
            if isinstance(look.of, Echo):
                self._looked(look.of, look, now_ns)
            elif look in look.of.looks:
                self._compare(look.of, now_ns)

    def _shrink(self, look: Look, now_ns: int) -> None:
        """Not so much passes there any more."""
        if isinstance(look.of, Sample):
            if look in look.of.looks:
                self._take_back(look.of, now_ns)
                self._left.append(look.of)
        elif self._echo is look.of and look.of.look is look:
            self._end_echo(look.of, self._session.timing.proof_again_ns, now_ns)

    def stand_still(self, gap_ns: int) -> None:
        """We did not run for so long, which was no server's silence."""
        self._began_ns += gap_ns
        for sample in self._flying:
            sample.since_ns += gap_ns
        if self._echo is not None:
            self._echo.since_ns += gap_ns

    # Samples

    def _begin_samples(self, now_ns: int) -> bool:
        session = self._session
        path = next((path for path in session.paths if path.sampling), None)
        if path is None or session.owner is None or session.facts is None:
            return False
        self._owner, self._subject, self._began_ns = session.owner, path, now_ns
        self._lives = _lives(session.owner, path)
        self._left.extend(ranges_of(session.facts.sectors))
        return True

    def _watch_samples(self, path: Path, now_ns: int) -> None:
        session, owner = self._session, self._owner
        assert owner is not None, "it was compared with the owner"
        goes_on = path in session.paths and path.sampling and session.owner is owner
        if not goes_on or _lives(owner, path) != self._lives:
            self._end_samples(now_ns)
            return
        for sample in [it for it in self._flying if now_ns - it.since_ns >= self._session.timing.proof_ns]:
            self._take_back(sample, now_ns)
            self._left.append(sample)
        if now_ns - max(path.channel.quiet_from_ns, self._began_ns) >= self._session.timing.dead_ns:
            self._end_samples(now_ns)
            session.silent(path, now_ns)

    def _end_samples(self, now_ns: int) -> None:
        self._subject = None
        self._left.clear()
        for sample in list(self._flying):
            self._take_back(sample, now_ns)

    def _take_back(self, sample: Sample, now_ns: int) -> None:
        """Nothing of it is under way any more."""
        del self._flying[sample]
        looks, sample.looks = sample.looks, []
        for look in looks:
            if look.operation.open:
                self._session.abandon(look.operation, now_ns)
        self._pieces.leave(sample)

    def _go_on(self, now_ns: int) -> None:
        """Compare as many as may be under way at once, each as large as passes to both."""
        put_off = 0
        while self._subject is not None and len(self._left) > put_off:
            if len(self._flying) >= limits.SAMPLES_AT_ONCE:
                return
            sample = self._left.popleft()
            if now_ns < sample.again_ns:
                self._left.append(sample)
                put_off += 1
                continue
            if sample.sectors > self._passes(self._subject):
                self._left.appendleft(sample.cut(self._passes(self._subject)))
            if self._pieces.touched(sample.first, sample.last):
                sample.held += 1
                put_off += self._later(sample, sample.held, now_ns)
            else:
                self._read_both(sample, self._subject, now_ns)
        if self._subject is not None and not self._left and not self._flying:
            path, self._subject = self._subject, None
            self._session.sampled(path, now_ns)

    def _passes(self, path: Path) -> int:
        """How many sectors may be read at once from both servers."""
        assert self._owner is not None, "it is compared with the owner"
        return min(path.most(Kind.READS), self._owner.most(Kind.READS))

    def _later(self, sample: Sample, tries: int, now_ns: int) -> bool:
        """Whether it is tried again, or left out."""
        sample.again_ns = now_ns + self._session.timing.proof_again_ns
        if tries < limits.SAMPLE_TRIES:
            self._left.append(sample)
        return tries < limits.SAMPLE_TRIES

    def _read_both(self, sample: Sample, path: Path, now_ns: int) -> None:
        assert self._owner is not None, "it is compared with the owner"
        self._pieces.enter(sample)
        self._flying[sample] = None
        sample.since_ns = now_ns
        sample.looks = [Look(sample, at, sample.first, sample.sectors) for at in (self._owner, path)]
        for look in sample.looks:
            self._session.start(look.operation, now_ns)

    def _compare(self, sample: Sample, now_ns: int) -> None:
        one, other = sample.looks
        if one.data is None or other.data is None or self._subject is None:
            return
        self._take_back(sample, now_ns)
        if not one.data or not other.data:
            sample.held += 1
            self._later(sample, sample.held, now_ns)
        elif one.data != other.data:
            sample.differed += 1
            self._later(sample, sample.differed, now_ns)
            if sample.differed == limits.SAMPLE_TRIES:
                lba = sample.first + _first_difference(one.data, other.data)
                path = self._subject
                self._end_samples(now_ns)
                self._session.condemn(path, Reason.OTHER_DATA, lba, now_ns)

    # Echo

    def _is_doubtful(self, path: Path) -> bool:
        """Whether a server is to show a write of ours."""
        trial, owner = path.trial, self._session.owner
        if owner is None or trial.proved or self._session.leads_to_owner(path):
            return False
        if trial.condemned is Reason.NOT_SEEN:
            return path.state is State.REFUSED and path.vouched
        return path.state is State.USABLE and trial.sampled

    def takes(self, piece: Piece, data: bytes, now_ns: int) -> bool:
        """Whether a write waits until its range was read through a server that is to be proved."""
        if self._echo is not None:
            return False
        for path in self._session.paths:
            idle = not path.channel.load and now_ns >= path.trial.again_ns
            if idle and self._is_doubtful(path):
                self._begin_echo(path, piece, data, now_ns)
                return True
        return False

    def _begin_echo(self, path: Path, piece: Piece, data: bytes, now_ns: int) -> None:
        owner = self._session.owner
        assert owner is not None, "without, no server is doubtful"
        piece.echo = True
        self.works = True
        data = data[: path.most(Kind.READS) * protocol.SECTOR]
        self._echo = Echo(owner, path, piece, data, now_ns)
        self._look_through(self._echo, now_ns)

    def _look_through(self, echo: Echo, now_ns: int) -> None:
        echo.since_ns = now_ns
        echo.look = Look(echo, echo.path, echo.piece.first, echo.sectors)
        self._session.start(echo.look.operation, now_ns)

    def _looked(self, echo: Echo, look: Look, now_ns: int) -> None:
        if self._echo is not echo or echo.look is not look:
            return
        if not look.data:
            self._end_echo(echo, self._session.timing.recheck_ns, now_ns)
        elif echo.stage is Stage.AFTER:
            self._judge(echo, look.data == echo.data, now_ns)
        elif look.data == echo.data:  # it would show nothing
            self._end_echo(echo, self._session.timing.proof_again_ns, now_ns)
        else:
            echo.stage = Stage.WRITING
            self._pieces.write(echo.piece, now_ns)

    def _judge(self, echo: Echo, seen: bool, now_ns: int) -> None:
        path, lba = echo.path, echo.piece.first
        self._end_echo(echo, self._session.timing.proof_again_ns, now_ns)
        if seen:
            self._session.prove(path, now_ns)
            return
        path.trial.misses += 1
        if path.trial.condemned is not Reason.NONE or path.trial.misses >= limits.ECHOES_MAX:
            self._session.condemn(path, Reason.NOT_SEEN, lba, now_ns)

    def acknowledged(self, piece: Piece, path: Path, now_ns: int) -> None:
        """The write was answered by the server of a path, and all went well."""
        echo = self._echo
        if echo is None or echo.piece is not piece:
            return
        if path is echo.owner and self._session.owner is path:
            echo.stage = Stage.AFTER
            self._look_through(echo, now_ns)
        else:
            self._end_echo(echo, self._session.timing.proof_again_ns, now_ns)

    def given_up(self, piece: Piece, now_ns: int) -> None:
        """The write failed, or no caller waits for it any more."""
        if self._echo is not None and self._echo.piece is piece:
            self._end_echo(self._echo, self._session.timing.proof_again_ns, now_ns)

    def _watch_echo(self, echo: Echo, now_ns: int) -> None:
        path, session = echo.path, self._session
        goes_on = path in session.paths and session.owner is echo.owner and self._is_doubtful(path)
        fits = echo.sectors <= path.most(Kind.READS)
        if not goes_on or not fits or _lives(echo.owner, path) != echo.lives:
            self._end_echo(echo, self._session.timing.proof_again_ns, now_ns)
        elif echo.stage is not Stage.WRITING and now_ns - echo.since_ns >= self._session.timing.proof_ns:
            self._end_echo(echo, self._session.timing.recheck_ns, now_ns)
            session.look(path, now_ns)

    def _end_echo(self, echo: Echo, wait_ns: int, now_ns: int) -> None:
        self._echo = None
        echo.path.trial.again_ns = now_ns + wait_ns
        echo.piece.echo = False
        if echo.look is not None and echo.look.operation.open:
            self._session.abandon(echo.look.operation, now_ns)
        if echo.stage is Stage.BEFORE:
            self._pieces.write(echo.piece, now_ns)
        else:
            self._pieces.rest(echo.piece)


def _lives(owner: Path, path: Path) -> tuple[int | None, int | None]:
    """Which processes of the two servers are compared."""
    assert owner.facts is not None, "it was chosen"
    assert path.facts is not None, "it was looked at"
    return owner.facts.instance, path.facts.instance


def _first_difference(one: bytes, other: bytes) -> int:
    """In which sector two ranges differ first."""
    at = next(at for at in range(len(one)) if one[at] != other[at])
    return at // protocol.SECTOR
