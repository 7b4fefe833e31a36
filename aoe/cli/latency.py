"""Histograms of a load's latencies: 32 steps for each power of two nanoseconds, about 3 % wide."""

from collections.abc import Sequence

from aoe.limits import LOAD_BUCKETS

STEPS = 32


def bucket(ns: int) -> int:
    """The step in which a latency is counted."""
    if ns < STEPS:
        return ns
    top = ns.bit_length() - 1
    return min((top - 4) * STEPS + (ns >> (top - 5) & STEPS - 1), LOAD_BUCKETS - 1)


def lower_ns(number: int) -> int:
    """Where a step begins."""
    return number if number < STEPS else (STEPS + number % STEPS) << (number // STEPS - 1)


def percentile_ns(histogram: Sequence[int], share: float) -> int:
    """Where the step begins that so many are in or below: of 1 the last one; 0 where there are none."""
    total, seen = sum(histogram), 0
    wanted = min(total * share, total - 1)
    for number, count in enumerate(histogram):
        seen += count
        if count and seen > wanted:
            return lower_ns(number)
    return 0
