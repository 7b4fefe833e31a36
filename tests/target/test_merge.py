"""Order rule T2: frames of several interfaces are taken in the order in which the kernel received them."""

import random
from collections import deque

import pytest

from aoe.link.base import Batch, Received
from aoe.target.merge import Merge


def received(*stamps: int) -> list[Received]:
    return [Received(b"", stamp, None) for stamp in stamps]


def stamps(found: list[tuple[str, Received]]) -> list[tuple[str, int]]:
    return [(source, it.stamp_ns) for source, it in found]


def test_drained_sources_give_everything_in_order() -> None:
    merge = Merge("ab")
    merge.add("a", Batch(received(1, 4), True), 10)
    merge.add("b", Batch(received(2, 3), True), 10)
    assert stamps(merge.due()) == [("a", 1), ("b", 2), ("b", 3), ("a", 4)]
    assert not merge


def test_what_another_source_may_still_precede_is_held_back() -> None:
    merge = Merge("ab")
    merge.add("a", Batch(received(1, 4), False), 10)
    merge.add("b", Batch(received(2, 6), True), 10)
    assert stamps(merge.due()) == [("a", 1), ("b", 2), ("a", 4)]
    assert merge
    merge.add("a", Batch(received(5), True), 11)
    merge.add("b", Batch([], True), 11)
    assert stamps(merge.due()) == [("a", 5), ("b", 6)]


def test_what_came_after_the_look_began_waits_for_the_next() -> None:
    merge = Merge("ab")
    merge.add("a", Batch([], True), 10)
    merge.add("b", Batch(received(12), True), 10)
    assert merge.due() == []
    merge.add("a", Batch(received(11), True), 13)
    merge.add("b", Batch([], True), 13)
    assert stamps(merge.due()) == [("a", 11), ("b", 12)]


def test_flush_gives_what_is_held() -> None:
    merge = Merge("ab")
    merge.add("b", Batch(received(12), True), 10)
    assert stamps(merge.flush()) == [("b", 12)]
    assert merge.flush() == []


def test_equal_stamps_keep_the_order_of_their_source() -> None:
    merge = Merge("a")
    frames = [Received(bytes([number]), 5, None) for number in range(5)]
    merge.add("a", Batch(frames, True), 10)
    assert [it.frame[0] for _, it in merge.due()] == [0, 1, 2, 3, 4]


class OutOfOrder(AssertionError):
    pass


def play(merge_class: type[Merge[str]], seed: int) -> None:
    """Frames arrive all the time, also during a pass, and a look takes only a few."""
    rng = random.Random(seed)
    merge, queues = merge_class("abc"), {source: deque[Received]() for source in "abc"}
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
            merge.add(source, Batch(taken, not queue), began)
        for _, it in merge.due():
            given += 1
            if it.stamp_ns < last:
                raise OutOfOrder(f"{it.stamp_ns} after {last}")
            last = it.stamp_ns
    given += len(merge.flush()) + sum(map(len, queues.values()))
    assert given == sent


def test_model() -> None:
    for seed in range(50):
        play(Merge, seed)


class HoldsNothingBack(Merge[str]):
    def due(self) -> list[tuple[str, Received]]:
        return self.flush()


class TrustsAnEmptyLook(Merge[str]):
    def add(self, source: str, batch: Batch, now_ns: int) -> None:
        super().add(source, batch._replace(drained=True), now_ns + 10)


@pytest.mark.parametrize("merge_class", [HoldsNothingBack, TrustsAnEmptyLook])
def test_model_finds(merge_class: type[Merge[str]]) -> None:
    with pytest.raises(OutOfOrder):
        for seed in range(50):
            play(merge_class, seed)
