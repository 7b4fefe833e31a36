"""The one table of numbers."""

import re
from itertools import pairwise

import pytest

from aoe.limits import LATENCY_BUCKETS
from aoe.metrics.table import (
    BUCKETS,
    CLIENT,
    EXPORT,
    ROWS,
    TARGET,
    THREAD,
    Row,
    Type,
    bucket_of,
    length_of,
)


def test_scope_and_name_tell_a_number_apart() -> None:
    assert len({(row.scope, row.name) for row in ROWS}) == len(ROWS)
    assert all(re.fullmatch(r"[a-z_]+", row.name) for row in ROWS)


@pytest.mark.parametrize("rows", [EXPORT, CLIENT, THREAD, [row for row in TARGET if row.at >= 0]])
def test_each_has_a_place_of_its_own_and_none_is_left(rows: tuple[Row, ...]) -> None:
    taken = [place for row in rows for place in row.places]
    assert sorted(taken) == list(range(length_of(tuple(rows))))


def test_what_is_told_together_is_of_one_kind() -> None:
    of_family: dict[tuple[str, str], Row] = {}
    for row in ROWS:
        first = of_family.setdefault((row.scope, row.family), row)
        assert (row.type, row.unit, row.label) == (first.type, first.unit, first.label), row.name
        assert row.label or first is row, row.name


def test_what_it_is_alone_says_what_it_is_for_the_target() -> None:
    told = {row.name: row.help for row in TARGET}
    errors = [row for row in EXPORT if row.label == "reason"]
    assert errors
    assert all(told[row.name] == row.help for row in errors)


@pytest.mark.parametrize("bucket", range(LATENCY_BUCKETS - 1))
def test_a_time_is_in_the_bucket_whose_bound_it_does_not_pass(bucket: int) -> None:
    assert [bucket_of(BUCKETS[bucket] + more) for more in (-1, 0, 1)] == [bucket, bucket, bucket + 1]


def test_buckets_rise_by_one_factor_and_take_every_time() -> None:
    assert {after / before for before, after in pairwise(BUCKETS)} == {4.0}
    assert (bucket_of(-(10**18)), bucket_of(0), bucket_of(1 << 63)) == (0, 0, LATENCY_BUCKETS - 1)


def test_histograms_are_of_times() -> None:
    histograms = [row for row in ROWS if row.type is Type.HISTOGRAM]
    assert {row.unit for row in histograms} == {"nanoseconds"}
    assert all(len(row.places) == LATENCY_BUCKETS + 1 for row in histograms)
