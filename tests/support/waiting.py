"""Bounded waiting for a condition."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 30.0
"""For what comes at once on a machine that has nothing else to do."""


def wait_for(
    condition: Callable[[], T], seconds: float = PATIENCE_S, what: str | Callable[[], str] = ""
) -> T:
    """First true value of a condition that is polled; AssertionError when none came in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(
                (what() if callable(what) else what) or f"waited {seconds} s for {condition!r}"
            )
        time.sleep(0.01)
    return value


def wait_for_words(said: Callable[[], str], *words: str) -> str:
    """What is said, once it has all these words: a thread of its own writes a log, and some time later."""
    wait_for(lambda: all(it in said() for it in words), what=lambda: f"no {words} in {said()!r}")
    return said()
