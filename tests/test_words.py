"""One noun, one meaning; and what stands behind an interface is not looked at from before it."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

AOE = Path(__file__).parent.parent / "aoe"
CSRC = AOE.parent / "csrc"
IDIOMS = re.compile(r"under_way|gives_way")
WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+")
UNKNOWN = {
    "way": "from a port to a server it is a path, there and back are directions",
    "claim": "a change locks its range, IDENTIFY registers a stream, two servers meet at an address",
}
"""Words that meant several things, and what those are called."""


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


def names(source: str) -> set[str]:
    """The words of all names in a source text: of `Path.may_use` path, may, use."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = (
        re.findall(WORD, token.string.replace("under_way", ""))
        for token in tokens
        if token.type == tokenize.NAME
    )
    return {word.lower() for words in found for word in words}


@pytest.mark.parametrize("word", UNKNOWN)
def test_a_word_that_has_another_one_names_nothing(word: str) -> None:
    using = [str(path) for path in AOE.rglob("*.py") if {word, f"{word}s"} & names(path.read_text())]
    assert not using, UNKNOWN[word]


def c_names(source: str) -> set[str]:
    """The same of a text in C, without comments and strings."""
    bare = re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\])*"', "", source, flags=re.DOTALL)
    return {word.lower() for word in re.findall(WORD, re.sub(IDIOMS, "", bare))}


@pytest.mark.parametrize("word", UNKNOWN)
def test_such_a_word_names_nothing_in_c(word: str) -> None:
    texts = {str(path): path.read_text() for path in CSRC.rglob("*.[ch]")}
    using = [name for name, text in texts.items() if {word, f"{word}s"} & c_names(text)]
    assert not using, UNKNOWN[word]


@pytest.mark.parametrize("noun", ["Path", "Channel", "Lane", "Piece", "RangeLock", "Session", "Carrier"])
def test_a_noun_is_one_class(noun: str) -> None:
    classes = [
        path
        for path in AOE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.name == noun
    ]
    assert len(classes) == 1


def test_the_reader_of_names_finds_what_it_looks_for() -> None:
    text = "class WayOut:\n    def by_way(self): return self._ways  # their claim\n"
    assert names(text) >= {"way", "out", "by", "ways"}
    assert "claim" not in names(text)
    text = 'f("ways"); /* a claim */ int traffic_under_way(struct path *by_way);'
    assert c_names(text) >= {"traffic", "way", "by"}
    assert not c_names(text) & {"ways", "claim"}
    assert "way" not in c_names("int traffic_under_way(void)")


def test_the_reader_of_calls_finds_what_it_looks_for() -> None:
    assert [*calls("if isinstance(it.carrier, EngineCarrier): pass", "isinstance")] == [
        "isinstance(it.carrier, EngineCarrier)"
    ]
    assert [*calls("vars(cable).update(x)", "vars")] == ["vars(cable)"]
