"""How far something is: a bar on a terminal (rich), lines with `--json`, and nothing elsewhere."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from aoe import timing
from aoe.cli.report import Report

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Bar:
    """One for each thing that is done, in the order in which they begin, while nothing else is said."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._before = report.clear
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._shows = not report.as_json and sys.stderr.isatty()
        self._last = 0.0

    def __enter__(self) -> "Bar":
        self._report.clear = self._clear
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()
        self._report.clear = self._before
        self._shows = False

    def of(self, what: str) -> Callable[[float], None]:
        """What is told how much of something is done, 0 to 1."""
        return partial(self._show if self._shows else self._note, what)

    def bytes_of(self, what: str) -> Callable[[int, int | None], None]:
        """The same for bytes, of so many, where that is known."""
        told = self.of(what)
        return lambda have, total: told(have / total) if total else None

    def _note(self, what: str, part: float) -> None:
        now = time.monotonic()
        if part >= 1 or now - self._last >= timing.PROGRESS_TOLD_S:
            self._last = now
            self._report.note(doing=what, percent=round(100 * part, 1))

    def _show(self, what: str, part: float) -> None:
        if not self._shows:
            return
        with suppress(ImportError):
            self._progress = self._progress or _shown()
            if what not in self._tasks:
                self._tasks[what] = self._progress.add_task(what, total=1.0)
            self._progress.update(self._tasks[what], completed=part)

    def _clear(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._tasks = None, {}


def _shown() -> "Progress":
    from rich.console import Console  # noqa: PLC0415 - only where it is shown
    from rich.progress import Progress  # noqa: PLC0415

    progress = Progress(
        console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    )
    progress.start()
    return progress
