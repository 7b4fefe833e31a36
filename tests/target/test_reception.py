"""Order rule T2: frames of several interfaces are taken in the order in which the kernel received them."""

import random
from collections import deque

import pytest

from aoe.link.base import Batch, Received
from aoe.target.reception import Reception


def received(*stamps: int) -> list[Received]:
    return [Received(b"", stamp, None) for stamp in stamps]


def stamps(found: list[tuple[str, Received]]) -> list[tuple[str, int]]:
    return [(source, it.stamp_ns) for source, it in found]


def test_drained_sources_give_everything_in_order() -> None:
    reception = Reception("ab")
    reception.add("a", Batch(received(1, 4), True), 10)
    reception.add("b", Batch(received(2, 3), True), 10)
    assert stamps(reception.due()) == [("a", 1), ("b", 2), ("b", 3), ("a", 4)]
    assert not reception


def test_what_another_source_may_still_precede_is_held_back() -> None:
    reception = Reception("ab")
    reception.add("a", Batch(received(1, 4), False), 10)
    reception.add("b", Batch(received(2, 6), True), 10)
    assert stamps(reception.due()) == [("a", 1), ("b", 2), ("a", 4)]
    assert reception
    reception.add("a", Batch(received(5), True), 11)
    reception.add("b", Batch([], True), 11)
    assert stamps(reception.due()) == [("a", 5), ("b", 6)]


def test_what_came_after_the_look_began_waits_for_the_next() -> None:
    reception = Reception("ab")
    reception.add("a", Batch([], True), 10)
    reception.add("b", Batch(received(12), True), 10)
    assert reception.due() == []
    reception.add("a", Batch(received(11), True), 13)
    reception.add("b", Batch([], True), 13)
    assert stamps(reception.due()) == [("a", 11), ("b", 12)]


def test_flush_gives_what_is_held() -> None:
    reception = Reception("ab")
    reception.add("b", Batch(received(12), True), 10)
    assert stamps(reception.flush()) == [("b", 12)]
    assert reception.flush() == []


def test_equal_stamps_keep_the_order_of_their_source() -> None:
    reception = Reception("a")
    frames = [Received(bytes([number]), 5, None) for number in range(5)]
    reception.add("a", Batch(frames, True), 10)
    assert [it.frame[0] for _, it in reception.due()] == [0, 1, 2, 3, 4]


class OutOfOrder(AssertionError):
    pass


def play(kind: type[Reception[str]], seed: int) -> None:
    """Frames arrive all the time, also during a pass, and a look takes only a few."""
    rng = random.Random(seed)
    reception, queues = kind("abc"), {source: deque[Received]() for source in "abc"}
    now, last, sent, given = 0, 0, 0, 0

    def go_by(most: int) -> None:
        nonlocal now, sent
        for _ in range(rng.randrange(most)):
            now += 1
            sent += 1
            queues[rng.choice("abc")].append(Received(b"", now, None))

    for _ in range(100):
        go_by(20)
        began = now
        for source, queue in queues.items():
            go_by(4)
            taken = [queue.popleft() for _ in range(min(4, len(queue)))]
            reception.add(source, Batch(taken, not queue), began)
        for _, it in reception.due():
            given += 1
            if it.stamp_ns < last:
                raise OutOfOrder(f"{it.stamp_ns} after {last}")
            last = it.stamp_ns
    given += len(reception.flush()) + sum(map(len, queues.values()))
    assert given == sent


def test_model() -> None:
    for seed in range(50):
        play(Reception, seed)


class HoldsNothingBack(Reception[str]):
    def due(self) -> list[tuple[str, Received]]:
        return self.flush()


class TrustsAnEmptyLook(Reception[str]):
    def add(self, source: str, batch: Batch, now_ns: int) -> None:
        super().add(source, batch._replace(drained=True), now_ns + 10)


@pytest.mark.parametrize("kind", [HoldsNothingBack, TrustsAnEmptyLook])
def test_model_finds(kind: type[Reception[str]]) -> None:
    with pytest.raises(OutOfOrder):
        for seed in range(50):
            play(kind, seed)
