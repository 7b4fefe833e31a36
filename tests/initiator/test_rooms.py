"""The rooms of a session and of the core: each knows only those before it, in either language."""

import ast
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PYTHON, C = TOP / "aoe" / "initiator", TOP / "csrc" / "initiator"
SHARED = ["life", "path", "board"]
ROOMS = ["trial", "looks", "traffic", "handover", "health", "discovery", "verdict", "lifecycle", "session"]
CORE = ["ranges", "pieces", "samples", "echo", "proof", "progress", "split", "core"]
ALL = [*SHARED, *ROOMS, *CORE]
LINES_MAX = 450


def imported(source: str) -> set[str]:
    """Modules of the initiator that a source text imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "aoe.initiator":
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("aoe.initiator."):
            names.add((node.module or "").split(".")[-1])
    return names


def called(source: str) -> set[str]:
    """Rooms of which a C text calls something."""
    return {name.split("_")[0] for name in re.findall(r"\b([a-z]+_\w+)\(", source)}


def later(at: int) -> set[str]:
    return set(ALL[at + 1 :])


@pytest.mark.parametrize("room", ALL)
def test_a_room_knows_only_those_before_it(room: str) -> None:
    above = later(ALL.index(room))
    python, c = PYTHON / f"{room}.py", C / f"{room}.c"
    assert python.exists() or c.exists(), "it is somewhere"
    if python.exists():
        assert not imported(python.read_text()) & above
    if c.exists():
        text = re.sub(r"/\*.*?\*/", "", c.read_text(), flags=re.DOTALL)
        assert not called(text) & (above - {"life", "path"}), room


def test_a_room_is_read_in_one_sitting() -> None:
    files = [*PYTHON.glob("*.py"), *C.glob("*.[ch]")]
    assert len(files) > 2 * len(ALL)
    long = {path.name: len(path.read_text().splitlines()) for path in files}
    assert not {name: lines for name, lines in long.items() if lines > LINES_MAX}


def test_the_checks_find_what_they_look_for() -> None:
    assert imported("from aoe.initiator import looks, traffic\n") == {"looks", "traffic"}
    assert imported("from aoe.initiator.session import Session\n") == {"session"}
    assert called("    lifecycle_happened(c, e, now_ns);") == {"lifecycle"}
