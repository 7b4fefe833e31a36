"""What every benchmark needs: a lab, the C programs, an image in memory."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import contest
from bench.image import write_image
from tests.support.labs.network import Lab
from tests.support.tools import need, need_engine, need_namespaces

SECTORS = 131072


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    need_namespaces()
    need_engine()
    need("vblade", "gcc")
    directory = tmp_path_factory.mktemp("bin")
    return {name: contest.build(name, directory) for name in ("load", "null")}


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """An image in memory: the page cache without a disk behind it."""
    directory = contest.scratch()
    yield write_image(directory / "image", SECTORS)
    shutil.rmtree(directory)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(mtu=9000) as made:
        yield made
