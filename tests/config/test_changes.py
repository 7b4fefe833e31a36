"""Changes beside the file: they are kept as they are, and come to the same as one after the other."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe import limits
from aoe.config.changes import Change, Verb, as_text, dump, load, merged, patched, saved
from aoe.errors import ConfigurationError

ADDRESSES = ("e0.0", "e0.1", "e1.0")
VALUES = st.text(max_size=5) | st.integers(-9, 9) | st.booleans() | st.lists(st.text(max_size=3), max_size=2)
KEYS = st.dictionaries(st.sampled_from(["path", "mask", "direct", "a b"]), VALUES, max_size=3)


def change(verb: Verb, address: str = "e1.0", *gone: str, **keys: Any) -> Change:
    """By root, at some time."""
    return Change(
        verb=verb, address=address, by="root (uid 0)", at="2026-11-28T12:00:00Z", keys=keys, gone=gone
    )


changes = st.builds(
    Change,
    verb=st.sampled_from(["add", "remove", "set"]),
    address=st.sampled_from(ADDRESSES),
    by=st.text(),
    at=st.text(),
    keys=KEYS,
    gone=st.lists(st.text(max_size=3), max_size=2).map(tuple),
    saved=st.booleans(),
)


@given(st.lists(changes, max_size=4))
def test_what_is_dumped_is_loaded(them: Sequence[Change]) -> None:
    text = dump(them)
    assert load(text, "x") == tuple(them)
    assert load(text.encode(), "x") == tuple(them)


@given(changes)
def test_a_sentence_is_one_line(one: Change) -> None:
    assert one.sentence.isprintable()


def test_a_sentence_names_what_by_whom_and_when() -> None:
    said = change("set", "e1.0", "durability", mask=["02:00:00:00:00:01"]).sentence
    assert said == (
        'set e1.0 mask = ["02:00:00:00:00:01"], no durability (by root (uid 0) at 2026-11-28T12:00:00Z)'
    )
    assert change("remove").sentence == "remove e1.0 (by root (uid 0) at 2026-11-28T12:00:00Z)"


@pytest.mark.parametrize(
    "text",
    [
        b"[[change]]",
        b"change = 1",
        b"change = [1]",
        b"\xff",
        b"[[change",
        b'[[change]]\nverb = "drain"\naddress = "e1.0"\nby = "x"\nat = "y"',
        b'[[change]]\nverb = "set"\naddress = "eth0"\nby = "x"\nat = "y"',
        b'[[change]]\nverb = "set"\naddress = "e1.0"\nby = 1\nat = "y"',
        b'[[change]]\nverb = "set"\naddress = "e1.0"\nby = "x"\nat = "y"\nkeys = 1',
        b'[[change]]\nverb = "set"\naddress = "e1.0"\nby = "x"\nat = "y"\ngone = [1]',
        b'[[change]]\nverb = ["set"]\naddress = "e1.0"\nby = "x"\nat = "y"',
        b"#" * (limits.CHANGES_BYTES_MAX + 1),
        b"x = " + b"[" * 20000,
    ],
)
def test_what_is_damaged_is_told_with_the_remedy(text: bytes) -> None:
    with pytest.raises(
        ConfigurationError, match=r"changes\.toml is damaged .* remove it and run aoe-target apply"
    ) as told:
        load(text, "changes.toml")
    assert str(told.value).isprintable()


def test_nothing_is_no_change() -> None:
    assert load(b"", "x") == load(dump([]), "x") == ()


# One after the other


def exports(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By address."""
    return {f"e{it['shelf']}.{it['slot']}": it for it in document.get("export", [])}


FILE = {
    "target": {"engine": "c"},
    "export": [{"shelf": 0, "slot": 0, "path": "/a", "mask": ["x"]}, {"shelf": 1, "slot": 0, "path": "/b"}],
}


@given(st.lists(st.tuples(changes, st.booleans()), max_size=9))
def test_a_list_comes_to_the_same_as_its_changes_one_by_one(steps: list[tuple[Change, bool]]) -> None:
    """As a node lets them: what is added is not there, what is changed or removed is. Some are saved."""
    expected: dict[str, Any] = FILE
    file: dict[str, Any] = FILE
    listed: tuple[Change, ...] = ()
    for step, is_saved in steps:
        new = replace(step, saved=False)
        if (new.address in exports(expected)) == (new.verb == "add"):
            continue
        listed = merged(listed, new)
        expected, idle = patched(expected, [new])
        assert not idle
        if is_saved:
            of_one = [it for it in listed if it.address == new.address]
            file, _ = patched(file, of_one)
            listed = saved(listed, new.address)
        assert exports(patched(FILE, listed)[0]) == exports(expected)
        assert exports(patched(file, listed)[0]) == exports(expected)
    assert len(listed) <= 9


def test_each_key_is_changed_once() -> None:
    listed = merged((), change("set", mask="any", path="/c"))
    listed = merged(listed, change("set", mask=["x"]))
    assert [dict(it.keys) for it in listed] == [{"path": "/c"}, {"mask": ["x"]}]
    listed = merged(listed, change("set", "e1.0", "path"))
    assert [(dict(it.keys), it.gone) for it in listed] == [({"mask": ["x"]}, ()), ({}, ("path",))]


def test_what_comes_and_goes_beside_the_file_leaves_nothing() -> None:
    listed = merged((), change("add", "e5.0", path="/c"))
    listed = merged(listed, change("set", "e5.0", mask="any"))
    assert merged(listed, change("remove", "e5.0")) == ()


def test_what_is_given_another_disk_keeps_nothing_of_the_last_one() -> None:
    listed = merged(merged((), change("remove", "e0.0")), change("add", "e0.0", path="/c"))
    assert exports(patched(FILE, listed)[0])["e0.0"] == {"shelf": 0, "slot": 0, "path": "/c"}


def test_a_change_of_what_the_file_has_no_more_is_told() -> None:
    lost = change("set", "e7.7", mask="any")
    document, idle = patched(FILE, [lost, change("remove", "e8.8")])
    assert document == FILE
    assert idle[0] == lost
    assert len(idle) == 2


def test_a_file_is_not_changed_by_being_patched() -> None:
    before = as_text(FILE)
    patched(FILE, [change("set", "e0.0", mask="any"), change("remove", "e1.0")])
    assert as_text(FILE) == before


def test_there_are_only_so_many() -> None:
    listed: tuple[Change, ...] = ()
    for slot in range(limits.CHANGES_MAX):
        listed = merged(listed, change("set", f"e{slot}.0", mask="any"))
    with pytest.raises(ConfigurationError, match="512 changes wait beside the file; put them into it"):
        merged(listed, change("set", "e600.0", mask="any"))
    assert merged(listed, change("set", "e5.0", mask=["x"]))


def test_an_address_is_not_changed() -> None:
    for new in (change("set", shelf=1), change("set", "e1.0", "slot"), change("add", slot=1, path="/c")):
        with pytest.raises(ConfigurationError, match=r"e1\.0: its address stays"):
            merged((), new)


@given(KEYS)
def test_a_document_as_text_says_the_same(keys: dict[str, Any]) -> None:
    document = {"target": keys, "groups": {"a b": ["x"]}, "export": [{"shelf": 1, **keys}, {"shelf": 2}]}
    assert tomllib.loads(as_text(document)) == document
    assert tomllib.loads(as_text({"top": 1, "export": 2, "x": []})) == {"top": 1, "export": 2, "x": []}
