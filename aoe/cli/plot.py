"""What `aoe bench --plot` draws: latencies over time, so that a pause is seen, and how often each came."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from aoe.cli.latency import lower_ns, percentile_ns
from aoe.cli.svg import BLUE, GREY, ORANGE, Frame, Panel, Scale, duration, picture
from aoe.errors import ConfigurationError
from aoe.limits import PLOT_STEPS
from aoe.timing import LOAD_SLICE_S

_WIDTH, _LEFT, _INNER = 800, 64, 712
_BEGINS = b"<svg"
_PALE, _BAR = "#f4d9d9", "#a9cbe6"
_MERGED = 4
"""Steps of the histogram in one bar."""
_PAUSE = 10
_S = 1e9


class Step(NamedTuple):
    """What ended between two times (seconds since the beginning), by its latency."""

    from_s: float
    to_s: float
    histogram: Sequence[int]


class Timeline:
    """Takes what a load has counted up to a time, and has steps of it: no more than `limits.PLOT_STEPS`."""

    def __init__(self, runtime_s: float) -> None:
        self.steps: list[Step] = []
        self._step_s = max(LOAD_SLICE_S, runtime_s / PLOT_STEPS)
        self._at_s = 0.0
        self._last: Sequence[int] = ()

    def saw(self, at_s: float, histogram: Sequence[int]) -> None:
        """So much has ended in each bucket by then."""
        if at_s < self._at_s + self._step_s:
            return
        last = self._last or [0] * len(histogram)
        more = [now - before for now, before in zip(histogram, last, strict=True)]
        self.steps.append(Step(self._at_s, at_s, more))
        self._at_s, self._last = at_s, list(histogram)


def check(path: Path) -> None:
    """ConfigurationError where no picture can be, or where something else would be overwritten."""
    if not path.parent.is_dir():
        raise ConfigurationError(f"--plot {path}: {path.parent} is no directory; make it")
    try:
        with path.open("rb") as there:
            if there.read(len(_BEGINS)) not in (b"", _BEGINS):
                raise ConfigurationError(f"--plot {path} is no picture, and is kept; name another file")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"--plot {path}: {error.strerror}; name another file") from error


def write(path: Path, title: str, steps: Sequence[Step], histogram: Sequence[int]) -> None:
    """Draw it into a file. ConfigurationError where that cannot be written."""
    try:
        path.write_text(drawn(title, steps, histogram), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--plot {path}: {error.strerror}; name another file") from error


def drawn(title: str, steps: Sequence[Step], histogram: Sequence[int]) -> str:
    """The picture."""
    return picture(_WIDTH, 640, [_latencies(title, steps), _rates(steps), _histogram(histogram)])


def _latencies(title: str, steps: Sequence[Step]) -> Panel:
    """Of each step the usual one, and the slowest. Where nothing was answered there is a red band."""
    up = _times([it for step in steps for it in (_at(step, 0.0), _at(step, 1.0)) if it is not None])
    panel = Panel(Frame(_LEFT, 36, _INNER, 220), _across(steps), up, title)
    for first_s, last_s in pauses(steps):
        panel.band(first_s, last_s, _PALE, "nothing was answered")
    for share, colour, label in ((1.0, GREY, "slowest"), (0.99, ORANGE, "p99"), (0.5, BLUE, "p50")):
        found = ((step, _at(step, share)) for step in steps)
        panel.line(
            (None if it is None else ((step.from_s + step.to_s) / 2, it) for step, it in found), colour, label
        )
    return panel


def _rates(steps: Sequence[Step]) -> Panel:
    rates = [sum(step.histogram) / (step.to_s - step.from_s) for step in steps]
    panel = Panel(Frame(_LEFT, 316, _INNER, 100), _across(steps), _from_zero(rates, "requests/s"))
    corners: list[tuple[float, float]] = []
    for step, rate in zip(steps, rates, strict=True):
        corners += [(step.from_s, rate), (step.to_s, rate)]
    panel.line(corners, BLUE)
    return panel


def _histogram(histogram: Sequence[int]) -> Panel:
    """A bar for four steps of it."""
    bars = list(_bars(histogram))
    percent = 100 / (sum(bar.number for bar in bars) or 1)
    across = _times([edge for bar in bars for edge in (bar.from_s, bar.to_s)])
    up = _from_zero([bar.number * percent for bar in bars], "% of the requests")
    panel = Panel(Frame(_LEFT, 476, _INNER, 110), across._replace(name="latency"), up)
    for bar in bars:
        panel.box((bar.from_s, 0), (bar.to_s, bar.number * percent), _BAR)
    for share, colour, label in ((0.5, BLUE, "p50"), (0.99, ORANGE, "p99")):
        if bars:
            at_s = percentile_ns(histogram, share) / _S
            panel.line([(at_s, 0), (at_s, up.most)], colour, f"{label} {duration(at_s)}")
    return panel


class _Bar(NamedTuple):
    from_s: float
    to_s: float
    number: int


def _bars(histogram: Sequence[int]) -> Iterator[_Bar]:
    """From the first one that has any to the last."""
    used = [at for at, count in enumerate(histogram) if count]
    for at in range(min(used) // _MERGED, max(used) // _MERGED + 1) if used else ():
        first, last = at * _MERGED, (at + 1) * _MERGED
        yield _Bar(max(1, lower_ns(first)) / _S, lower_ns(last) / _S, sum(histogram[first:last]))


def pauses(steps: Sequence[Step]) -> Iterator[tuple[float, float]]:
    """In which nothing was answered for ten times as long as usual, from begin to end in seconds."""
    count = sum(sum(step.histogram) for step in steps)
    usual_s = steps[-1].to_s / count if count else 0.0
    for began_s, ended_s in _silent(steps):
        if ended_s - began_s > _PAUSE * usual_s:
            yield began_s, ended_s


def _silent(steps: Sequence[Step]) -> Iterator[tuple[float, float]]:
    began_s: float | None = None
    for step in steps:
        if sum(step.histogram):
            if began_s is not None:
                yield began_s, step.from_s
            began_s = None
        elif began_s is None:
            began_s = step.from_s
    if began_s is not None:
        yield began_s, steps[-1].to_s


def _at(step: Step, share: float) -> float | None:
    return percentile_ns(step.histogram, share) / _S if sum(step.histogram) else None


def _across(steps: Sequence[Step]) -> Scale:
    return Scale(0, steps[-1].to_s if steps else 1, "seconds")


def _times(values: Sequence[float]) -> Scale:
    """Logarithmic, from a power of ten to a power of ten."""
    least, most = (min(values), max(values)) if values else (1e-6, 1.0)
    first = 1e-9
    while first * 10 <= least * 1.0001:
        first *= 10
    last = first * 10
    while last < most * 0.9999:
        last *= 10
    return Scale(first, last, "latency", log=True, words=duration)


def _from_zero(values: Sequence[float], name: str) -> Scale:
    return Scale(0, 1.1 * max(values, default=1) or 1, name)
