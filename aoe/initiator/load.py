"""A load on a disk that the engine itself asks for: what it is, and what became of it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

Seen = Callable[[float, Sequence[int]], None]
"""Is told again and again of a load that runs: seconds since it began, and its histogram up to then."""


class Job(NamedTuple):
    """What to ask of a disk: `block`, `range` and `position` in bytes."""

    depth: int
    block: int
    range: int
    random: bool = True
    write_percent: int = 0
    position: int = 0
    seed: int = 1


class Loaded(NamedTuple):
    """What became of it; `histogram` counts by nanoseconds, 32 steps for each power of two."""

    done: int
    errors: int
    seconds: float
    histogram: list[int]
