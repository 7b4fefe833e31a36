"""The list of changes, and its lock."""

import threading
import time
from pathlib import Path

import pytest

from aoe.config.changes import Change
from aoe.control.written import Written
from aoe.errors import ConfigurationError

ONE = Change(verb="remove", address="e1.1", by="uid 0", at="2026-01-01T00:00:00Z")


def names(work: Path) -> list[str]:
    return sorted(it.name for it in work.iterdir())


def test_the_lock_goes_with_the_list(tmp_path: Path) -> None:
    written = Written(tmp_path / "list.toml")
    with written.held():
        assert names(tmp_path) == ["list.toml.lock"]
    assert names(tmp_path) == []
    with written.held():
        written.write((ONE,))
    assert names(tmp_path) == ["list.toml", "list.toml.lock"]
    with written.held():
        written.write(())
    assert names(tmp_path) == []


def test_one_at_a_time_also_while_the_lock_comes_and_goes(tmp_path: Path) -> None:
    inside: list[int] = []
    worst: list[int] = []

    def work() -> None:
        for _ in range(20):
            with Written(tmp_path / "list.toml").held(30):
                inside.append(1)
                worst.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for it in workers:
        it.start()
    for it in workers:
        it.join()
    assert (len(worst), max(worst)) == (80, 1)
    assert names(tmp_path) == []


def test_who_has_it_is_named(tmp_path: Path) -> None:
    with (
        Written(tmp_path / "list.toml").held(),
        pytest.raises(ConfigurationError, match=r"process \d+ changes this target; wait for it, or end it"),
        Written(tmp_path / "list.toml").held(0),
    ):
        pass
