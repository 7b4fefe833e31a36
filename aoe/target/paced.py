"""Many answers to one question, which leave in bursts: all at once they would overflow the asker (T7)."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from aoe import limits, timing

T = TypeVar("T")


class Paced(Generic[T]):
    """What is added is sent by `send`, some each time. Inside a running event loop."""

    def __init__(self, send: Callable[[T], None]) -> None:
        self._send = send
        self._waiting: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, what: T) -> bool:
        """False where there is no room for it."""
        if len(self._waiting) >= limits.PACED_FRAMES_MAX:
            return False
        if not self._waiting:
            self._go_on()
        self._waiting.append(what)
        return True

    def _go_on(self) -> None:
        asyncio.get_running_loop().call_later(timing.PACE_INTERVAL_S, self._burst)

    def _burst(self) -> None:
        for _ in range(min(limits.PACE_BURST, len(self._waiting))):
            self._send(self._waiting.popleft())
        if self._waiting:
            self._go_on()
