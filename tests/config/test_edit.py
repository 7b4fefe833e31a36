"""Edits change what was asked, and no other character."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.config.edit import add, change, remove
from aoe.config.faults import ConfigErrors
from aoe.config.read import read
from aoe.config.values import Config, ExportConfig
from aoe.config.write import dump
from aoe.errors import ConfigurationError
from tests.config.configs import configs

OWN = """\
# The disks of the lab.  Ask Ann before you change e1.0!

[target]
interfaces = ["eth1"]   # the storage network

[groups]
lab = ["02:00:00:00:00:01"]

# Ann's
[[export]]
path   = "/srv/ann.img"     # sparse
shelf  = 1
slot   = 0
mask   = [
    "lab",                  # all of us
    "02:00:00:00:00:07",    # Bob's laptop
    "02:00:00:00:00:08"     # until May
]

# Bob's; see also e1.0
[[export]]
path = "/srv/bob.img"
shelf = 1
slot = 1

# the end
"""


def changed(before: str, after: str) -> tuple[list[str], list[str]]:
    """Lines that went, and lines that came."""
    old, new = before.splitlines(), after.splitlines()
    return [it for it in old if it not in new], [it for it in new if it not in old]


@pytest.mark.parametrize(
    ("address", "keys", "gone", "came"),
    [
        ((1, 0), {"path": "/x"}, ['path   = "/srv/ann.img"     # sparse'], ['path   = "/x"     # sparse']),
        ((1, 0), {"read-only": True}, [], ["read-only = true"]),
        ((1, 1), {"serial": 'a"b', "force": True}, [], ['serial = "a\\"b"', "force = true"]),
        ((1, 1), {"slot": 7}, ["slot = 1"], ["slot = 7"]),
        ((1, 1), {"mask": "any"}, [], ['mask = "any"']),
        (
            (1, 0),
            {"mask": ["lab", "02:00:00:00:00:08"]},
            ['    "02:00:00:00:00:07",    # Bob\'s laptop'],
            [],
        ),
        (
            (1, 0),
            {"mask": ["lab", "02:00:00:00:00:07"]},
            ['    "02:00:00:00:00:08"     # until May'],
            [],
        ),
        (
            (1, 0),
            {
                "mask": [
                    "lab",
                    "02:00:00:00:00:07",
                    "02:00:00:00:00:08",
                    "02:00:00:00:00:09",
                    "02:00:00:00:00:0a",
                ]
            },
            ['    "02:00:00:00:00:08"     # until May'],
            [
                '    "02:00:00:00:00:08",     # until May',
                '    "02:00:00:00:00:09",',
                '    "02:00:00:00:00:0a",',
            ],
        ),
        (
            (1, 0),
            {"mask": ["02:00:00:00:00:07", "02:00:00:00:00:09"]},
            ['    "lab",                  # all of us', '    "02:00:00:00:00:08"     # until May'],
            ['    "02:00:00:00:00:09",'],
        ),
        (
            None,
            {"interfaces": ["eth1", "eth2"]},
            ['interfaces = ["eth1"]   # the storage network'],
            ['interfaces = ["eth1", "eth2"]   # the storage network'],
        ),
        (None, {"spin": False}, [], ["spin = false"]),
        (None, {"interfaces": None}, ['interfaces = ["eth1"]   # the storage network'], []),
        ((1, 1), {"mask": None}, [], []),
    ],
    ids=range(13),
)
def test_one_key_changes(
    address: tuple[int, int] | None, keys: dict[str, Any], gone: list[str], came: list[str]
) -> None:
    after = change(OWN, "f.toml", address, keys)
    assert changed(OWN, after) == (gone, came)
    assert len(after.splitlines()) == len(OWN.splitlines()) - len(gone) + len(came)
    order = [line for line in after.splitlines() if line in OWN.splitlines()]
    assert order == [line for line in OWN.splitlines() if line not in gone]


def test_a_new_key_is_above_the_comment_of_the_next_export() -> None:
    after = change(OWN, "f.toml", (1, 0), {"read-only": True})
    assert "]\nread-only = true\n\n# Bob's; see also e1.0\n[[export]]\n" in after


def test_a_key_that_goes_takes_all_its_lines() -> None:
    after = change(OWN, "f.toml", (1, 0), {"mask": None})
    assert "slot   = 0\n\n# Bob's" in after
    assert read(after, "f.toml").exports[0].mask is None


def test_an_export_goes_with_its_own_comment() -> None:
    after = remove(OWN, "f.toml", (1, 0))
    assert after == OWN[: OWN.index("# Ann's")] + OWN[OWN.index("# Bob's; see") :]
    assert remove(OWN, "f.toml", (1, 1)) == OWN[: OWN.index("# Bob's; see")] + "# the end\n"
    assert not read(remove(after, "f.toml", (1, 1)), "f.toml").exports


def test_the_comment_that_begins_the_file_stays() -> None:
    text = '# mine\n[[export]]\npath = "/a"\nshelf = 0\nslot = 0\n'
    assert remove(text, "f.toml", (0, 0)) == "# mine\n"


def test_an_export_comes_last() -> None:
    new = ExportConfig(path="/srv/c.img", shelf=2, slot=0, mask=())
    after = add(OWN, "f.toml", new)
    assert after == OWN + '\n[[export]]\npath = "/srv/c.img"\nshelf = 2\nslot = 0\nmask = "any"\n'
    assert read(after, "f.toml").by_key[2, 0] == new
    assert add("", "f.toml", new).startswith("[[export]]\n")
    assert add("# a", "f.toml", new).startswith("# a\n\n[[export]]\n")


def test_an_export_that_is_not_as_the_defaults_says_so() -> None:
    text = '[defaults]\ndurability = "write-back"\nread-only = true\n'
    new = ExportConfig(path="/a", shelf=2, slot=0, read_only=True)
    after = add(text, "f.toml", new)
    assert read(after, "f.toml").by_key[2, 0] == new
    assert 'durability = "write-through"\n' in after
    with pytest.raises(
        ConfigurationError, match=r"f.toml: \[defaults\] says mask for every export; say it for e2.0"
    ):
        add('[defaults]\nmask = "any"\n', "f.toml", new)


def test_windows_line_ends_stay() -> None:
    text = OWN.replace("\n", "\r\n")
    for after in (
        change(text, "f.toml", (1, 0), {"read-only": True, "mask": ["lab", "02:00:00:00:00:08"]}),
        add(text, "f.toml", ExportConfig(path="/x", shelf=2, slot=0)),
        remove(text, "f.toml", (1, 0)),
    ):
        assert after.count("\n") == after.count("\r\n")


def test_a_file_without_a_last_line_end() -> None:
    text = '[[export]]\npath = "/a"\nshelf = 0\nslot = 0'
    assert change(text, "f.toml", (0, 0), {"force": True}) == text + "\nforce = true\n"


def test_target_is_made_where_there_is_none() -> None:
    assert change("# a\n", "f.toml", None, {"spin": False}) == "# a\n\n[target]\nspin = false\n"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"slot": 1},
            "f.toml:24: e1.1: the address is there twice (first in line 13); choose another one, such as "
            "e1.0",
        ),
        ({"sloth": 1}, "f.toml:19: e1.0: sloth is no key of [[export]]; is slot meant?"),
        (
            {"mask": ["bob"]},
            'f.toml:14: e1.0: "bob" in mask: neither a MAC nor one of [groups], which has "lab"',
        ),
        ({"path": None}, 'f.toml:10: e1.0: path is missing; add path = "/dev/md0"'),
    ],
)
def test_an_edit_that_makes_the_file_wrong_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        change(OWN, "f.toml", (1, 0), keys)
    assert caught.value.lines == [message]


def test_an_address_that_is_not_there() -> None:
    for edit in (lambda: change(OWN, "f.toml", (9, 9), {"slot": 1}), lambda: remove(OWN, "f.toml", (9, 9))):
        with pytest.raises(ConfigurationError, match=r"^f\.toml has no export e9\.9; add it$"):
            edit()


@pytest.mark.parametrize(
    "text",
    [
        'export = [{path = "/a", shelf = 0, slot = 0}]\n',
        'target = {engine = "c"}\nexport = [{path = "/a", shelf = 0, slot = 0}]\n',
        'target.engine = "c"\nexport = [{path = "/a", shelf = 0, slot = 0}]\n',
    ],
)
def test_a_file_in_another_form_is_left_to_its_owner(text: str) -> None:
    """But for values that are there."""
    message = (
        r"^f\.toml is not written as \[target\] and \[\[export\]\] with one key in a line; change it by hand$"
    )
    edits = [
        lambda: change(text, "f.toml", (0, 0), {"force": True}),
        lambda: remove(text, "f.toml", (0, 0)),
        lambda: add(text, "f.toml", ExportConfig(path="/b", shelf=1, slot=0)),
    ]
    for edit in edits:
        with pytest.raises(ConfigurationError, match=message):
            edit()
    assert change(text, "f.toml", (0, 0), {"path": "/b"}) == text.replace("/a", "/b")


@given(configs(1), st.data())
def test_random_edits(config: Config, data: st.DataObject) -> None:
    """A key of an export, an export that goes, and one that comes: all else means what it meant."""
    text = dump(config)
    at = data.draw(st.integers(0, len(config.exports) - 1))
    one = config.exports[at]
    others = (*config.exports[:at], *config.exports[at + 1 :])
    without = replace(config, exports=others)
    assert read(remove(text, "f.toml", one.key), "f.toml") == without
    assert read(add(dump(without), "f.toml", one), "f.toml") == replace(config, exports=(*others, one))
    flipped = replace(one, read_only=one.copy_of is not None or not one.read_only, mask=(b"\2\0\0\0\0\1",))
    keys = {"read-only": flipped.read_only, "mask": ["02:00:00:00:00:01"]}
    after = read(change(text, "f.toml", one.key, keys), "f.toml")
    assert after.by_key == {**config.by_key, one.key: flipped}
