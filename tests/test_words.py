"""One noun, one meaning; and what stands behind an interface is not looked at from before it."""

import ast
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parent.parent
AOE = TOP / "aoe"


def calls(source: str, name: str) -> Iterator[str]:
    """Calls of a function in a source text."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield ast.unparse(node)


def everywhere(name: str) -> list[str]:
    """Calls of a function in all of the package."""
    return [it for path in AOE.rglob("*.py") for it in calls(path.read_text(), name)]


def test_a_carrier_is_not_asked_which_it_is() -> None:
    assert everywhere("isinstance")
    assert not [it for it in everywhere("isinstance") if "Carrier" in it], "ask its interface"
    assert not [it for it in everywhere("cast") if "Core" in it], "aoe.initiator.arithmetic says what it is"


def test_attributes_are_not_set_past_the_types() -> None:
    assert not [it for it in everywhere("vars") if "parse_args" not in it]


def test_the_reader_of_calls_finds_what_it_looks_for() -> None:
    assert [*calls("if isinstance(it.carrier, EngineCarrier): pass", "isinstance")] == [
        "isinstance(it.carrier, EngineCarrier)"
    ]
    assert [*calls("vars(cable).update(x)", "vars")] == ["vars(cable)"]
