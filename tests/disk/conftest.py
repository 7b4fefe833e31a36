"""A disk opened in each way, and a medium that can be told to fail."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe import timing
from aoe.disk.file import FileDisk
from aoe.disk.open import Opening
from tests.disk.helpers import Medium, need_direct, opened, sparse
from tests.support.waiting import PATIENCE_S

SECTORS = 256


@pytest.fixture(params=["buffered", "direct", "direct-4k"])
def how(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opening:
    """Each way in which a file can be opened; the last is what a disk of 4 KiB sectors needs."""
    if request.param == "buffered":
        return Opening(direct=False)
    need_direct(tmp_path)
    if request.param == "direct-4k":
        monkeypatch.setattr("aoe.disk.open._PROBE_BLOCKS", (4096,))
    return Opening(direct=True)


@pytest.fixture
def disk(how: Opening, tmp_path: Path) -> Iterator[FileDisk]:
    """A disk of 256 zero sectors, at `tmp_path / "disk"`."""
    with opened(sparse(tmp_path / "disk", SECTORS), how) as made:
        yield made


@pytest.fixture
def buffered(tmp_path: Path) -> Iterator[FileDisk]:
    """The same, through the page cache."""
    with opened(sparse(tmp_path / "disk", SECTORS), Opening(direct=False)) as made:
        yield made


@pytest.fixture
def medium(monkeypatch: pytest.MonkeyPatch) -> Iterator[Medium]:
    """What every disk of the test stands on."""
    made = Medium(monkeypatch)
    yield made
    made.released.set()


@pytest.fixture(autouse=True)
def long_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for a bad sector comes to its end, also on a busy machine."""
    monkeypatch.setattr(timing, "BAD_SECTOR_SEARCH_S", PATIENCE_S)


@pytest.fixture
def short_search(long_search: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends a little sooner."""
    monkeypatch.setattr(timing, "BAD_SECTOR_SEARCH_S", 0.1)
