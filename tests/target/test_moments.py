"""The checker of snapshots finds what it must."""

import math
from collections.abc import Sequence

import pytest

from tests.support.checkers.moments import BLOCK, SECTOR, Write, faults, stamped, stamps

A = Write(1, ((0, 0),), 10, 20)
B = Write(2, ((0, 1),), 30, 40)
OVER_A = Write(3, ((0, 0),), 50, 60)
OTHER = Write(4, ((1, 0),), 70, 80)
WIDE = Write(5, ((0, 0), (0, 1)), 90, 95)
ALL = [A, B, OVER_A, OTHER, WIDE]


def found(writes: Sequence[Write], disks: Sequence[Sequence[int]], asked: float, over: float) -> list[str]:
    return list(faults(writes, disks, asked, over))


@pytest.mark.parametrize(
    ("disks", "asked", "over"),
    [
        ([[1, 0], [0]], 25, 29),
        ([[1, 2], [0]], 25, 35),
        ([[3, 2], [4]], 65, 85),
        ([[0, 0], [0]], 5, 15),
        ([[5, 5], [4]], 85, 92),
        ([[3, 2], [4]], 85, 92),
    ],
)
def test_what_is_of_one_moment(disks: list[list[int]], asked: float, over: float) -> None:
    assert found(ALL, disks, asked, over) == []


@pytest.mark.parametrize(
    ("disks", "asked", "over", "fault"),
    [
        ([[0, 0], [0]], 25, 29, "1 is missing"),
        ([[1, 2], [4]], 5, 75, "3 is missing"),
        ([[3, 0], [0]], 5, 65, "2 is missing"),
        ([[3, 2], [0]], 25, 45, "after the moment"),
        ([[9, 0], [0]], 25, 29, "nobody wrote"),
        ([[-1, 0], [0]], 25, 29, "nobody wrote"),
        ([[1, 1], [0]], 25, 29, "elsewhere"),
    ],
)
def test_what_is_not(disks: list[list[int]], asked: float, over: float, fault: str) -> None:
    assert fault in found(ALL, disks, asked, over)[0]


def test_what_was_never_acknowledged_may_be_in_or_not() -> None:
    lost = Write(1, ((0, 0),), 10, math.inf)
    assert found([lost], [[0]], 100, 110) == found([lost], [[1]], 100, 110) == []


def test_stamps() -> None:
    torn = stamped(7)[: SECTOR // 2] + stamped(8)[: SECTOR // 2]
    in_part = stamped(7)[:SECTOR] + stamped(8)[SECTOR:]
    assert stamps(stamped(7) + bytes(BLOCK) + in_part + torn) == [*[7] * 8, *[0] * 8, 7, *[8] * 7, -1]
