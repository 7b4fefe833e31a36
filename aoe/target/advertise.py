"""When a target says unasked that it is there."""

import random
from collections.abc import Iterator

from aoe import timing


def delays(rng: random.Random) -> Iterator[float]:
    """Seconds to wait before each advertisement: at 0, 1 and 3 s, every 10 s for two minutes, then every
    60 s give or take a tenth, so that targets started together do not stay together.

    The Linux driver asks once and then only every 60 s: a first query lost is a minute of boot stall.
    """
    jitter = timing.ADVERTISED_JITTER
    yield from timing.ADVERTISED_FIRST_S
    yield from [timing.ADVERTISED_EARLY_S] * timing.ADVERTISED_EARLY_TIMES
    while True:
        yield timing.ADVERTISED_STEADY_S * rng.uniform(1 - jitter, 1 + jitter)
