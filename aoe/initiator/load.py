"""A load on a disk that the engine itself asks for: what it is, and what became of it."""

from typing import NamedTuple


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
