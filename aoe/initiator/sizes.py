"""How large frames may be on one path: no more than its ends take, and no more than was seen to pass between.

What a server and our interface take says nothing of the switches between them. So frames that are larger
than every Ethernet carries are used only after one as large has passed: a READ whose request is filled up
with zeroes shows that it arrives there (targets ignore trailing bytes), a READ of so many sectors that its
answer comes back. Beside them goes a READ of one sector: where that is lost, too, nothing is learned of
sizes. What is lost three times does not pass, and half of it is tried. csrc/initiator/sizes.c does the same.
"""

import enum
from typing import NamedTuple

from aoe import limits
from aoe.timing import USUAL, Timing


class Direction(enum.IntEnum):
    """Of a frame: to the server with what is written, or back with what is read."""

    THERE = 0
    BACK = 1


class Narrow(enum.IntEnum):
    """Why requests are smaller than both ends of a path take."""

    NOT = 0
    TRIED = 1
    """It is being tried whether larger frames pass."""
    THERE = 2
    """Larger ones do not get to the server."""
    BACK = 3
    """Larger ones do not come from it."""
    BOTH = 4


NARROW_TEXTS = {
    Narrow.NOT: "",
    Narrow.TRIED: "larger frames are being tried",
    Narrow.THERE: "larger frames do not get there: look at the MTU of the switches between",
    Narrow.BACK: "larger frames do not come back: look at the MTU of the switches between",
    Narrow.BOTH: "larger frames do not pass: look at the MTU of the switches between",
}


class Probe(NamedTuple):
    """What is sent to find out; without a direction it is the small one beside the others."""

    direction: Direction | None
    sectors: int
    turn: int


class Sizes:
    """Of one path, in sectors."""

    def __init__(self, timing: Timing = USUAL) -> None:
        self._timing = timing
        self.most = 0
        """What both ends take."""
        self.lba = 0
        """Where probes read."""
        self._passed = [limits.SECTORS_SURE] * 2
        self._tried = [0, 0]
        self._losses = [0, 0]
        self._doubted = [False, False]
        self._sent: dict[int, Probe | None] = {}
        """By tag; None where they were answered."""
        self._turn = 0
        self._heard = False
        """Whether the small probe of this turn was answered."""
        self._wait_ns = self._timing.size_wait_ns
        self._due_ns = 0
        self._again_ns = 0
        self._settled = True
        """Whether it was found out how much passes."""

    def limit(self, direction: Direction) -> int:
        """The most that a request may have."""
        return min(self.most, self._passed[direction])

    @property
    def narrow(self) -> Narrow:
        """Why requests are smaller than both ends take."""
        there, back = (passed < self.most for passed in self._passed)
        found = (Narrow.NOT, Narrow.THERE, Narrow.BACK, Narrow.BOTH)[there + 2 * back]
        return Narrow.TRIED if found is not Narrow.NOT and not self._settled else found

    @property
    def shown(self) -> tuple[int, int, Narrow]:
        """What others see of it."""
        return self.limit(Direction.THERE), self.limit(Direction.BACK), self.narrow

    @property
    def _searches(self) -> bool:
        return any(self._tried)

    # What happens

    def fit(self, most: int, now_ns: int) -> None:
        """The ends take so much now."""
        rose, self.most = most > self.most, most
        for direction in Direction:
            self._passed[direction] = max(min(self._passed[direction], most), limits.SECTORS_SURE)
            if self._tried[direction] > most:
                self._tried[direction], self._losses[direction] = self._candidate(direction, most), 0
                self._search(now_ns)
        if rose:
            self._settled = False
            self._begin(now_ns)

    def restart(self, now_ns: int) -> None:
        """The path is there anew: it may lead over other switches."""
        self._passed = [limits.SECTORS_SURE] * 2
        self._settled = False
        self._begin(now_ns)

    def again(self, wanted: int, now_ns: int) -> bool:
        """Whether it is time to look if more passes after all, up to what our end takes."""
        if self._searches or now_ns < self._again_ns or min(self._passed) >= wanted:
            return False
        self._begin(now_ns)
        return True

    def doubt(self, direction: Direction, lba: int, now_ns: int) -> None:
        """What reads or writes there was lost three times, and nothing as large was answered since."""
        if self._tried[direction] or self.limit(direction) <= limits.SECTORS_SURE:
            return
        if not self._searches:
            self._search(now_ns)
        self._tried[direction], self._losses[direction] = self.limit(direction), 0
        self._doubted[direction] = True
        self.lba = lba

    def stand_still(self, gap_ns: int) -> None:
        """We did not run for so long: what was asked may have been answered."""
        self._due_ns += gap_ns

    def turn(self, now_ns: int) -> list[Probe]:
        """Time has passed: what is to be sent."""
        if not self._searches or now_ns < self._due_ns:
            return []
        if self._turn:
            self._judge()
            if not self._searches:
                self._settled = True
                return []
        self._turn += 1
        self._heard = False
        self._due_ns = now_ns + self._wait_ns
        probes = [
            Probe(direction, self._tried[direction], self._turn)
            for direction in Direction
            if self._tried[direction]
        ]
        return [*probes, Probe(None, 1, self._turn)]

    def sent(self, tag: int, probe: Probe) -> None:
        """A probe left with that tag."""
        self._sent[tag] = probe
        if len(self._sent) > limits.SIZE_PROBES_MAX:
            del self._sent[next(iter(self._sent))]

    def asked(self, tag: int) -> Probe | None:
        """Which probe had that tag."""
        return self._sent.get(tag)

    def answered(self, tag: int) -> None:
        """The reply to a probe came."""
        probe, self._sent[tag] = self._sent[tag], None
        assert probe is not None, "it was asked"
        if probe.direction is None:
            self._heard |= probe.turn == self._turn
            return
        direction = probe.direction
        self._passed[direction] = max(self._passed[direction], min(probe.sectors, self.most))
        if self._passed[direction] >= self._tried[direction]:
            self._tried[direction], self._doubted[direction] = 0, False
        if not self._searches:
            self._settled = True

    # Inside

    def _candidate(self, direction: Direction, sectors: int) -> int:
        """0 if that is known to pass."""
        return sectors if sectors > self._passed[direction] else 0

    def _begin(self, now_ns: int) -> None:
        """Try what the ends take where less is known to pass."""
        self._search(now_ns)
        self.lba = 0
        for direction in Direction:
            self._tried[direction] = self._candidate(direction, self.most)
            self._losses[direction], self._doubted[direction] = 0, False

    def _search(self, now_ns: int) -> None:
        self._sent.clear()
        self._turn = 0
        self._wait_ns = self._timing.size_wait_ns
        self._due_ns = now_ns
        self._again_ns = now_ns + self._timing.size_again_ns

    def _judge(self) -> None:
        """A turn is over. What was not answered, though a small one was, counts as lost."""
        if not self._heard:
            self._wait_ns = min(2 * self._wait_ns, self._timing.size_wait_max_ns)
            return
        for direction in Direction:
            if not self._tried[direction]:
                continue
            if self._doubted[direction]:
                self._passed[direction], self._doubted[direction] = limits.SECTORS_SURE, False
                self._settled = False
            self._losses[direction] += 1
            if self._losses[direction] == limits.SIZE_LOSSES:
                self._losses[direction] = 0
                self._tried[direction] = self._candidate(direction, _half(self._tried[direction]))


def _half(sectors: int) -> int:
    """From 8 up a multiple of 8, so that pieces stay aligned to 4 KiB."""
    half = sectors // 2
    return half & ~7 if half >= 8 else half
