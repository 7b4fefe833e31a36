"""Bounded waiting for a condition."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float = 10, what: str = "") -> T:
    """First true value of a condition that is polled; AssertionError when none came in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what or f"waited {seconds} s for {condition!r}"
        time.sleep(0.01)
    return value
