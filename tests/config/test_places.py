"""The places of keys and values are where tomllib finds them."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aoe.config.places import Path, Places
from aoe.config.text import key, toml

SAMPLES = [
    'a = 1\n[b]\nc.d = "x" # y\n"q.r" = \'#\'\n[b.e]\nf = [1, [2, 3], ]\n',
    "[[x]]\na = 1\n[[x]]\n[x.y]\nb = 2\n[[x.z]]\nc = 1\n[[x.z]]\nc = 2\n",
    't = """\na = 1\n\\"""" # c\nu = \'\'\'\n[b]\n\'\'\'\nv = """"q""""\n',
    "d = 1979-05-27 07:32:00\ne = 1.5e3\nf = { g = 1, h.i = [ { j = 2 } ] }\n",
    "a = [ # one\n  1, # ]\n\n  2\n]\nb=[]\nc={}\n",
    "a = 1\r\n[b]\r\n\tc = 2\r\n",
    "\"a\\u0062\" = 1\n'c' = 2\n",
]


def walk(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """Every value of a document that is no table of its own."""
    found = [] if path == () else [(path, value)]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [one for name, it in items for one in walk(it, (*path, name))]


def check(text: str) -> None:
    places = Places(text)
    assert not places.twice
    assert places.unclosed == -1
    for path, value in walk(tomllib.loads(text)):
        place = places.found.get(path)
        if place is not None and text[place.key] != "[":
            assert tomllib.loads(f"v = {text[place.start : place.end]}")["v"] == value
        elif not isinstance(value, dict | list):
            raise AssertionError(f"{path} was not found")


@pytest.mark.parametrize("text", SAMPLES)
def test_every_value_is_where_it_is(text: str) -> None:
    check(text)


_keys = st.text(max_size=4).filter(lambda it: it.isprintable())
_leaves = (
    st.booleans()
    | st.integers(-9, 9)
    | st.text(max_size=6)
    | st.floats(allow_nan=False, allow_infinity=False)
)
_values = st.recursive(_leaves, lambda it: st.lists(it, max_size=3) | st.dictionaries(_keys, it, max_size=3))


@given(st.dictionaries(_keys, _values), st.dictionaries(_keys, st.dictionaries(_keys, _values)))
def test_random_documents(top: dict[str, Any], tables: dict[str, dict[str, Any]]) -> None:
    lines = [f"{key(name)} = {toml(value)} # = [" for name, value in top.items()]
    for name, table in tables.items():
        lines += [
            f"[[{key('t' + name)}.x]]",
            *(f"  {key(it)}\t={toml(value)}" for it, value in table.items()),
        ]
    if {f"t{name}" for name in tables} & {*top}:
        return
    check("\n".join(lines))


@given(st.text(alphabet="a=[]{}\",'.#\n\\ 1", max_size=40))
@settings(max_examples=500)
def test_any_text_is_read_to_an_end(text: str) -> None:
    """What is TOML is found; of the rest, something or nothing."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assert Places(text).unclosed < len(text)
    else:
        check(text)


def test_lines_are_counted_from_one() -> None:
    places = Places("a = 1\n\n[[b]]\nc = [\n 1,\n 2]\n")
    assert [places.line_of(path) for path in ((), ("a",), ("b", 0), ("b", 0, "c"), ("b", 0, "c", 1))] == [
        1,
        1,
        3,
        4,
        6,
    ]
    assert places.line_of(("b", 0, "missing")) == 3
    assert places.line_of(("b", 7)) == 1
