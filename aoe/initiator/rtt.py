"""How long a reply takes (Jacobson/Karels, as in RFC 6298)."""

from aoe.timing import USUAL, Timing


class Rtt:
    """Smoothed round-trip time and its mean deviation, in nanoseconds."""

    def __init__(self, timing: Timing = USUAL) -> None:
        self._timing = timing
        self.smoothed_ns = 0
        """0 until there is a sample."""
        self._deviation_ns = 0
        self.shown_ns = 0
        """The same for people: without what waited for a server that paused."""
        self._heard_ns = 0
        self._paused_ns = 0
        """When the last pause ended. It is one where a request was late, and nothing else was answered."""
        self.least_ns = self._timing.rto_min_ns
        """The shortest wait. It grows where a server that pauses is asked again for nothing."""

    def heard(self, sent_ns: int, now_ns: int) -> None:
        """A reply to what was sent then. Every copy has a tag of its own, so re-sent requests count, too."""
        if self.smoothed_ns and now_ns - max(self._heard_ns, sent_ns) > self.timeout_ns:
            self._paused_ns = now_ns
        self._heard_ns = now_ns
        ns = max(now_ns - sent_ns, 1)
        if sent_ns >= self._paused_ns:
            self.shown_ns = max(self.shown_ns + (ns - self.shown_ns) // 8, 1) if self.shown_ns else ns
        self._sample(ns)

    def _sample(self, ns: int) -> None:
        if not self.smoothed_ns:
            self.smoothed_ns = ns
            self._deviation_ns = ns // 2
            return
        error = ns - self.smoothed_ns
        self.smoothed_ns = max(self.smoothed_ns + error // 8, 1)
        self._deviation_ns += (abs(error) - self._deviation_ns) // 4

    @property
    def usual_ns(self) -> int:
        """Up to which a reply is not late."""
        return self.smoothed_ns + 4 * self._deviation_ns if self.smoothed_ns else self._timing.rto_first_ns

    @property
    def timeout_ns(self) -> int:
        """After which a request is sent again although nothing says that it was lost."""
        return min(max(self.usual_ns, self.least_ns), self._timing.rto_max_ns)

    def spurious(self) -> None:
        """The answer was only late."""
        self.least_ns = min(2 * self.least_ns, self._timing.rto_calm_ns)

    def lost(self) -> None:
        """It was right to send again: frames are lost here."""
        self.least_ns = max(self.least_ns // 2, self._timing.rto_min_ns)
