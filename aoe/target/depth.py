"""How many requests of an export are at its disk at a time, as `csrc/target/depth.c` has it. Sans-I/O.

A client that is alone may use all places. Where several ask, no more are at the disk than it works on at a
time: what is more only waits inside it, where no other client's request can go first. How many that are shows
when half, and half as many more, are tried for a moment. More are worth it where the disk gains at least a
third of what it would gain if no request took longer. What is measured is how much it does, and not how long
requests take: where it lets some of them wait for others, most times say nothing of that.
"""

from collections.abc import Hashable

from aoe.limits import DEPTH_FIRST, DEPTH_PAUSE_MAX, DEPTH_PAUSE_MIN, DEPTH_SAMPLES_MIN
from aoe.timing import SHARED_NS


class Depth:
    """Of an export with so many places; they stay that many where it does not `adapt`, as for a disk behind
    the page cache, which answers most requests at once. Times are CLOCK_BOOTTIME, in nanoseconds."""

    def __init__(self, places: int, adapts: bool) -> None:
        self.now = self._places = places
        self._adapts = adapts
        self._level = min(DEPTH_FIRST, places)
        """What has been found; `now` differs while something else is tried."""
        self._pace_ns = 0
        """From one request to the next there; 0: not known."""
        self._last: Hashable = None
        self._asked_ns = self._changed_ns = 0
        """When a client asked last, and when one did after another."""
        self._shared = False
        self._downward = True
        """What is tried next."""
        self._pause, self._pauses = 1, 0
        """Rounds before that: left, and after more of them did not help."""
        self._began_ns = self._seen = self._full = 0
        """Of this round: when it began, how many requests have ended, and how many of them while so many were
        there that it matters how many may be."""

    def asks(self, client: Hashable, now_ns: int) -> None:
        """A request of a client is admitted."""
        if not self._adapts:
            return
        if client != self._last:
            if self._last is not None and now_ns - self._asked_ns < SHARED_NS:
                self._changed_ns = now_ns
                if not self._shared:
                    self._share()
            self._last = client
        elif self._shared and now_ns - self._changed_ns >= SHARED_NS:
            self._shared = False
            self.now = self._places
        self._asked_ns = now_ns

    def ended(self, now_ns: int, at_disk: int) -> None:
        """The disk has done one of so many reads and writes that were there."""
        if not self._shared:
            return
        self._seen += 1
        if self._seen <= self.now:  # what was there before
            self._began_ns = now_ns
            return
        samples = max(DEPTH_SAMPLES_MIN, 4 * self.now)
        self._full += 3 * at_disk > 2 * self.now
        if self._seen == self.now + samples:
            self._sum_up((now_ns - self._began_ns) // samples if 4 * self._full >= samples else 0)
            self._begin()

    def _share(self) -> None:
        self._shared = True
        self.now = self._level
        self._pause, self._pauses = 1, 0
        self._begin()

    def _begin(self) -> None:
        self._seen = self._full = 0

    def _sum_up(self, pace_ns: int) -> None:
        if self.now != self._level:
            self._judge(pace_ns)
        elif pace_ns:
            self._settle(pace_ns)
            self._pause -= self._pause > 0
            if not self._pause:
                self._try()

    def _settle(self, pace_ns: int) -> None:
        """One long request moves it little."""
        known = self._pace_ns or pace_ns
        self._pace_ns = min(max(pace_ns, known - known // 8), known + known // 8)

    def _try(self) -> None:
        level = self._level
        self.now = level // 2 if self._downward else min(level + max(1, level // 2), self._places)
        if self.now in (0, level):
            self._turn()

    def _judge(self, pace_ns: int) -> None:
        tried, known = (self.now, pace_ns), (self._level, self._pace_ns)
        better = _worth(tried, known) if self.now > self._level else not _worth(known, tried)
        if pace_ns and better:
            self._level, self._pace_ns = self.now, pace_ns
            self._pause, self._pauses = 1, 0
        else:
            self._turn()

    def _turn(self) -> None:
        """Less for a moment hurts little, more makes others wait."""
        self.now = self._level
        if not self._downward:
            self._pauses = min(max(2 * self._pauses, DEPTH_PAUSE_MIN), DEPTH_PAUSE_MAX)
        self._pause = 1 if self._downward else self._pauses
        self._downward = not self._downward


def _worth(more: tuple[int, int], less: tuple[int, int]) -> bool:
    """Whether it is worth it to have more at the disk, by how many these are and how long one takes then."""
    return more[1] * (more[0] + 2 * less[0]) <= 3 * less[1] * less[0]
