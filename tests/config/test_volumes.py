"""Exports that name a volume of a pool, and no path."""

import pytest

from aoe.cli.exporting import absolute
from aoe.config.edit import change
from aoe.config.faults import ConfigErrors
from aoe.config.read import read
from aoe.config.values import volume_of
from aoe.config.write import dump
from aoe.pool.names import VolumeName

POOLS = '[[pool]]\nname = "fast"\npath = "/srv/fast"\n'
OTHER = '[[pool]]\nname = "slow"\npath = "/srv/slow"\n'


def export(path: str, more: str = "") -> str:
    return f'[[export]]\npath = "{path}"\nshelf = 1\nslot = 0\n{more}'


def said(text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        read(text, "f.toml")
    return caught.value.lines


def test_a_volume_is_where_the_file_says() -> None:
    (found,) = read(POOLS + export("fast/web1"), "f.toml").exports
    assert (found.path, found.place, found.read_only) == ("fast/web1", "fast/web1", False)


FIXED = [("fast/web1@monday", ""), ("/a", 'copy-of = "one"\n')]


@pytest.mark.parametrize(("path", "more"), FIXED)
@pytest.mark.parametrize("said_too", ["", "read-only = true\n"])
@pytest.mark.parametrize("defaults", ["", "[defaults]\nread-only = false\n"])
def test_a_snapshot_and_a_copy_of_an_image_are_read_only(
    path: str, more: str, said_too: str, defaults: str
) -> None:
    config = read(POOLS + defaults + export(path, more + said_too), "f.toml")
    assert config.exports[0].read_only
    assert read(dump(config), "f.toml") == config


@pytest.mark.parametrize(
    ("path", "more", "what"),
    [
        (*FIXED[0], "read-only = false, and a snapshot is never written to"),
        (*FIXED[1], "read-only = false, and a copy of an image (copy-of) is never written to"),
    ],
)
def test_that_they_are_not_is_refused(path: str, more: str, what: str) -> None:
    (line,) = said(POOLS + export(path, f"{more}read-only = false\n"))
    assert line.endswith(f"{what}; leave it out")


@pytest.mark.parametrize(
    ("path", "more", "what"),
    [
        ("fast/web1", 'format = "qcow2"', 'format = "qcow2", and the pool fast knows that of its volumes'),
        ("fast/web1", 'key-file = "/k"', "key-file is of an image, and a volume has no key"),
        ("/a", 'key-file = "/k"', "key-file is of an image in qcow2 or luks, and this is raw"),
        ("/a.vhdx", 'key-file = "/k"', "key-file is of an image in qcow2 or luks, and this is vhdx"),
    ],
)
def test_a_key_that_would_do_nothing_is_refused(path: str, more: str, what: str) -> None:
    (line,) = said(POOLS + export(path, f"{more}\n"))
    assert line.endswith(f"{what}; leave it out")


def test_a_key_file_of_an_image_is_read() -> None:
    (found,) = read(export("/a.luks", 'key-file = "/k"\n'), "f.toml").exports
    assert (found.form, found.key_file) == ("luks", "/k")


def test_a_pool_that_the_file_has_not_is_said_with_the_nearest() -> None:
    assert said(export("fast/web1")) == [
        'f.toml:2: e1.0: path = "fast/web1": there is no pool fast; '
        "add a [[pool]], or write the path from / on"
    ]
    assert said(POOLS + OTHER + export("fats/web1")) == [
        'f.toml:8: e1.0: path = "fats/web1": there is no pool fats; is fast meant?'
    ]


@pytest.mark.parametrize(
    "path", ["web1", "fast/", "fast/a/b", "fast/web1@", "./fast/web1", "fast/.web1", "@a"]
)
def test_other_paths_that_do_not_begin_at_the_root_are_refused(path: str) -> None:
    (line,) = said(POOLS + export(path))
    assert "write an absolute path, or LABEL=" in line
    assert line.endswith("with a value, or POOL/VOLUME")


def test_an_absolute_path_is_never_a_volume() -> None:
    assert volume_of("/fast/web1") is None
    assert volume_of("fast/web1@a") == VolumeName("fast", "web1", "a")
    (found,) = read(POOLS + export("/fast/web1"), "f.toml").exports
    assert found.place == "/fast/web1"


def test_one_volume_is_served_once() -> None:
    two = export("fast/web1") + export("fast/web1").replace("slot = 0", "slot = 1")
    (line,) = said(POOLS + two)
    assert "has sectors that e1.0 serves, too" in line


def test_a_volume_is_not_shared_with_another_host() -> None:
    assert said(POOLS + export("fast/web1", "shared = true\n")) == [
        "f.toml:8: e1.0: shared = true, and a volume is served by the one host that has its pool; "
        "leave it out"
    ]


def test_a_path_becomes_a_volume_by_an_edit() -> None:
    text = change(POOLS + export("/a"), "f.toml", (1, 0), {"path": "fast/web1"})
    assert read(text, "f.toml").exports[0].place == "fast/web1"


def test_what_is_typed_is_a_volume_unless_there_is_such_a_file(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path_factory.mktemp("here")
    monkeypatch.chdir(here)
    assert absolute("fast/web1") == "fast/web1"
    assert absolute("a.img") == str(here / "a.img")
    (here / "fast").mkdir()
    (here / "fast/web1").touch()
    assert absolute("fast/web1") == str(here / "fast/web1")
