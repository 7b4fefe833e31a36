"""Messages that come in floods: the first at once, then one in a while that counts the rest."""

import asyncio
import logging
from collections.abc import Callable

import pytest

from aoe.limits import MESSAGE_KINDS_MAX
from aoe.target.repeated import Repeated
from tests.support.waiting import PATIENCE_S

INTERVAL_S = 0.02
NEVER_S = 600.0
"""An interval that is not over, however slow the machine is."""
LOG = logging.getLogger("aoe.test")


def told(
    caplog: pytest.LogCaptureFixture, scenario: "Callable[[Repeated], object]", wait_s: float = 0
) -> list[str]:
    async def run() -> None:
        scenario(Repeated(LOG, INTERVAL_S if wait_s else NEVER_S))
        await asyncio.sleep(wait_s)

    with caplog.at_level(logging.INFO, "aoe"):
        asyncio.run(run())
    return [record.getMessage() for record in caplog.records]


def flood(repeated: Repeated, count: int, kind: str = "bad") -> None:
    for number in range(count):
        repeated.say(kind, logging.ERROR, "%s: sector %d", kind, number)


def test_the_first_is_said_at_once_and_the_rest_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, lambda it: flood(it, 6500)) == ["bad: sector 0"]


def test_what_was_left_out_is_said_later(caplog: pytest.LogCaptureFixture) -> None:
    lines = told(caplog, lambda it: flood(it, 6500), 5 * INTERVAL_S)
    assert lines == ["bad: sector 0", "bad: sector 6499 (and 6498 more like it)"]


def test_two_of_a_kind_are_both_said_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, lambda it: flood(it, 2), 5 * INTERVAL_S) == ["bad: sector 0", "bad: sector 1"]


def test_kinds_do_not_hide_each_other(caplog: pytest.LogCaptureFixture) -> None:
    def both(repeated: Repeated) -> None:
        flood(repeated, 10, "one")
        flood(repeated, 10, "two")

    assert told(caplog, both) == ["one: sector 0", "two: sector 0"]


def test_a_steady_flood_is_a_line_for_each_interval(caplog: pytest.LogCaptureFixture) -> None:
    total, took_s = 0, 0.0

    async def run() -> None:
        nonlocal total, took_s
        repeated, now = Repeated(LOG, 0.1), asyncio.get_running_loop().time
        began_s = now()
        while len(caplog.records) < 5:
            flood(repeated, 10)
            total += 10
            await asyncio.sleep(0.001)
        took_s = now() - began_s
        repeated.finish()

    with caplog.at_level(logging.INFO, "aoe"):
        asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
    lines = [record.getMessage() for record in caplog.records]
    assert 5 <= len(lines) <= took_s / 0.1 + 2
    assert len(lines) + sum(int(line.split("(and ")[1].split()[0]) for line in lines[1:]) == total


def test_at_the_end_nothing_is_left_unsaid(caplog: pytest.LogCaptureFixture) -> None:
    def ends(repeated: Repeated) -> None:
        flood(repeated, 5)
        repeated.finish()

    assert told(caplog, ends, 3 * INTERVAL_S)[1:] == ["bad: sector 4 (and 3 more like it)"]


def test_once_it_was_quiet_it_is_said_at_once_again(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        repeated = Repeated(LOG, INTERVAL_S)
        for _ in range(3):
            flood(repeated, 1)
            await asyncio.sleep(3 * INTERVAL_S)
        assert not repeated._kinds

    with caplog.at_level(logging.INFO, "aoe"):
        asyncio.run(run())
    assert len(caplog.records) == 3


def test_kinds_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    def many(repeated: Repeated) -> None:
        for number in range(3 * MESSAGE_KINDS_MAX):
            flood(repeated, 1, f"kind {number}")
        assert len(repeated._kinds) <= MESSAGE_KINDS_MAX + 1
        repeated.finish()

    lines = told(caplog, many)
    assert len(lines) == MESSAGE_KINDS_MAX + 2
    assert lines[-1].endswith(f"(and {2 * MESSAGE_KINDS_MAX - 2} more like it)")
