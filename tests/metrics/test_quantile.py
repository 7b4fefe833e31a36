"""Shares of a histogram, against the times that were counted in it."""

from random import Random

import pytest

from aoe.limits import LATENCY_BUCKETS
from aoe.metrics.quantile import quantile_ns
from aoe.metrics.table import BUCKETS, bucket_of


def counted(times: list[int]) -> list[int]:
    counts = [0] * LATENCY_BUCKETS
    for ns in times:
        counts[bucket_of(ns)] += 1
    return counts


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99, 1.0])
def test_it_is_in_the_bucket_of_the_time_that_it_stands_for(seed: int, share: float) -> None:
    rng = Random(seed)
    times = sorted(round(10 ** rng.uniform(2, 10.5)) for _ in range(rng.randrange(1, 500)))
    exact = times[max(0, -int(-share * len(times) // 1) - 1)]
    found = quantile_ns(counted(times), share)
    assert found is not None
    bucket = min(bucket_of(exact), LATENCY_BUCKETS - 2)
    assert (BUCKETS[bucket - 1] if bucket else 0) <= found <= BUCKETS[bucket]


def test_within_a_bucket_times_count_as_spread_evenly() -> None:
    counts = [0] * LATENCY_BUCKETS
    counts[3] = 100
    assert quantile_ns(counts, 0.5) == (BUCKETS[2] + BUCKETS[3]) / 2
    assert quantile_ns(counts, 1.0) == BUCKETS[3]


def test_nothing_has_no_share() -> None:
    assert quantile_ns([0] * LATENCY_BUCKETS, 0.99) is None
