"""The rooms of a session and of the core: each knows only those before it, in either language."""

import ast
import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PYTHON, C = TOP / "aoe" / "initiator", TOP / "csrc" / "initiator"
SHARED = ["life", "path", "board"]
ROOMS = ["looks", "trial", "traffic", "health", "discovery", "verdict", "lifecycle", "session"]
CORE = ["ranges", "pieces", "proof", "progress", "split", "core"]
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
    assert not imported((PYTHON / f"{room}.py").read_text()) & above
    if room != "path":
        text = re.sub(r"/\*.*?\*/", "", (C / f"{room}.c").read_text(), flags=re.DOTALL)
        assert not called(text) & (above - {"life", "path"}), room


@pytest.mark.parametrize("room", [*SHARED, *ROOMS])
def test_a_room_is_read_in_one_sitting(room: str) -> None:
    for path in (PYTHON / f"{room}.py", C / f"{room}.c")[: 1 if room == "path" else 2]:
        assert not path.exists() or len(path.read_text().splitlines()) <= LINES_MAX, path


def test_the_checks_find_what_they_look_for() -> None:
    assert imported("from aoe.initiator import looks, traffic\n") == {"looks", "traffic"}
    assert imported("from aoe.initiator.session import Session\n") == {"session"}
    assert called("    lifecycle_happened(c, e, now_ns);") == {"lifecycle"}
