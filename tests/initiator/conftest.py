"""Targets start at memory speed here, too; the initiator runs in both languages."""

import pytest

from tests.initiator.helpers import CORE
from tests.serve.conftest import at_once
from tests.support.tools import need_engine

__all__ = ["at_once"]

BOTH = ("test_frame_size", "test_multipath", "test_one_mac", "test_remote", "test_signed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of the whole disk run with the arithmetic in both languages, unless they look into one."""
    if metafunc.module.__name__.rpartition(".")[2] in BOTH:
        looks_inside = metafunc.definition.get_closest_marker("only_python") is not None
        metafunc.parametrize("core", ["python"] if looks_inside else ["python", "c"], indirect=True)


@pytest.fixture(autouse=True)
def core(request: pytest.FixtureRequest) -> None:
    language = getattr(request, "param", "auto")
    if language == "c":
        need_engine()
    CORE.set(language)
