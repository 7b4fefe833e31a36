"""What two servers have is compared, while it is closed to our writes; `aoe.initiator.proof` has the rules.

csrc/initiator/samples.c does the same.
"""

from collections import deque
from collections.abc import Iterator

from aoe import limits
from aoe.initiator.exchange import Kind
from aoe.initiator.facts import Reason
from aoe.initiator.look import Look, lives
from aoe.initiator.path import Answered, Event, Path, TooLarge
from aoe.initiator.pieces import Pieces
from aoe.initiator.ranges import RangeLock
from aoe.initiator.session import Session
from aoe.wire import protocol


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


def ranges_of(sectors: int) -> Iterator[Sample]:
    """What is compared of a disk."""
    end, blocks, size = limits.SAMPLE_END_SECTORS, limits.SAMPLE_BLOCKS, limits.SAMPLE_BLOCK_SECTORS
    runs = [(0, sectors)]
    if sectors > 2 * end + blocks * size:
        between = [sectors // (blocks + 1) * number for number in range(1, blocks + 1)]
        runs = [(0, end), (sectors - end, sectors), *((lba, lba + size) for lba in between)]
    for first, last in runs:
        yield Sample(first, last)


class Samples:
    """Of the owner and one other server at a time, `subject`."""

    def __init__(self, session: Session, pieces: Pieces) -> None:
        self._session = session
        self._pieces = pieces
        self._owner: Path | None = None
        self.subject: Path | None = None
        self._lives: tuple[int | None, int | None] = (None, None)
        self._began_ns = 0
        self._left: deque[Sample] = deque()
        self._flying: dict[Sample, None] = {}

    def step(self, now_ns: int) -> None:
        """Something happened, or time has passed."""
        if self.subject is not None:
            self._watch(self.subject, now_ns)
            self._go_on(now_ns)
        while self.subject is None and self._begin(now_ns):
            self._go_on(now_ns)

    def became(self, look: Look, sample: Sample, event: Event, now_ns: int) -> None:
        """Of a read for a sample."""
        if look not in sample.looks or self.subject is None:
            return
        if isinstance(event, TooLarge):  # not so much passes there any more
            self._take_back(sample, now_ns)
            self._left.append(sample)
        elif isinstance(event, Answered):
            look.answered(event)
            self._compare(sample, self.subject, now_ns)

    def stand_still(self, gap_ns: int) -> None:
        """We did not run for so long, which was no server's silence."""
        self._began_ns += gap_ns
        for sample in self._flying:
            sample.since_ns += gap_ns

    def _begin(self, now_ns: int) -> bool:
        session = self._session
        path = next((path for path in session.paths if path.sampling), None)
        if path is None or session.owner is None or session.facts is None:
            return False
        self._owner, self.subject, self._began_ns = session.owner, path, now_ns
        self._lives = lives(session.owner, path)
        self._left.extend(ranges_of(session.facts.sectors))
        return True

    def _watch(self, path: Path, now_ns: int) -> None:
        session, owner = self._session, self._owner
        assert owner is not None, "it was compared with the owner"
        goes_on = path in session.paths and path.sampling and session.owner is owner
        if not goes_on or lives(owner, path) != self._lives:
            self._end(now_ns)
            return
        for sample in [it for it in self._flying if now_ns - it.since_ns >= self._session.timing.proof_ns]:
            self._take_back(sample, now_ns)
            self._shorten(sample, (sample.sectors + 1) // 2)
            self._left.append(sample)
        if now_ns - max(path.channel.quiet_from_ns, self._began_ns) >= self._session.timing.dead_ns:
            self._end(now_ns)
            session.silent(path, now_ns)

    def _end(self, now_ns: int) -> None:
        self.subject = None
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
        while self.subject is not None and len(self._left) > put_off:
            if len(self._flying) >= limits.SAMPLES_AT_ONCE:
                return
            sample = self._left.popleft()
            if now_ns < sample.again_ns:
                self._left.append(sample)
                put_off += 1
                continue
            self._shorten(sample, self._passes(self.subject))
            if self._pieces.touched(sample.first, sample.last):
                sample.held += 1
                put_off += self._later(sample, sample.held, now_ns)
            else:
                self._read_both(sample, self.subject, now_ns)
        if self.subject is not None and not self._left and not self._flying:
            path, self.subject = self.subject, None
            self._session.sampled(path, now_ns)

    def _shorten(self, sample: Sample, sectors: int) -> None:
        """It keeps no more than so many; the rest comes next."""
        if sample.sectors > sectors:
            self._left.appendleft(sample.cut(sectors))

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

    def _compare(self, sample: Sample, path: Path, now_ns: int) -> None:
        one, other = sample.looks
        if one.data is None or other.data is None:
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
                self._end(now_ns)
                self._session.condemn(path, Reason.OTHER_DATA, lba, now_ns)


def _first_difference(one: bytes, other: bytes) -> int:
    """In which sector two ranges differ first."""
    at = next(at for at in range(len(one)) if one[at] != other[at])
    return at // protocol.SECTOR
