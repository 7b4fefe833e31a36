"""What a client gets done while a primary is lost: bench/plot.py draws it over time."""

import shutil
from typing import Any

import pytest

from bench import contest
from tests.support.labs.failover import SCENARIOS, pair, troubled
from tests.support.tools import need_engine

SECONDS = 8.0
TROUBLE_S = 2.0
SECTORS = 2097152


@pytest.mark.benchmark(group="failover")
@pytest.mark.parametrize("scenario", ["link down", "kill", "pause"])
def test_throughput_through_a_failover(scenario: str, benchmark: Any) -> None:
    """In memory, so that the disk's own stalls are not in the picture; random over 1 GiB, so that few writes
    meet a range that is closed because a write to it was under way then."""
    need_engine()
    directory = contest.scratch()
    load = ("bench.failover_load", str(SECONDS))
    try:
        with pair(directory, SECTORS) as there:
            for primary in (there.owner, there.other):
                contest.pin(primary.pid, contest.TARGET_CPU)
            said, moments = benchmark.pedantic(
                troubled,
                args=(there, directory, SCENARIOS[scenario].trouble, TROUBLE_S, *load),
                rounds=1,
                iterations=1,
            )
    finally:
        shutil.rmtree(directory)
    start_s = said.pop("start_s")
    benchmark.extra_info.update(said, begin_s=moments.begin_s - start_s, end_s=moments.end_s - start_s)
    assert sum(said["writes"][-10:]) > 0
