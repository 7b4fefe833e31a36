"""What an opener may do in pools for a process that it does not believe."""

from dataclasses import replace

import pytest

from aoe import limits, timing
from aoe.errors import ConfigurationError
from aoe.node.permits import Permits, cut_for
from aoe.pool.asked import Wish
from aoe.pool.requests import Clone, Create, Cut, Delete, Resize, Rollback

CLONE = Clone("base", "", "web1")


class Clock:
    """That is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def permits(clock: Clock) -> Permits:
    return Permits(clock)


def may(permits: Permits, wanted: Wish, pool: str = "fast") -> bool:
    try:
        permits.check(pool, wanted)
    except ConfigurationError:
        return False
    return True


@pytest.mark.parametrize(
    "wish", [Create("a", 512), Delete("a"), Rollback("a", "b"), Resize("a", 512, shrink=True), Cut("a", "b")]
)
def test_what_was_asked_for_is_done_once_in_that_pool_and_nothing_else(wish: Wish, permits: Permits) -> None:
    with pytest.raises(ConfigurationError, match=r"has heard no person ask for .* in pool fast; ask again"):
        permits.check("fast", wish)
    permits.asked("fast", wish)
    assert not may(permits, wish, "slow")
    assert not may(permits, replace(wish, volume="other"))
    assert not may(permits, Delete("a", recursive=True))
    assert may(permits, wish)
    assert not may(permits, wish)


def test_a_snapshot_of_several_volumes_is_one_of_each(permits: Permits) -> None:
    permits.asked("fast", Cut("a", "monday", ("b",)))
    assert not may(permits, Cut("c", "monday"))
    assert not may(permits, Cut("a", "tuesday"))
    assert not may(permits, Cut("a", "monday", cause="schedule auto"))
    assert may(permits, Cut("a", "monday"))
    assert may(permits, Cut("b", "monday"))
    assert not may(permits, Cut("b", "monday"))


def test_a_clone_of_what_is_served_is_a_snapshot_and_then_the_clone_of_that(permits: Permits) -> None:
    permits.asked("fast", CLONE)
    by_cut = replace(CLONE, snapshot="clone-web1-2")
    assert not may(permits, by_cut), "there is none yet"
    assert may(permits, cut_for(CLONE))
    assert not may(permits, replace(CLONE, snapshot="golden"))
    assert not may(permits, replace(by_cut, volume="web2"))
    assert may(permits, by_cut)
    assert not may(permits, by_cut)
    permits.asked("fast", replace(CLONE, snapshot="golden"))
    assert not may(permits, cut_for(CLONE)), "of what is kept already none is cut"


def test_what_is_not_begun_in_time_is_asked_for_again(permits: Permits, clock: Clock) -> None:
    for wish in (CLONE, Delete("a")):
        permits.asked("fast", wish)
    clock.now_s = timing.PERMIT_S - 1
    assert may(permits, cut_for(CLONE))
    clock.now_s += timing.PERMIT_S
    assert not may(permits, Delete("a"))
    assert may(permits, replace(CLONE, snapshot="clone-web1")), "the cut may take long"


def test_what_is_due_is_permitted_until_something_else_is(permits: Permits) -> None:
    cut, prune = Cut("a", "auto-2", cause="schedule auto"), Delete("a", "auto-1")
    permits.due([("fast", cut), ("fast", prune)])
    assert not may(permits, Delete("a"))
    assert not may(permits, Delete("a", "golden"))
    assert may(permits, cut)
    assert not may(permits, cut)
    permits.due([])
    assert not may(permits, prune)


def test_they_are_bounded(permits: Permits) -> None:
    for number in range(limits.PERMITS_MAX + 1):
        permits.asked("fast", Delete(f"v{number}"))
    assert not may(permits, Delete("v0"))
    assert may(permits, Delete("v1"))
