"""How old a frame is, by its kernel receive stamp, and when stamps cannot be trusted (order rule T3)."""

from aoe import timing


class AgeGate:
    """Drops data-changing frames that waited too long. All times are nanoseconds.

    Stamps are CLOCK_REALTIME, which may be stepped. The step shows in the distance to BOOTTIME; every
    frame stamped before it has an unknown age, and counts as expired: `era` tells apart what
    was admitted before the last step.
    """

    def __init__(self, age_max_ns: int) -> None:
        self.age_max_ns = age_max_ns
        self.era = 0
        self._distance: int | None = None

    def observe(self, realtime_ns: int, boottime_ns: int) -> bool:
        """Look at both clocks, once a pass; true where REALTIME was stepped since the last time."""
        distance = realtime_ns - boottime_ns
        stepped = self._distance is not None and abs(distance - self._distance) > timing.CLOCK_STEP_NS
        self._distance = distance
        if stepped:
            self.era += 1
        return stepped

    def expired(self, stamp_ns: int, now_ns: int, era: int) -> bool:
        """Whether a frame received at `stamp_ns`, in `era`, may no longer change data at `now_ns`."""
        return era != self.era or not 0 <= now_ns - stamp_ns <= self.age_max_ns
