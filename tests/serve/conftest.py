"""Start-up checks at memory speed."""

import pytest

from aoe import timing


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ADDRESS_QUERY_S", 0.01)
    monkeypatch.setattr(timing, "ADDRESS_PATIENCE_S", 0.02)
