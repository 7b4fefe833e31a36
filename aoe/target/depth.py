"""How many requests of an export are at its disk at a time, as `csrc/target/depth.c` has it. Sans-I/O.

A client that is alone may use all places. Where several ask, no more are at the disk than it works on at a
time: what is more only waits inside it, where no other client's request can go first. How many that are shows
when half and twice as many are tried for a moment. Twice as many are worth it where the disk does a third
more then, that is, where a request takes less than 1.5 times as long: those that are worked on side by side
take no longer, those that wait for each other twice as long. Times are compared by their logarithms, so that
single long ones matter little.
"""

from collections.abc import Hashable

from aoe.limits import DEPTH_FIRST, DEPTH_PAUSE_MAX, DEPTH_SAMPLES_MIN
from aoe.timing import SHARED_NS

OCTAVE_BITS = 4
MEAN_BITS = 4
WORTH = 9 << MEAN_BITS
"""Of 16 parts of an octave: a factor of 1.48."""


def log_of(ns: int) -> int:
    """Sixteenths of a power of two, linear between two of these."""
    ns = max(ns, 1 << OCTAVE_BITS)
    bits = ns.bit_length() - 1
    return bits << OCTAVE_BITS | (ns >> (bits - OCTAVE_BITS)) & ((1 << OCTAVE_BITS) - 1)


class Depth:
    """Of an export with so many places; they stay that many where it does not `adapt`, as for a disk behind
    the page cache, which answers most requests at once. Times are CLOCK_BOOTTIME, in nanoseconds."""

    def __init__(self, places: int, adapts: bool) -> None:
        self.now = self._places = places
        self._adapts = adapts
        self._level = min(DEPTH_FIRST, places)
        """What has been found; `now` differs while something else is tried."""
        self._last: Hashable = None
        self._asked_ns = self._changed_ns = 0
        """When a client asked last, and when one did after another."""
        self._shared = False
        self._downward = True
        """What is tried next."""
        self._pause = self._pauses = 1
        """Rounds of samples before that: left, and at all."""
        self._mean = 0
        """At the level; 0: not known."""
        self._began_ns = self._seen = self._count = self._sum = 0
        """Of this round: when it began, how many requests begun later have ended, and what was counted."""

    def asks(self, client: Hashable, now_ns: int) -> None:
        """A request of a client is admitted."""
        if not self._adapts:
            return
        if client != self._last:
            if self._last is not None and now_ns - self._asked_ns < SHARED_NS:
                self._changed_ns = now_ns
                if not self._shared:
                    self._share(now_ns)
            self._last = client
        elif self._shared and now_ns - self._changed_ns >= SHARED_NS:
            self._shared = False
            self.now = self._places
        self._asked_ns = now_ns

    def ended(self, begun_ns: int, now_ns: int, at_disk: int) -> None:
        """The disk has done one of so many reads and writes that were there."""
        if not self._shared or begun_ns <= self._began_ns:
            return
        samples = max(DEPTH_SAMPLES_MIN, 2 * self.now)
        self._seen += 1
        if self._seen > samples and at_disk >= self.now:  # as many as are tried, and for long enough
            self._count += 1
            self._sum += log_of(now_ns - begun_ns)
        if self._seen == 2 * samples:
            self._sum_up((self._sum << MEAN_BITS) // self._count if 2 * self._count >= samples else 0)
            self._begin(now_ns)

    def _share(self, now_ns: int) -> None:
        self._shared = True
        self.now = self._level
        self._pause = self._pauses = 1
        self._begin(now_ns)

    def _begin(self, now_ns: int) -> None:
        self._began_ns = now_ns
        self._seen = self._count = self._sum = 0

    def _sum_up(self, mean: int) -> None:
        if self.now != self._level:
            self._judge(mean)
            return
        self._mean = mean
        self._pause -= self._pause > 0
        if mean and not self._pause:
            self._try()

    def _try(self) -> None:
        other = self._level // 2 if self._downward else 2 * self._level
        if 1 <= other <= self._places:
            self.now = other
        else:
            self._turn()

    def _judge(self, mean: int) -> None:
        deeper = self.now > self._level
        longer = mean - self._mean if deeper else self._mean - mean
        if mean and deeper == (longer < WORTH):
            self._level, self._mean = self.now, mean
            self._pause = self._pauses = 1
        else:
            self._turn()
        self.now = self._level

    def _turn(self) -> None:
        self._downward = not self._downward
        self._pause = self._pauses = min(2 * self._pauses, DEPTH_PAUSE_MAX)
