"""Verbs as JSON."""

import json

import pytest

from aoe.errors import ConfigurationError
from aoe.pool.adopting import Adopt, Freeze, Template
from aoe.pool.asked import VERBS, Wish, facts_of, request_of
from aoe.pool.fading import Merged
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback

WISHES: list[Wish] = [
    Create("a", 512),
    Create("a", 512, "qcow2"),
    Cut("a", "b"),
    Cut("a", "b", ("c", "d")),
    Clone("a", "", "b"),
    Rollback("a", "b"),
    Resize("a", 512, shrink=True),
    Rename("a", "b"),
    Delete("a", "b", recursive=True),
    Adopt("a", "0" * 32, 512, "qcow2"),
    Template("a", "0" * 32, "1" * 32, "raw"),
    Freeze("a"),
    Merged("a", "0" * 32, None),
    Merged("a", "0" * 32, "1" * 32),
]


@pytest.mark.parametrize("wish", WISHES, ids=str)
def test_each_comes_back_as_it_was(wish: Wish) -> None:
    assert request_of(json.loads(json.dumps(facts_of(wish)))) == wish


def test_all_verbs_are_tried() -> None:
    assert {type(it) for it in WISHES} == set(VERBS.values())


def test_what_has_a_default_may_be_left_out() -> None:
    assert request_of({"verb": "delete", "volume": "a", "later": 1}) == Delete("a")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({}, "no such verb; it has create, snapshot"),
        ({"verb": "format", "volume": "a"}, "no such verb"),
        ({"verb": ["create"]}, "no such verb"),
        ({"verb": "create", "volume": "a"}, "create needs format, size, volume"),
        ({"verb": "create", "volume": 1, "size": 512}, "volume of create is not as it must be"),
        ({"verb": "create", "volume": "a", "size": True}, "size of create is not as it must be"),
        ({"verb": "create", "volume": "a", "size": "1G"}, "size of create is not"),
        ({"verb": "create", "volume": "a", "size": 512, "format": "vmdk"}, "format of create is not"),
        ({"verb": "create", "volume": "a", "size": 512, "format": ["raw"]}, "format of create is not"),
        ({"verb": "snapshot", "volume": "a", "snapshot": "b", "others": "cd"}, "others of snapshot is not"),
        ({"verb": "snapshot", "volume": "a", "snapshot": "b", "others": [1]}, "others of snapshot is not"),
        ({"verb": "delete", "volume": "a", "recursive": 1}, "recursive of delete is not"),
    ],
)
def test_anything_else_is_refused(said: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        request_of(said)
