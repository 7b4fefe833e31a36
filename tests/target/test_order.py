"""Order rule T1 and turns, case by case and by a model; the model finds queues broken on purpose."""

import time
from collections.abc import Iterable
from typing import Any

import pytest

from aoe.target.order import By, OrderQueue, Ticket
from tests.target.driver import make_driver, make_export, trim
from tests.target.order_model import Op, OrderBroken, play

KIB4 = 4096
NOBODY = By()


class Line:
    """A queue whose jobs are names."""

    def __init__(self, block: int = 512, places: int = 8) -> None:
        self.queue: OrderQueue[str] = OrderQueue(block, places)
        self.running: dict[str, Ticket[str]] = {}

    def read(self, name: str, *extents: tuple[int, int]) -> None:
        self.queue.admit(name, extents, False)

    def write(self, name: str, *extents: tuple[int, int]) -> None:
        self.queue.admit(name, extents, True)

    def starts(self) -> list[str]:
        """What may run now, in its order."""
        started = []
        while (ticket := self.queue.take()) is not None:
            self.running[ticket.job] = ticket
            started.append(ticket.job)
        return started

    def done(self, name: str) -> list[str]:
        """One is done; what may run because of it."""
        self.queue.done(self.running.pop(name))
        return self.starts()


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        ("read", "read", False),
        ("read", "write", True),
        ("write", "read", True),
        ("write", "write", True),
    ],
)
def test_the_same_range(first: str, second: str, waits: bool) -> None:
    line = Line()
    getattr(line, first)("a", (8, 4))
    getattr(line, second)("b", (8, 4))
    assert line.starts() == (["a"] if waits else ["a", "b"])
    assert line.done("a") == (["b"] if waits else [])


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ((0, 8), (8, 8), False),
        ((8, 8), (0, 8), False),
        ((0, 9), (8, 8), True),
        ((8, 1), (8, 1), True),
        ((0, 100), (50, 1), True),
        ((50, 1), (0, 100), True),
        ((0, 1), (1, 1), False),
    ],
)
def test_overlap(one: tuple[int, int], other: tuple[int, int], overlap: bool) -> None:
    line = Line()
    line.write("a", one)
    line.write("b", other)
    assert line.starts() == (["a"] if overlap else ["a", "b"])


@pytest.mark.parametrize(
    ("one", "other", "same_block"),
    [
        ((0, 1), (7, 1), True),
        ((7, 1), (8, 1), False),
        ((6, 4), (15, 1), True),
        ((0, 8), (8, 8), False),
        ((1, 8), (15, 1), True),
        ((9, 1), (0, 8), False),
    ],
)
def test_ranges_are_rounded_to_the_block_of_the_disk(
    one: tuple[int, int], other: tuple[int, int], same_block: bool
) -> None:
    """A 512-byte write on a 4 KiB-block disk reads and writes the whole block."""
    line = Line(KIB4)
    line.write("a", one)
    line.write("b", other)
    assert line.starts() == (["a"] if same_block else ["a", "b"])


def test_any_of_several_ranges_counts() -> None:
    line = Line()
    line.write("trim", (0, 1), (100, 1), (200, 1))
    line.read("between", (50, 1))
    line.read("last", (200, 1))
    line.write("other", (300, 1), (100, 1))
    assert line.starts() == ["trim", "between"]
    assert line.done("trim") == ["last", "other"]


def test_a_chain_runs_in_order() -> None:
    line = Line()
    for name in "abcd":
        line.write(name, (0, 1))
    assert line.starts() == ["a"]
    assert [line.done(name) for name in "abcd"] == [["b"], ["c"], ["d"], []]


def test_readers_between_writers() -> None:
    line = Line()
    line.write("w1", (0, 8))
    line.read("r1", (0, 1))
    line.read("r2", (1, 1))
    line.write("w2", (0, 8))
    assert line.starts() == ["w1"]
    assert line.done("w1") == ["r1", "r2"]
    assert line.done("r2") == []
    assert line.done("r1") == ["w2"]


def test_flush_comes_behind_every_earlier_change_and_no_later_one() -> None:
    line = Line()
    line.write("w1", (0, 1))
    line.read("r1", (50, 1))
    line.write("w2", (100, 1))
    line.queue.admit_flush("f")
    line.write("w3", (200, 1))
    assert line.starts() == ["w1", "r1", "w2", "w3"]
    assert line.done("w2") == []
    assert line.done("w1") == ["f"]


def test_flush_waits_for_a_change_that_itself_waits() -> None:
    line = Line()
    line.write("w1", (0, 1))
    line.write("w2", (0, 1))
    line.queue.admit_flush("f")
    assert line.starts() == ["w1"]
    assert line.done("w1") == ["w2"]
    assert line.done("w2") == ["f"]


def test_a_flush_with_nothing_before_it_runs() -> None:
    line = Line()
    line.read("r", (0, 1))
    line.queue.admit_flush("f")
    assert line.starts() == ["r", "f"]


def test_a_barrier_comes_behind_everything() -> None:
    line = Line()
    line.write("w", (0, 1))
    line.read("r", (50, 1))
    line.queue.admit_flush("f")
    line.queue.admit_barrier("b1")
    line.queue.admit_barrier("b2")
    line.read("later", (60, 1))
    assert line.starts() == ["w", "r", "later"]
    assert line.done("w") == ["f"]
    assert line.done("f") == []
    assert line.done("r") == ["b1"]
    assert line.done("b1") == ["b2"]


def test_a_read_is_let_past_the_queue_only_where_a_place_is_free_and_nothing_changes() -> None:
    line = Line(places=2)
    assert line.queue.lets_read
    line.read("a", (0, 8))
    line.starts()
    assert line.queue.lets_read
    line.read("b", (8, 8))
    line.starts()
    assert not line.queue.lets_read
    line.done("b")
    line.write("c", (64, 8))
    line.done("a")
    assert not line.queue.lets_read
    line.starts()
    line.done("c")
    assert line.queue.lets_read


def test_places_bound_what_runs() -> None:
    line = Line(places=2)
    for name in "abcd":
        line.read(name, (0, 1))
    assert line.starts() == ["a", "b"]
    assert line.done("b") == ["c"]
    assert line.done("a") == ["d"]
    assert len(line.queue) == 2


def test_a_ready_one_waits_for_a_place_in_its_turn() -> None:
    line = Line(places=1)
    line.write("w1", (0, 1))
    line.write("w2", (0, 1))
    line.write("w3", (50, 1))
    assert line.starts() == ["w1"]
    assert line.done("w1") == ["w3"]
    assert line.done("w3") == ["w2"]


def test_length_counts_all_that_is_not_done() -> None:
    line = Line()
    for name in "abc":
        line.write(name, (0, 1))
    assert len(line.queue) == 3
    line.starts()
    line.done("a")
    assert len(line.queue) == 2


# The model

SEEDS = range(300)


def test_model() -> None:
    play(OrderQueue, SEEDS)


class ReadsOvertake(OrderQueue[Op]):
    def admit(self, job: Op, extents: Iterable[tuple[int, int]], changes: bool, **how: Any) -> None:
        super().admit(job, extents if changes else (), changes, **how)


class ChangesIgnoreReads(OrderQueue[Op]):
    def admit(self, job: Op, extents: Iterable[tuple[int, int]], changes: bool, **how: Any) -> None:
        pending = self._pending
        self._pending = self._changes
        super().admit(job, extents, changes, **how)
        if pending is not self._pending:
            pending.update(self._pending)
        self._pending = pending


class NoRounding(OrderQueue[Op]):
    def _round(self, lba: int, sectors: int) -> tuple[int, int]:
        return lba, lba + sectors


class OnlyTheFirstRange(OrderQueue[Op]):
    def admit(self, job: Op, extents: Iterable[tuple[int, int]], changes: bool, **how: Any) -> None:
        super().admit(job, list(extents)[:1], changes, **how)


class FlushAtOnce(OrderQueue[Op]):
    def admit_flush(self, job: Op, *, by: By = NOBODY, **how: Any) -> None:
        self._enter(Ticket(job, (), False, by), [])


class FlushBehindTheLastChange(OrderQueue[Op]):
    def admit_flush(self, job: Op, *, by: By = NOBODY, **how: Any) -> None:
        self._enter(Ticket(job, (), False, by), list(self._changes)[-1:])


class BarrierBehindChangesOnly(OrderQueue[Op]):
    def admit_barrier(self, job: Op) -> None:
        self.admit_flush(job)


class FirstRivalFrees(OrderQueue[Op]):
    def _enter(self, ticket: Ticket[Op], before: list[Ticket[Op]]) -> None:
        super()._enter(ticket, before[:1])


class EverythingWaits(OrderQueue[Op]):
    def admit(self, job: Op, extents: Iterable[tuple[int, int]], changes: bool, **how: Any) -> None:
        super().admit(job, ((0, 1 << 40),), changes, **how)


class NewestFirst(OrderQueue[Op]):
    def take(self, late_ns: int = 0) -> Ticket[Op] | None:
        for line in (self._ready._lines or self._ready._next).values():
            line.rotate(1)
        return super().take()


class FirstComeFirstServed(OrderQueue[Op]):
    def _enter(self, ticket: Ticket[Op], before: list[Ticket[Op]]) -> None:
        ticket.by = NOBODY
        super()._enter(ticket, before)


class OneClientGoesOn(OrderQueue[Op]):
    def take(self, late_ns: int = 0) -> Ticket[Op] | None:
        lines = self._ready._lines or self._ready._next
        if "a" in lines:
            lines.move_to_end("a", last=False)
        return super().take()


class NewcomersGoFirst(OrderQueue[Op]):
    def done(self, ticket: Ticket[Op]) -> None:
        self._ready._had.clear()
        super().done(ticket)


class NoPlaces(OrderQueue[Op]):
    def take(self, late_ns: int = 0) -> Ticket[Op] | None:
        self._running = 0
        return super().take()


class LosesAFollower(OrderQueue[Op]):
    def done(self, ticket: Ticket[Op]) -> None:
        ticket.followers = ticket.followers[:2]
        super().done(ticket)


class LosesAPlace(OrderQueue[Op]):
    def done(self, ticket: Ticket[Op]) -> None:
        super().done(ticket)
        if ticket.changes and len(ticket.spans) > 1:
            self._running += 1


BROKEN = [
    ReadsOvertake,
    ChangesIgnoreReads,
    NoRounding,
    OnlyTheFirstRange,
    FlushAtOnce,
    FlushBehindTheLastChange,
    BarrierBehindChangesOnly,
    FirstRivalFrees,
    EverythingWaits,
    NewestFirst,
    FirstComeFirstServed,
    OneClientGoesOn,
    NewcomersGoFirst,
    NoPlaces,
    LosesAFollower,
    LosesAPlace,
]


@pytest.mark.parametrize("queue_class", BROKEN)
def test_model_finds(queue_class: type[OrderQueue[Op]]) -> None:
    with pytest.raises(OrderBroken):
        play(queue_class, SEEDS)


# Cost


def test_many_ranges_do_not_stop_the_target() -> None:
    """16 TRIMs of 512 ranges each wait: one more is admitted in a time that others do not notice. A time may
    have a collection of garbage in it, or what a busy host took away."""
    driver = make_driver(make_export(sectors=1 << 16))
    driver.held = True
    took_s = []
    for number in range(24):
        first = 2 * 512 * number
        raw = trim(*((first + 2 * place, 1) for place in range(512)), tag=number)
        began_s = time.thread_time()
        assert not driver.send(raw)
        took_s.append(time.thread_time() - began_s)
    assert min(took_s[16:]) < 0.05
