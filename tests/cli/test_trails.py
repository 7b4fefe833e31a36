"""Lines of small bars: what `status --watch` remembers and draws."""

from typing import Any

import pytest

from aoe.cli.status import Look
from aoe.cli.trails import BARS, P99, PLAIN, RATE, Trails, sparkline
from aoe.limits import LATENCY_BUCKETS, TRAIL_MAX
from aoe.metrics.table import BUCKETS


def export(address: str, reads: int, reply: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"address": address, "reads": reads, "reply": [*reply, 0] if reply else []}


def looks(*seconds: list[dict[str, Any]]) -> list[Look]:
    found: list[Look] = []
    for at, exports in enumerate(seconds):
        found.append(Look({"exports": exports}, float(at), found[-1] if found else None))
    return found


def counts(bucket: int, count: int) -> tuple[int, ...]:
    return tuple(count if at == bucket else 0 for at in range(LATENCY_BUCKETS))


def test_a_trail_has_what_was_seen() -> None:
    trails = Trails()
    for look in looks(*([export("e1.0", reads, counts(3, reads))] for reads in (0, 10, 10, 40))):
        trails.saw(look)
    assert trails.of("e1.0", RATE) == type(trails.of("e1.0", RATE))([None, 10, 0, 30], TRAIL_MAX)
    first, second, pause, last = trails.of("e1.0", P99)
    assert (first, pause) == (None, None), "nothing was answered"
    assert second == last
    assert BUCKETS[2] / 1000 < (last or 0) <= BUCKETS[3] / 1000


def test_what_is_not_there_any_more_is_forgotten() -> None:
    trails = Trails()
    for look in looks([export("e1.0", 1), export("e1.1", 1)], [export("e1.1", 2)], [export("e1.0", 3)]):
        trails.saw(look)
    assert list(trails.of("e1.1", RATE)) == []
    assert list(trails.of("e1.0", RATE)) == [None]
    for _ in range(3 * TRAIL_MAX):
        trails.saw(look)
    assert len(trails.of("e1.0", RATE)) == TRAIL_MAX


@pytest.mark.parametrize(
    ("trail", "line"),
    [
        ([], "     "),
        ([None, 5.0], "    █"),
        ([0.0, 0.0], "   ▁▁"),
        ([1.0, 2.0, 4.0, 8.0], " ▂▃▅█"),
        ([8.0, None, 0.0, 0.001, 8.0], "█ ▁▂█"),
        ([99.0, 1.0, 1.0, 1.0, 1.0, 1.0], "█████"),
    ],
)
def test_bars_are_parts_of_the_largest_that_is_shown(trail: list[float | None], line: str) -> None:
    assert sparkline(trail, 5) == line


def test_a_terminal_without_bars_gets_letters() -> None:
    assert len(PLAIN) == len(BARS)
    assert PLAIN.isascii()
    assert sparkline([0.0, 8.0], 3, PLAIN) == " _#"


@pytest.mark.parametrize("reply", [None, 7, [1], ["x"] * 13, [1] * 13])
def test_a_histogram_of_another_release_is_no_matter(reply: object) -> None:
    trails = Trails()
    before = export("e1.0", 0, counts(3, 5))
    for look in looks([before], [{**export("e1.0", 9), "reply": reply}]):
        trails.saw(look)
    assert list(trails.of("e1.0", RATE)) == [None, 9.0]
    assert list(trails.of("e1.0", P99))[-1] is None
