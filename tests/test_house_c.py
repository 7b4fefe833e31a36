"""The rules of the house for C."""

import re
from pathlib import Path

import pytest

import aoe
from aoe import limits, timing
from tests.support.tools import need_engine, unavailable

CSRC = Path(__file__).parent.parent / "csrc"
ASSERTS_MIN = 60


def sources() -> list[Path]:
    """What is built into the engine and the plugin."""
    return [path for path in sorted(CSRC.rglob("*.[ch]")) if "fuzz" not in path.relative_to(CSRC).parts]


def asserts(source: str) -> list[str]:
    """The invariants that a source text states, without those of the compiler."""
    return re.findall(r"(?<![_\w])assert\(.+", source)


def test_c_states_its_invariants() -> None:
    assert sum(len(asserts(path.read_text())) for path in sources()) >= ASSERTS_MIN


def test_what_counts_as_an_assert() -> None:
    source = 'assert(x);\n_Static_assert(1, "");\n#include <assert.h>\n    assert(y && z); /* so */\n'
    assert asserts(source) == ["assert(x);", "assert(y && z); /* so */"]


@pytest.mark.parametrize(("room", "name"), [("engine", "_engine*.so"), ("nbd", "aoe_nbd_plugin.so")])
def test_what_is_built_asserts(room: str, name: str) -> None:
    """Python's own flags would switch it off."""
    need_engine()
    assert aoe.__file__ is not None
    built = list((Path(aoe.__file__).parent / room).glob(name))
    if not built:
        unavailable(f"{name} is not built")
    assert all(b"__assert_fail" in path.read_bytes() for path in built)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEND_BACKLOG_NS", limits.NETWORK_LIFETIME_NS),
        ("COPIES_MAX", 14),
        ("GAP_NS", limits.DEAD_NS),
        ("STREAM_AGAIN_NS", limits.NETWORK_LIFETIME_NS),
    ],
)
def test_bounds_that_do_not_fit_each_other_are_refused(
    name: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path(timing.__file__).read_text()
    exec(compile(source, "timing", "exec"), {})
    if hasattr(limits, name):
        monkeypatch.setattr(limits, name, value)
    changed = re.sub(rf"^{name} = .*$", f"{name} = {value}", source, flags=re.MULTILINE)
    with pytest.raises(AssertionError):
        exec(compile(changed, "timing", "exec"), {})
