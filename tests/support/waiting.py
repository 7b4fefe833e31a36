"""Bounded waiting for a condition."""

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 30.0
"""For what comes at once on a machine that has nothing else to do."""
PROMPT_S = 15.0
"""What is prompt is over by then on any machine; what it is told from waits for longer, or for ever."""


def wait_for(
    condition: Callable[[], T],
    seconds: float = PATIENCE_S,
    what: str | Callable[[], str] = "",
    every_s: float = 0.01,
) -> T:
    """First true value of a condition that is polled; AssertionError when none came in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise AssertionError(
                (what() if callable(what) else what) or f"waited {seconds} s for {condition!r}"
            )
        time.sleep(every_s)
    return value


def wait_for_words(said: Callable[[], str], *words: str) -> str:
    """What is said, once it has all these words: a thread of its own writes a log, and some time later."""
    wait_for(lambda: all(it in said() for it in words), what=lambda: f"no {words} in {said()!r}")
    return said()


def wait_for_end(pid: int) -> None:
    """Until a process and all that it held is gone, whether or not its parent has asked for it: a thread of a
    zombie may hold its files open."""
    with suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            assert select.select([process], [], [], PATIENCE_S)[0], f"process {pid} stays"
        finally:
            os.close(process)


def statuses(pid: int) -> list[dict[str, str]]:
    """What the kernel says of each thread of a process (proc(5), status); one may end meanwhile."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            lines = (task / "status").read_text().splitlines()
            found.append({name: it.strip() for name, it in (line.split(":", 1) for line in lines)})
    assert found
    return found


def at_best(tried: Callable[[], T], times: int = 5) -> T:
    """What it returns the first time that no assertion of it fails; the last time it raises. Others use this
    machine, too, and may spoil what has to be quick, once and again."""
    for _ in range(times - 1):
        with suppress(AssertionError):
            return tried()
    return tried()


def ran_s(pid: int) -> float:
    """For how long the threads of a process that have not ended had a processor, so far."""
    return sum(_counted_s(it, 0) for it in Path(f"/proc/{pid}/task").iterdir())


def delayed_s(pid: int) -> float:
    """For how long the threads of a process were ready and got no processor, so far: what others on this
    machine did to it."""
    return sum(_counted_s(it, 1) for it in Path(f"/proc/{pid}/task").iterdir())


def own_s() -> float:
    """A clock that stands still while this thread is kept from running by others."""
    return time.monotonic() - _counted_s(Path("/proc/thread-self"), 1)


def _counted_s(task: Path, field: int) -> float:
    with suppress(OSError):  # it has ended, or the kernel does not count (proc(5), schedstat)
        return int((task / "schedstat").read_text().split()[field]) / 1e9
    return 0.0
