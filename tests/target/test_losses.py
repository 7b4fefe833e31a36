"""Which FLUSH fails once what was written back may be lost."""

from aoe.limits import CLIENTS_MAX
from aoe.target.losses import Losses

ONE, OTHER, THIRD = (bytes((2, 0, 0, 0, 0, n)) for n in range(3))


def test_each_that_had_written_is_told_once() -> None:
    losses = Losses()
    assert not losses.any
    losses.lose([ONE, OTHER], others=False)
    assert losses.any
    assert [losses.fails(it) for it in (ONE, ONE, THIRD, OTHER)] == [True, False, False, True]
    assert not losses.any


def test_it_is_told_again_once_more_is_lost() -> None:
    losses = Losses()
    losses.lose([ONE], others=False)
    assert losses.fails(ONE)
    losses.lose([ONE], others=False)
    losses.lose([ONE], others=False)
    assert [losses.fails(ONE), losses.fails(ONE)] == [True, False]


def test_a_client_that_learnt_it_otherwise_is_not_told() -> None:
    losses = Losses()
    losses.lose([ONE, OTHER], others=True)
    losses.knows(ONE)
    losses.knows(THIRD)
    assert [losses.fails(it) for it in (ONE, OTHER, THIRD)] == [False, True, False]


def test_clients_that_are_not_known_one_by_one_are_told_up_to_a_bound() -> None:
    losses = Losses()
    losses.lose([], others=True)
    macs = [number.to_bytes(6, "big") for number in range(CLIENTS_MAX + 5)]
    told = [losses.fails(it) for it in macs]
    assert told == [True] * CLIENTS_MAX + [False] * 5
    assert not losses.any
    losses.lose([], others=True)
    assert [losses.fails(macs[0]), losses.fails(macs[0])] == [True, False]
