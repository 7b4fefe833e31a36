"""What builds packages, the sources, and a lab with frames that carry a page."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.labs.building import copied, fetched
from tests.support.labs.network import Lab
from tests.support.tools import need_namespaces


@pytest.fixture
def lab() -> Iterator[Lab]:
    need_namespaces()
    with Lab(mtu=9000) as made:
        yield made


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build requirements, fetched once instead of for each build."""
    return fetched(tmp_path_factory.mktemp("tools"))


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return copied(tmp_path / "sources")
