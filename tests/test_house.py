"""The rules of the house: who may import whom, and which rooms stay free of the world."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

AOE = Path(__file__).parent.parent / "aoe"

ROOMS = [
    *(
        "errors",
        "limits",
        "home",
        "wire",
        "drive",
        "disk",
        "link",
        "engine",
        "target",
        "initiator",
        "nbd",
        "cli",
    ),
    "testing",
]
"""A room imports only from itself and from rooms before it."""

SANS_IO = [
    "wire",
    "drive",
    *(
        f"target/{name}"
        for name in (
            "advertise",
            "age",
            "claims",
            "export",
            "keys",
            "merge",
            "order",
            "responder",
            "state",
            "streams",
        )
    ),
    *(
        f"initiator/{name}"
        for name in ("core", "facts", "path", "ranges", "rtt", "session", "strangers", "window")
    ),
]
WORLD = {
    "socket",
    "asyncio",
    "os",
    "time",
    "logging",
    "threading",
    "subprocess",
    "secrets",
    "pathlib",
    "uvloop",
}


def imports(source: str) -> Iterator[str]:
    """Modules that a source text names in an import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def wrong_direction(room: str, source: str) -> list[str]:
    """Imports of rooms that come later in the house."""
    later = ROOMS[ROOMS.index(room) + 1 :]
    return [it for it in imports(source) if it.startswith("aoe.") and it.split(".")[1] in later]


def worldly(source: str) -> list[str]:
    """Imports of the world; `random` is allowed for what is handed in, never called by its module."""
    named = [it for it in imports(source) if it.split(".")[0] in WORLD]
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return named + [
        f"random.{call.attr}"
        for call in calls
        if isinstance(call.value, ast.Name) and call.value.id == "random" and call.attr != "Random"
    ]


def sources(part: str) -> list[Path]:
    """The files of a room or a module."""
    path = AOE / part
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def test_every_module_is_in_a_room() -> None:
    tops = {path.relative_to(AOE).parts[0].removesuffix(".py") for path in AOE.rglob("*.py")}
    assert tops - {"__init__"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_from_rooms_above(room: str) -> None:
    for path in sources(room):
        if path.exists():
            assert not wrong_direction(room, path.read_text()), path


@pytest.mark.parametrize("part", SANS_IO)
def test_sans_io_rooms_know_nothing_of_the_world(part: str) -> None:
    for path in sources(part):
        assert not worldly(path.read_text()), path


def test_the_checks_find_what_they_look_for() -> None:
    assert wrong_direction("wire", "from aoe.target.order import OrderQueue\n")
    assert wrong_direction("disk", "from aoe.link import packet\n")
    assert worldly("import time\n")
    assert worldly("import random\nrandom.random()\n")
    assert not worldly("import random\ndef f(rng: random.Random) -> float: return rng.random()\n")
