"""Images that are served, as the process that keeps them does it."""

import os
from collections.abc import Iterator

import pytest

from aoe import timing
from aoe.image import mounts
from aoe.image.serving import Images
from aoe.image.user import reader
from tests.support.tools import need_images
from tests.support.waiting import PATIENCE_S


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """And time for the check of an image, also on a busy machine."""
    monkeypatch.setattr(timing, "IMAGE_TURN_S", PATIENCE_S)
    need_images()


@pytest.fixture
def images(programs: None) -> Iterator[Images]:
    """Nothing is left of this process afterwards."""
    made = Images(reader())
    yield made
    made.close()
    assert not list(mounts.home().glob(f"{mounts.PREFIX}{os.getpid()}-*"))
