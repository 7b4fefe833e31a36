"""Which changes wait for which ranges of a snapshot: case by case, and by a model that finds broken ones."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aoe.limits import SPANS_MAX
from aoe.target.cut import Cut, Spans
from aoe.target.order import OrderQueue, Ticket
from tests.target.cut_model import CutBroken, Play, Running
from tests.target.driver import MS, SECOND, Driver, flush, make_driver, make_export, read, trim, write

RANGE = 4096
SECTORS = RANGE // 512


def cut_of(ranges: int) -> Cut[str]:
    return Cut(ranges * RANGE, RANGE)


def span(first: int, last: int) -> Spans:
    """Ranges [first, last) in sectors."""
    return ((first * SECTORS, last * SECTORS),)


def test_a_write_waits_for_what_it_touches_and_for_nothing_else() -> None:
    cut = cut_of(4)
    assert cut.needed == -1
    assert cut.keeps("a", span(1, 3))
    assert cut.keeps("b", ((2 * SECTORS + 1, 2 * SECTORS + 2),))
    assert cut.needed == 1
    assert cut.has(1, 2) == []
    assert cut.needed == 2
    assert cut.has(2, 3) == ["b", "a"]
    assert cut.needed == -1
    assert not cut.keeps("c", span(1, 3))
    assert (cut.left, cut.following) == (2, 0)


def test_what_is_behind_the_end_waits_for_nothing() -> None:
    cut = Cut[str](3 * RANGE + 512, RANGE)
    assert cut.count == 4
    assert not cut.keeps("beyond", span(4, 9))
    assert cut.keeps("the last range", ((3 * SECTORS + 5, 3 * SECTORS + 6),))


def test_a_trim_of_many_ranges_takes_turns_with_writes() -> None:
    cut = cut_of(100)
    assert cut.keeps("trim", span(0, 90))
    assert cut.keeps("write", span(95, 96))
    order = []
    while (number := cut.needed) >= 0:
        order.append((number, cut.has(number, number + 1)))
    assert order[1] == (95, ["write"])
    assert order[-1] == (89, ["trim"])
    assert len(order) == 91


def test_holes_count_as_cloned() -> None:
    cut = cut_of(10)
    cut.keeps("a", span(4, 5))
    cut.has(1, 2)
    assert cut.has(0, 9) == ["a"]
    assert (cut.left, cut.following) == (1, 9)
    cut.has(9, 10)
    assert (cut.left, cut.following) == (0, -1)


def test_a_cut_that_ends_lets_all_go_in_their_order() -> None:
    cut = cut_of(3)
    for name, at in (("a", 2), ("b", 0), ("c", 1)):
        assert cut.keeps(name, span(at, at + 1))
    assert cut.end() == ["a", "b", "c"]
    assert cut.needed == -1


# Through the target


def cutting(driver: Driver, step: int = RANGE) -> Cut[Ticket]:
    export = driver.export
    cut: Cut[Ticket] = Cut(export.drive.sectors * 512, step)
    export.queue.cut(cut)
    return cut


def cloned(driver: Driver, first: int, last: int) -> list[bytes]:
    driver.export.queue.cloned(first, last)
    return driver.perform(driver.responder.go_on(driver.export, driver.now_ns))


def ended(driver: Driver) -> list[bytes]:
    driver.export.queue.end_cut()
    return driver.perform(driver.responder.go_on(driver.export, driver.now_ns))


def test_reads_and_flushes_go_on_while_changes_are_held() -> None:
    driver = make_driver(make_export(sectors=64))
    cutting(driver)
    assert driver.export.queue.holds
    assert driver.send(write(0, bytes(512))) == []
    assert driver.send(trim((8, 4))) == []
    assert len(driver.send(read(20))) == 1
    assert driver.send(flush()) == [], "behind the changes"
    assert len(cloned(driver, 0, 1)) == 1
    assert len(cloned(driver, 1, 2)) == 2, "the TRIM, and then the FLUSH"


def test_the_moment_is_when_what_had_begun_is_over() -> None:
    driver = make_driver(make_export(sectors=64))
    driver.held = True
    driver.send(write(0, bytes(512), tag=1))
    driver.send(write(0, bytes(512), tag=2))
    cutting(driver)
    assert not driver.export.queue.holds
    driver.finish()
    assert driver.export.queue.holds, "the second one has not begun"
    assert not driver.jobs
    cloned(driver, 0, 1)
    assert len(driver.jobs) == 1


def test_a_change_that_waited_too_long_is_not_carried_out() -> None:
    driver = make_driver(make_export(sectors=64), frame_age_ns=SECOND)
    cutting(driver)
    for change in (write(0, b"\1" * 512, tag=1), trim((1, 1), tag=2)):
        assert driver.send(change) == []
    driver.wait(SECOND + MS)
    assert cloned(driver, 0, 1) == []
    assert driver.counters["expired"] == 2
    assert not driver.export.busy
    assert not driver.log


def test_a_cut_that_is_given_up_lets_changes_go_and_can_be_had_again() -> None:
    driver = make_driver(make_export(sectors=64))
    cutting(driver)
    driver.send(write(0, b"\1" * 512))
    assert len(ended(driver)) == 1
    assert ended(driver) == []
    cutting(driver)
    assert driver.send(write(0, b"\2" * 512)) == []
    assert len(cloned(driver, 0, 8)) == 1


def test_a_delayed_write_is_kept_when_its_time_has_come() -> None:
    queue: OrderQueue[str] = OrderQueue(512, 4)
    held = queue.admit("late", ((0, 1),), True, held=True)
    cut: Cut[Ticket[str]] = Cut(4096, 4096)
    queue.cut(cut)
    assert queue.holds
    queue.let_go(held)
    assert queue.take() is None
    queue.cloned(0, 1)
    assert queue.take() is held


def test_many_ranges_count_as_all_between_them() -> None:
    queue: OrderQueue[str] = OrderQueue(512, 4)
    queue.cut(Cut(64 * 512, 512))
    queue.admit("trim", [(3 * at, 1) for at in range(SPANS_MAX + 1)], True)
    queue.cloned(0, 12)
    assert queue.take() is None
    queue.cloned(12, 13)
    assert queue.take() is not None


# The model


@settings(max_examples=150)
@given(st.integers(0, 1 << 32))
def test_a_snapshot_is_the_disk_of_one_moment(seed: int) -> None:
    Play(Cut, seed).run(150)


class LooksAtTheFirstRangeOnly(Cut[Running]):
    def _ranges(self, span: tuple[int, int]) -> tuple[int, int]:
        first, last = super()._ranges(span)
        return first, min(last, first + 1)


class LooksAtTheFirstSpanOnly(Cut[Running]):
    def _missing(self, spans: Spans) -> int:
        return super()._missing(spans[:1])


class LetsGoAtTheFirstRange(Cut[Running]):
    def has(self, first: int, last: int) -> list[Running]:
        return [*super().has(first, last), *self.end()]


class ForgetsTheEnd(Cut[Running]):
    def _ranges(self, span: tuple[int, int]) -> tuple[int, int]:
        first, last = super()._ranges(span)
        return first, min(last, self.count - 1)


class KeepsNothing(Cut[Running]):
    def keeps(self, change: Running, spans: Spans) -> bool:
        return False


class ForgetsOne(Cut[Running]):
    def has(self, first: int, last: int) -> list[Running]:
        return super().has(first, last)[:1]


@pytest.mark.parametrize(
    "broken",
    [
        LooksAtTheFirstRangeOnly,
        LooksAtTheFirstSpanOnly,
        LetsGoAtTheFirstRange,
        ForgetsTheEnd,
        KeepsNothing,
        ForgetsOne,
    ],
)
def test_the_model_finds(broken: type[Cut[Running]]) -> None:
    with pytest.raises(CutBroken):
        for seed in range(200):
            Play(broken, seed).run(150)
