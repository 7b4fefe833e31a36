"""What `aoe bench --plot` draws shows a pause where there was one, and latencies as they were."""

import re
from pathlib import Path
from random import Random
from xml.etree import ElementTree

import pytest

from aoe.cli.latency import bucket, lower_ns, percentile_ns
from aoe.cli.plot import Timeline, check, drawn, pauses, write
from aoe.errors import ConfigurationError
from aoe.limits import LOAD_BUCKETS, PLOT_STEPS

MS = 1_000_000


def loaded(
    runtime_s: float, pause: tuple[float, float] | None = None, step_s: float = 0.02
) -> tuple[Timeline, list[int]]:
    """A load of 200 us each, 10 in a step, of which those of a pause come at its end."""
    timeline, histogram = Timeline(runtime_s), [0] * LOAD_BUCKETS
    for step in range(1, round(runtime_s / step_s) + 1):
        at_s = step * step_s
        if pause is None or not pause[0] < at_s <= pause[1]:
            histogram[bucket(200_000)] += 10
            if pause is not None and pause[1] < at_s <= pause[1] + step_s * 1.01:
                histogram[bucket(round((pause[1] - pause[0]) * 1e9))] += 4
        timeline.saw(at_s, histogram)
    return timeline, histogram


def test_a_pause_is_a_band_as_long_as_it_was() -> None:
    timeline, histogram = loaded(4.0, (1.0, 1.5))
    ((began_s, ended_s),) = pauses(timeline.steps)
    assert (began_s, ended_s) == pytest.approx((1.0, 1.5), abs=0.021)
    assert "nothing was answered" in drawn("t", timeline.steps, histogram)


def test_without_one_there_is_no_band() -> None:
    timeline, histogram = loaded(4.0)
    assert not [*pauses(timeline.steps)]
    assert "nothing was answered" not in drawn("t", timeline.steps, histogram)


def test_a_slow_disk_is_no_pause() -> None:
    timeline, histogram = Timeline(10.0), [0] * LOAD_BUCKETS
    for step in range(1, 501):
        histogram[bucket(90 * MS)] += step % 5 == 0
        timeline.saw(step * 0.02, histogram)
    assert not [*pauses(timeline.steps)]


def test_one_that_lasts_to_the_end_is_a_pause() -> None:
    timeline, _ = loaded(4.0, (3.0, 9.0))
    assert [*pauses(timeline.steps)] == [pytest.approx((3.0, 4.0), abs=0.021)]


@pytest.mark.parametrize("runtime_s", [0.01, 3.0, 86400.0])
def test_there_are_no_more_steps_than_can_be_seen(runtime_s: float) -> None:
    timeline, histogram = loaded(runtime_s, step_s=max(0.02, runtime_s / 2000))
    assert len(timeline.steps) <= PLOT_STEPS + 1
    assert sum(map(sum, (step.histogram for step in timeline.steps))) <= sum(histogram)
    ElementTree.fromstring(drawn("t", timeline.steps, histogram))


def test_nothing_can_be_drawn_of_nothing() -> None:
    ElementTree.fromstring(drawn("t", [], [0] * LOAD_BUCKETS))


def test_percentiles_are_those_of_what_was_counted() -> None:
    rng = Random(1)
    for _ in range(200):
        values = sorted(round(10 ** rng.uniform(0, 10)) for _ in range(rng.randrange(1, 300)))
        histogram = [0] * LOAD_BUCKETS
        for value in values:
            histogram[bucket(value)] += 1
        for share in (0.0, 0.5, 0.99, 1.0):
            meant = values[min(int(len(values) * share), len(values) - 1)]
            found = percentile_ns(histogram, share)
            assert found <= meant <= found * 1.04 + 1
    assert percentile_ns([0] * LOAD_BUCKETS, 0.5) == 0


def test_steps_of_the_histogram_have_no_gap() -> None:
    for number in range(1, LOAD_BUCKETS - 1):
        assert bucket(lower_ns(number)) == number
        assert bucket(lower_ns(number) - 1) == number - 1


# The file


def test_a_picture_may_be_drawn_again(tmp_path: Path) -> None:
    timeline, histogram = loaded(1.0)
    path = tmp_path / "out.svg"
    for title in ("first", "second"):
        check(path)
        write(path, title, timeline.steps, histogram)
    assert re.findall(">(first|second)<", path.read_text()) == ["second"]


@pytest.mark.parametrize("content", ["[target]\n", "\0" * 4096, "<html>"])
def test_another_file_is_kept(content: str, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match="is no picture, and is kept; name another file"):
        check(path)
    assert path.read_text() == content


def test_where_no_file_can_be_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no directory; make it"):
        check(tmp_path / "none" / "out.svg")
    with pytest.raises(ConfigurationError, match="name another file"):
        check(tmp_path)
