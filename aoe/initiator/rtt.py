"""How long a reply takes (Jacobson/Karels, as in RFC 6298)."""

from aoe.timing import USUAL, Timing


class Rtt:
    """Smoothed round-trip time and its mean deviation, in nanoseconds."""

    def __init__(self, timing: Timing = USUAL) -> None:
        self._timing = timing
        self.smoothed_ns = 0
        """0 until there is a sample."""
        self._deviation_ns = 0
        self.least_ns = self._timing.rto_min_ns
        """The shortest wait. It grows where a server that pauses is asked again for nothing."""

    def sample(self, ns: int) -> None:
        """One reply took this long. Every copy has a tag of its own, so re-sent requests count, too."""
        if not self.smoothed_ns:
            self.smoothed_ns = max(ns, 1)
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
