"""What a process gets that loads the engine."""

import ctypes
from pathlib import Path

import pytest

from aoe import engine
from tests.support.tools import need_engine

FILE = next(iter(Path(engine.__file__).parent.glob("_engine*.so")), None)


def loaded() -> ctypes.CDLL:
    need_engine()
    return ctypes.CDLL(str(FILE))


def test_python_finds_what_it_asks_for() -> None:
    assert loaded().PyInit__engine


@pytest.mark.parametrize(
    "name", ["aoe_engine_open", "aoe_core_open", "order_admit", "ring_open", "exchange_new"]
)
def test_no_name_can_be_taken_for_another(name: str) -> None:
    """A name that others see may be theirs instead, so it is called by a detour, and never as a part of the
    caller: a tenth of what a request costs."""
    assert not hasattr(loaded(), name)
