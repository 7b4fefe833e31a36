"""When a target says unasked that it is there."""

import random
from collections.abc import Iterator

_START_S = (0.0, 1.0, 2.0)
_EARLY_S, _EARLY_TIMES = 10.0, 12
_STEADY_S, _JITTER = 60.0, 0.1


def delays(rng: random.Random) -> Iterator[float]:
    """Seconds to wait before each advertisement: at 0, 1 and 3 s, every 10 s for two minutes, then every
    60 s give or take a tenth, so that targets started together do not stay together.

    The Linux driver asks once and then only every 60 s: a first query lost is a minute of boot stall.
    """
    yield from _START_S
    yield from [_EARLY_S] * _EARLY_TIMES
    while True:
        yield _STEADY_S * rng.uniform(1 - _JITTER, 1 + _JITTER)
