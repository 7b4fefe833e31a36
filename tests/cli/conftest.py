"""A target of ours over UDP, for the tests of `aoe`."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.labs.served import SECTORS, Served, serving


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "served.img"
    path.write_bytes(random.Random(1).randbytes(SECTORS * 512))
    return path


@pytest.fixture
def served(image: Path, tmp_path: Path) -> Iterator[Served]:
    state = tmp_path / "state"
    with serving(f"{image}=1.2,serial=S1", "--link", "udp:127.0.0.1:0", "--state-dir", state) as target:
        yield target
