"""What is told of snapshots that take a while."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aoe import timing
from aoe.cli import cutting_bar
from aoe.cli.bar import Bar
from aoe.cli.cutting_bar import CuttingBar
from aoe.errors import ControlFailed

SOCKET = Path("/none")


class Told(Bar):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.parts: list[float] = []
        self.named: list[str] = []

    def of(self, what: str) -> Any:
        self.named.append(what)
        return self.parts.append


class Daemon:
    """Answers so, one after the other; then the last one."""

    def __init__(self, *answers: list[dict[str, Any]] | None) -> None:
        self.answers: Iterator[list[dict[str, Any]] | None] = iter(answers)
        self.asked_all = threading.Event()

    def __call__(self, path: Path) -> "Daemon":
        assert path == SOCKET
        return self

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, verb: str) -> dict[str, Any]:
        assert verb == "status"
        exports = next(self.answers, [])
        if exports == []:
            self.asked_all.set()
        if exports is None:
            self.asked_all.set()
            raise ControlFailed("it ended", "lost", 3)
        return {"exports": exports}


def one(path: str, cut: float, cutting: str = "monday") -> dict[str, Any]:
    return {"path": path, "cut": cut, "cutting": cutting}


@pytest.mark.parametrize(
    ("answers", "parts"),
    [
        ([[one("fast/a", 0.25)], [one("fast/a", 0.5)]], [0.25, 0.5]),
        ([[one("fast/a", 0.75), one("fast/b", 0.5), one("fast/c", 0.1)]], [0.5]),
        ([[one("fast/a", 0.0, "")], [one("fast/c", 0.5)]], []),
        ([[one("fast/a", 0.25)], None], [0.25]),
    ],
)
def test_the_last_one_counts_and_others_do_not(
    answers: list[list[dict[str, Any]] | None], parts: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon, told = Daemon(*answers), Told()
    monkeypatch.setattr(cutting_bar, "Client", daemon)
    monkeypatch.setattr(timing, "PROGRESS_TOLD_S", 0.001)
    with CuttingBar(told, SOCKET, ["fast/a", "fast/b"]):
        assert daemon.asked_all.wait(30)
    assert told.parts == parts
    assert told.named == ["cut"] * bool(parts)
