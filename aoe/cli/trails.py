"""What `status --watch` remembers of each export, and draws as a line of small bars."""

from collections import deque
from collections.abc import Iterable, Sequence

from aoe.cli.status import Look
from aoe.limits import TRAIL_MAX

RATE, P99 = "requests_per_s", "reply_p99_us"

BARS = "▁▂▃▄▅▆▇█"
PLAIN = "_.-=+*%#"
"""For a terminal that has no others."""

Trail = Sequence[float | None]


class Trails:
    """The last values of exports that are there, one for each look; None where there was none."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], deque[float | None]] = {}

    def saw(self, look: Look) -> None:
        """One more."""
        exports = {str(export.get("address")): export for export in look.exports()}
        self._of = {key: trail for key, trail in self._of.items() if key[0] in exports}
        for address, export in exports.items():
            for name in (RATE, P99):
                value = export.get(name)
                trail = self._of.setdefault((address, name), deque(maxlen=TRAIL_MAX))
                trail.append(float(value) if isinstance(value, int | float) else None)

    def of(self, address: str, name: str) -> Trail:
        """The latest is the last one."""
        return self._of.get((address, name), ())


def sparkline(trail: Trail, cells: int, bars: str = BARS) -> str:
    """The last so many, as parts of the largest; always `cells` wide, with blanks where there is nothing."""
    shown = list(trail)[-cells:]
    most = max((it for it in shown if it), default=0.0)
    return "".join(_bar(it, most, bars) for it in _filled(shown, cells))


def _filled(shown: Sequence[float | None], cells: int) -> Iterable[float | None]:
    return (*[None] * (cells - len(shown)), *shown)


def _bar(value: float | None, most: float, bars: str) -> str:
    if value is None:
        return " "
    if value <= 0 or most <= 0:
        return bars[0]
    return bars[max(1, min(len(bars) - 1, round(value / most * (len(bars) - 1))))]
