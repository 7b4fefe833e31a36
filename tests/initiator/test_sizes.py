"""How large frames may be on a path: what is tried, what is learned, and what is not. Time is a number."""

import random

import pytest

from aoe import limits
from aoe.initiator.sizes import Direction, Narrow, Sizes
from aoe.timing import USUAL
from tests.initiator.test_channel import MS

THERE, BACK = Direction
WAIT = USUAL.size_wait_ns


class Wire:
    """What carries `there` and `back` so many sectors in a frame; `lose` is the share of all frames lost."""

    def __init__(self, there: int, back: int, lose: float = 0.0, seed: int = 1) -> None:
        self.sizes = Sizes()
        self.there, self.back, self.lose = there, back, lose
        self.rng = random.Random(seed)
        self.now = MS
        self.tags = 0
        self.sent: list[tuple[Direction | None, int]] = []

    def carries(self, direction: Direction | None, sectors: int) -> bool:
        fits = sectors <= (self.there if direction is THERE else self.back) or direction is None
        return fits and self.rng.random() >= self.lose

    def live(self, ns: int, step: int = 5 * MS) -> None:
        """Probes are answered within a millisecond, or not at all."""
        end = self.now + ns
        while self.now < end:
            probes = self.sizes.turn(self.now)
            for probe in probes:
                self.tags += 1
                self.sizes.sent(self.tags, probe)
                self.sent.append((probe.direction, probe.sectors))
                if self.carries(probe.direction, probe.sectors):
                    self.sizes.answered(self.tags)
            self.now += step

    @property
    def limits(self) -> tuple[int, int]:
        return self.sizes.limit(THERE), self.sizes.limit(BACK)


def wire(most: int = 16, **what: float) -> Wire:
    made = Wire(**{"there": 255, "back": 255, **what})  # type: ignore[arg-type]
    made.sizes.fit(most, made.now)
    made.sizes.restart(made.now)
    return made


def test_nothing_large_before_it_was_seen_to_pass() -> None:
    it = wire(16)
    assert it.limits == (2, 2)
    assert it.sizes.narrow is Narrow.TRIED
    it.live(5 * MS)
    assert it.sent == [(THERE, 16), (BACK, 16), (None, 1)]
    assert it.limits == (16, 16)
    assert it.sizes.narrow is Narrow.NOT
    it.live(10 * USUAL.size_again_ns, 100 * MS)
    assert len(it.sent) == 3, "what is known is not asked again"


@pytest.mark.parametrize("most", [1, 2])
def test_what_every_ethernet_carries_is_not_tried(most: int) -> None:
    it = wire(most)
    it.live(100 * MS)
    assert not it.sent
    assert it.limits == (most, most)
    assert it.sizes.narrow is Narrow.NOT


@pytest.mark.parametrize(
    ("there", "back", "found", "narrow"),
    [
        (2, 2, (2, 2), Narrow.BOTH),
        (2, 255, (2, 16), Narrow.THERE),
        (255, 2, (16, 2), Narrow.BACK),
        (9, 255, (8, 16), Narrow.THERE),
        (5, 12, (4, 8), Narrow.BOTH),
    ],
)
def test_halves_are_tried_in_the_direction_that_loses(
    there: int, back: int, found: tuple[int, int], narrow: Narrow
) -> None:
    it = wire(16, there=there, back=back)
    it.live(1000 * MS)
    assert (it.limits, it.sizes.narrow) == (found, narrow)
    for direction, passes in ((THERE, there), (BACK, back)):
        tried = [sectors for there, sectors in it.sent if there is direction]
        for sectors in {sectors for sectors in tried if sectors > passes}:
            assert tried.count(sectors) == limits.SIZE_LOSSES


@pytest.mark.parametrize(("most", "sizes"), [(255, [255, 120, 56, 24, 8, 4]), (17, [17, 8, 4]), (6, [6, 3])])
def test_from_8_up_they_are_multiples_of_8(most: int, sizes: list[int]) -> None:
    it = wire(most, there=2, back=2)
    it.live(3000 * MS)
    assert sorted({sectors for direction, sectors in it.sent if direction is THERE}, reverse=True) == sizes


def test_a_silent_server_says_nothing_of_sizes() -> None:
    it = wire(16, lose=1.0)
    it.live(10_000 * MS)
    assert {sectors for direction, sectors in it.sent if direction is THERE} == {16}
    assert len(it.sent) < 3 * 20, "less and less often"
    it.lose = 0.0
    it.live(USUAL.size_wait_max_ns + 10 * MS)
    assert it.limits == (16, 16)


def test_more_passes_later() -> None:
    it = wire(16, there=2, back=4)
    it.live(1000 * MS)
    it.there = it.back = 255
    it.live(USUAL.size_again_ns - 2000 * MS, 100 * MS)
    assert it.limits == (2, 4)
    assert not it.sizes.again(16, it.now)
    it.now += 2000 * MS
    assert it.sizes.again(16, it.now)
    it.live(10 * MS)
    assert it.limits == (16, 16)


def test_what_still_does_not_pass_changes_nothing_meanwhile() -> None:
    it = wire(16, there=8, back=8)
    it.live(1000 * MS)
    shown = it.sizes.shown
    it.now += USUAL.size_again_ns
    assert it.sizes.again(16, it.now)
    for _ in range(100):
        it.live(10 * MS)
        assert it.sizes.shown == shown


def test_a_doubt_falls_back_at_once_and_finds_what_passes() -> None:
    it = wire(16)
    it.live(10 * MS)
    it.back = 8
    it.sizes.doubt(BACK, 7, it.now)
    it.sizes.doubt(BACK, 9, it.now)
    assert it.sizes.lba == 7, "it is being looked at"
    it.live(WAIT)
    assert it.limits == (16, 16)
    it.live(10 * MS)
    assert it.limits == (16, 2)
    assert it.sizes.narrow is Narrow.TRIED
    it.live(3 * WAIT)
    assert it.limits == (16, 8)
    assert it.sizes.narrow is Narrow.BACK


def test_a_doubt_that_is_wrong_changes_nothing() -> None:
    it = wire(16)
    it.live(10 * MS)
    it.sizes.doubt(THERE, 0, it.now)
    it.live(10 * MS)
    assert len(it.sent) == 5
    assert it.sizes.shown == (16, 16, Narrow.NOT)


def test_what_every_ethernet_carries_is_not_doubted() -> None:
    it = wire(2)
    it.sizes.doubt(THERE, 0, it.now)
    it.live(100 * MS)
    assert not it.sent


def test_the_ends_may_take_less_and_more_again() -> None:
    it = wire(16)
    it.live(10 * MS)
    it.sizes.fit(2, it.now)
    assert it.sizes.shown == (2, 2, Narrow.NOT)
    it.sizes.fit(16, it.now)
    assert it.sizes.shown == (2, 2, Narrow.TRIED)
    it.live(10 * MS)
    assert it.sizes.shown == (16, 16, Narrow.NOT)
    it.sizes.fit(1, it.now)
    assert it.limits == (1, 1)


def test_smaller_ends_amid_a_search() -> None:
    it = wire(64, there=2, back=2)
    it.live(60 * MS)
    before = len(it.sent)
    it.sizes.fit(4, it.now)
    it.live(1000 * MS)
    after = [sectors for direction, sectors in it.sent[before:] if direction is BACK]
    assert after == [4] * limits.SIZE_LOSSES
    assert it.sizes.shown == (2, 2, Narrow.BOTH)


def test_a_late_answer_is_one() -> None:
    it = wire(16, there=255, back=255, lose=1.0)
    it.live(300 * MS)
    for tag in range(1, it.tags + 1):
        if it.sizes.asked(tag):
            it.sizes.answered(tag)
    assert it.limits == (16, 16)


def test_of_probes_a_bounded_number_is_remembered() -> None:
    it = wire(16, lose=1.0)
    it.live(60_000 * MS)
    known = [tag for tag in range(it.tags + 1) if it.sizes.asked(tag)]
    assert len(known) <= limits.SIZE_PROBES_MAX < it.tags


@pytest.mark.parametrize("lose", [0.02, 0.1, 0.3])
def test_loss_of_everything_alike_is_seldom_taken_for_size(lose: float) -> None:
    """Where it was, it is put right a minute later."""
    wrong = 0
    for seed in range(200):
        it = wire(16, lose=lose, seed=seed)
        it.live(2000 * MS)
        wrong += it.limits != (16, 16)
    assert wrong <= 200 * 2 * 2 * lose**limits.SIZE_LOSSES + 1
