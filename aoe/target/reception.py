"""Frames of several interfaces in the order in which the kernel received them (order rule T2).

The Linux driver rotates interfaces from frame to frame. A copy of an old write that waits on one must
not be taken after a newer write that came in by another.
"""

import heapq
from collections.abc import Iterable
from typing import Generic, TypeVar

from aoe.link.base import Batch, Received

Source = TypeVar("Source")


class Reception(Generic[Source]):
    """Holds frames back until every source has been looked at past their stamp."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self._seen = dict.fromkeys(sources, 0)
        self._held: list[tuple[int, int, Source, Received]] = []
        self._count = 0

    def watch(self, source: Source) -> None:
        """One more."""
        self._seen[source] = 0

    def leave(self, source: Source) -> None:
        """Wait for it no more, and drop what it gave."""
        del self._seen[source]
        self._held = [held for held in self._held if held[2] is not source]
        heapq.heapify(self._held)

    def __bool__(self) -> bool:
        return bool(self._held)

    def add(self, source: Source, batch: Batch, now_ns: int) -> None:
        """What a source gave; `now_ns` is from before the first source of this pass was looked at."""
        for received in batch.frames:
            self._count += 1
            heapq.heappush(self._held, (received.stamp_ns, self._count, source, received))
        drained = batch.drained or not batch.frames
        self._seen[source] = now_ns if drained else batch.frames[-1].stamp_ns

    def due(self) -> list[tuple[Source, Received]]:
        """The frames that nothing can precede any more, oldest first."""
        horizon = min(self._seen.values(), default=0)
        found = []
        while self._held and self._held[0][0] <= horizon:
            found.append(self._pop())
        return found

    def flush(self) -> list[tuple[Source, Received]]:
        """Everything, since stamps tell nothing after a clock step."""
        return [self._pop() for _ in range(len(self._held))]

    def _pop(self) -> tuple[Source, Received]:
        _, _, source, received = heapq.heappop(self._held)
        return source, received
