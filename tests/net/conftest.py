"""Every test here runs on a lab of its own, with our target once on each engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.contest import build
from tests.support.labs.network import Lab
from tests.support.labs.peers import ENGINE
from tests.support.tools import need, need_engine, need_namespaces

_ENGINES = ("python", "c")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is ours, and what is run with the engine, too; what runs vblade runs it once."""
    ours = [item for item in items if item.nodeid.startswith("tests/net/")]
    for item in ours:
        item.add_marker(pytest.mark.net)
        if "python" in _parameters(item) and _runs_both(item):
            item.add_marker(pytest.mark.reference)
    twice = [item for item in ours if {"vblade", "python"} <= set(_parameters(item))]
    items[:] = [item for item in items if item not in twice]
    config.hook.pytest_deselected(items=twice)


def _runs_both(item: pytest.Item) -> bool:
    return set(_ENGINES) <= set(getattr(getattr(item, "module", None), "ENGINES", _ENGINES))


def _parameters(item: pytest.Item) -> list[str]:
    return item.name.partition("[")[2].rstrip("]").split("-")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module whose targets outlive a test names its ENGINES itself."""
    if "engine" in metafunc.fixturenames:
        engines = getattr(metafunc.module, "ENGINES", _ENGINES)
        metafunc.parametrize("engine", engines, indirect=True)


@pytest.fixture(autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What serves: the engine, or the Python path that is its reference."""
    chosen: str = request.param
    if chosen == "c":
        need_engine()
    monkeypatch.setenv(ENGINE, chosen)
    return chosen


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The hosts of a target and of a client, and a cable. A module names its MTU where it is not 1500."""
    need_namespaces()
    with Lab(mtu=getattr(request.module, "MTU", 1500)) as made:
        yield made


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load generator of bench/."""
    need("gcc")
    return build("load", tmp_path_factory.mktemp("load"))
