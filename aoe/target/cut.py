"""A snapshot of a disk that goes on being written, as `csrc/target/cut.c` has it.

It shows the disk as it is at one moment, and is made after that: a change waits until the ranges that it
touches are cloned. What a change waits for is cloned first, all else in the order of the disk. Until the
first range is cloned every change waits, and so the moment can be waited for: it has come when all that were
let through before are over.
"""

from typing import Generic, NamedTuple, TypeVar

from aoe.wire.protocol import SECTOR

T = TypeVar("T")
Spans = tuple[tuple[int, int], ...]
"""Sectors [start, end)."""


class _Kept(NamedTuple, Generic[T]):
    """A change, and the first range that it waits for."""

    change: T
    spans: Spans
    needs: int


class Cut(Generic[T]):
    """Of `length` bytes, in ranges of `step` bytes, a multiple of 512. Behind them nothing waits."""

    def __init__(self, length: int, step: int) -> None:
        self.length = length
        self.step = step
        self.count = -(-length // step)
        """Of the ranges."""
        self.left = self.count
        """Ranges that are not cloned yet."""
        self._cloned = bytearray(self.count)
        self._cursor = 0
        self._kept: list[_Kept[T]] = []
        """They take turns, so a TRIM of many ranges keeps no write for long."""

    def keeps(self, change: T, spans: Spans) -> bool:
        """Whether a change has to wait: it is among those that are let go later."""
        needs = self._missing(spans)
        if needs >= 0:
            self._kept.append(_Kept(change, spans, needs))
        return needs >= 0

    @property
    def needed(self) -> int:
        """The range that is waited for first; -1: none is."""
        return self._kept[0].needs if self._kept else -1

    @property
    def following(self) -> int:
        """The first one that is not cloned yet; -1: all are."""
        found = self._cloned.find(0, self._cursor)
        self._cursor = self.count if found < 0 else found
        return found

    def has(self, first: int, last: int) -> list[T]:
        """The ranges [first, last) are cloned, or empty; what may go now."""
        self.left -= self._cloned.count(0, first, last)
        self._cloned[first:last] = b"\1" * (last - first)
        due = [kept for kept in self._kept if first <= kept.needs < last]
        self._kept = [kept for kept in self._kept if not first <= kept.needs < last]
        return [kept.change for kept in due if not self.keeps(kept.change, kept.spans)]

    def end(self) -> list[T]:
        """There is nothing to wait for any more; what may go now."""
        kept, self._kept = self._kept, []
        return [one.change for one in kept]

    def _missing(self, spans: Spans) -> int:
        found = (self._cloned.find(0, *self._ranges(span)) for span in spans)
        return next((at for at in found if at >= 0), -1)

    def _ranges(self, span: tuple[int, int]) -> tuple[int, int]:
        start, end = (sector * SECTOR for sector in span)
        return min(self.count, start // self.step), min(self.count, -(-end // self.step))
