"""How far snapshots of served volumes are, while the daemon is asked for them."""

import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from aoe import timing
from aoe.cli.bar import Bar
from aoe.control import place
from aoe.control.client import Client
from aoe.disk.threads import begin
from aoe.errors import ControlFailed, NoThread


class CuttingBar:
    """Of `paths`, as exports name them; looked at beside what is asked inside, until the end of the block.
    What does not take long is not shown."""

    def __init__(self, bar: Bar, socket: Path | None, paths: Collection[str]) -> None:
        self._bar = bar
        self._socket = socket or place.askers()
        self._paths = frozenset(paths)
        self._over, self._ended = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        if self._paths:
            with suppress(NoThread):
                begin(self._run, "bar")
                return
        self._ended.set()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._ended.wait(timing.CONTROL_LOOK_S)

    def _run(self) -> None:
        told: Callable[[float], None] | None = None
        try:
            with suppress(ControlFailed), Client(self._socket) as client:
                while not self._over.wait(timing.PROGRESS_TOLD_S):
                    part = self._part(client.ask("status"))
                    if part is not None and not self._over.is_set():
                        told = told or self._bar.of("cut")
                        told(part)
        finally:
            self._ended.set()

    def _part(self, status: dict[str, Any]) -> float | None:
        """From 0 to 1; None while none is cut."""
        exports = status.get("exports") or []
        parts = [float(it["cut"]) for it in exports if it.get("cutting") and it.get("path") in self._paths]
        return min(parts, default=None)
