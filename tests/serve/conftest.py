"""Start-up checks at memory speed."""

import pytest

from aoe.target import claims


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "INTERVAL_S", 0.01)
    monkeypatch.setattr(claims, "PATIENCE_S", 0.02)
