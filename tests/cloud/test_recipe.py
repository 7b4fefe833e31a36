"""What an image is made of: the words for mmdebstrap, and what is refused before it is run."""

import re
from dataclasses import replace
from typing import Any

import pytest

from aoe import limits
from aoe.cloud import filesystem, programs, recipe
from aoe.cloud.recipe import Recipe
from aoe.errors import ConfigurationError

PLAIN = Recipe(release="debian12", architecture="amd64")
KEY = "ssh-ed25519 AAAAC3Nz admin@host"


def words(made_of: Recipe) -> list[str]:
    return recipe.words(made_of, "/made/root", "/made/furniture")


def hooks(made_of: Recipe) -> list[str]:
    return [it.removeprefix("--customize-hook=") for it in words(made_of) if it.startswith("--customize")]


def test_there_is_one_kernel_and_neither_python_nor_qemu() -> None:
    (included,) = (it for it in words(PLAIN) if it.startswith("--include="))
    assert included.count("linux-image-") == 1
    assert "linux-image-cloud-amd64" in included
    assert not re.search("python|qemu|ssh", included)
    other = replace(PLAIN, packages=("linux-image-amd64", "vim-tiny"))
    assert [it for it in other.included if it.startswith("linux-image-")] == ["linux-image-amd64"]
    assert "vim-tiny" in other.included


def test_the_root_is_changed_before_the_initramfs_is_made() -> None:
    *before, last = hooks(replace(PLAIN, hook="/a dir/it's", keys=f"{KEY}\n"))
    assert "mkinitramfs" in last
    assert "'/a dir/it'\"'\"'s' \"$1\"" in before
    assert any(
        it.startswith("install -D -m 0600") and it.endswith("/root/.ssh/authorized_keys") for it in before
    )
    assert recipe.environment(PLAIN)["INITRD"] == "No"


def test_keys_bring_an_ssh_server_that_makes_its_own_host_keys() -> None:
    made_of = replace(PLAIN, keys=f"{KEY}\n")
    assert "openssh-server" in made_of.included
    assert "ssh-keygen -A" in made_of.files["etc/systemd/system/ssh.service.d/host-keys.conf"]
    assert "openssh-server" not in PLAIN.included


def test_packages_that_are_files_need_a_hook_of_mmdebstrap() -> None:
    said = words(replace(PLAIN, debs=("/made/0.deb", "/made/1.deb")))
    assert {"--include=/made/0.deb", "--include=/made/1.deb"} <= set(said)
    automount = "--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount"
    assert automount in said
    assert automount not in words(PLAIN)


def test_what_is_asked_for_is_part_of_the_id() -> None:
    first = PLAIN.inputs({})
    assert PLAIN.inputs({"hook": "aa"}) != first
    changes: list[dict[str, Any]] = [
        {"packages": ("vim",)},
        {"keys": KEY},
        {"epoch": 1},
        {"architecture": "arm64"},
    ]
    for change in changes:
        assert replace(PLAIN, **change).inputs({}) != first, change
    assert replace(PLAIN, packages=("udev", "dbus")).inputs({}) == first


@pytest.mark.parametrize("text", ["vim,", " vim , less ", "libstdc++6", "vim=2:9.0.1378-2+deb12u2"])
def test_names_of_packages(text: str) -> None:
    assert recipe.packages(text)


@pytest.mark.parametrize(
    "text", ["./vim.deb", "Vim", "?essential", "vim;id", "--simulate", "v", "vim less", "a\x1b"]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be a package; name packages") as raised:
        recipe.packages(text)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no list of ssh keys"),
        ("# nothing\n\n", "no list of ssh keys"),
        ("hello", "no list of ssh keys"),
        (f"{KEY}\n\x7fELF \x00", "no list of ssh keys"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n", "private key; name the file of the public one"),
        ("k" * (limits.CLOUD_KEYS_BYTES_MAX + 1), "has more than"),
    ],
)
def test_what_are_no_public_keys_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^keys.*{why}"):
        recipe.keys(text, "keys")


def test_keys_are_kept_without_remarks() -> None:
    assert recipe.keys(f"# mine\r\n  {KEY}\r\n\n", "keys") == f"{KEY}\n"


@pytest.mark.parametrize("names", [[], ["6.1.0-1", "6.1.0-2"]])
def test_there_must_be_one_kernel(names: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="include one linux-image"):
        recipe.kernel_of(names)
    assert recipe.kernel_of(["6.1.0-1"]) == "6.1.0-1"


@pytest.mark.parametrize(
    ("tree", "asked", "size"),
    [
        (0, None, 1 << 30),
        (1 << 30, None, 3 << 29),
        (1 << 30, 3 << 30, 3 << 30),
        (0, (64 << 20) + 1, 65 << 20),
    ],
)
def test_the_size_of_a_root(tree: int, asked: int | None, size: int) -> None:
    assert recipe.size_for(tree, asked) == size


def test_a_root_that_is_too_small_is_refused_with_the_least() -> None:
    with pytest.raises(ConfigurationError, match="choose --size 1344M") as raised:
        recipe.size_for(1 << 30, 1 << 30)
    assert recipe.size_for(1 << 30, 1344 << 20) == 1344 << 20, str(raised.value)


@pytest.mark.parametrize("text", ["-1", "1.5", "now", "9" * 10, "²"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="SOURCE_DATE_EPOCH"):
        recipe.epoch(text)


def test_the_time_of_an_image() -> None:
    assert (recipe.epoch(""), recipe.epoch("1700000000")) == (recipe.EPOCH, 1_700_000_000)


@pytest.mark.parametrize("name", ["debian11", "bookworm", "", "a\nb"])
def test_another_release_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"choose debian12$"):
        recipe.check_release(name)


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("I: installing essential packages...", "installing essential packages"),
        ("I: running --customize-hook in shell: sh -c 'mkinitramfs -o x'", "making the initramfs"),
        ("I: running --customize-hook in shell: sh -c 'rm x'", ""),
        ("I: success in 84.7 seconds", ""),
        ("Get:1 x", ""),
    ],
)
def test_what_mmdebstrap_is_doing(line: str, stage: str) -> None:
    assert recipe.stage(line) == stage


def test_the_errors_of_a_program_are_its_reason() -> None:
    ends = ["E: setup failed: E: command failed: sh x\n", "I: cleaning up\n", "E: mmdebstrap failed to run\n"]
    lines = ["I: running\n", "E: Unable to locate package x\n", *ends]
    assert programs.problem(lines) == "Unable to locate package x"
    assert programs.problem(["x: no space\n", *ends]) == "x: no space; setup failed: E: command failed: sh x"
    assert programs.problem(["a\n", "\n", "b\n", "c\x1b\n", "d\n"]) == "b; c\\u001b; d"


def test_the_inodes_of_files() -> None:
    said = ["Inode count:              32", "  Free inodes: 14, 16-30", "Free inodes:              16"]
    assert list(filesystem.used(said)) == [2, 11, 12, 13, 15, 31, 32]
    assert list(filesystem.times([2], 7)) == [
        "set_inode_field <2> atime @7\n",
        "set_inode_field <2> ctime @7\n",
    ]
