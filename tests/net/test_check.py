"""`aoe-target check` on a host with interfaces of several names, and with a target that serves."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aoe.link.naming import all_known, called
from tests.support.labs.network import Lab, in_namespace
from tests.support.labs.peers import AoeTarget, image
from tests.support.tools import need_namespaces

ENGINES = ("c",)
LONG = "a-name-that-no-ioctl-takes"


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Two cables; the first interface has two names more."""
    need_namespaces()
    with Lab(mtu=9000) as made:
        made.cable("target", "client")
        for name in (LONG, "enp7s0"):
            command = made.command("target", "ip", "link", "property", "add", "dev", "v0", "altname", name)
            subprocess.run(command, check=True)
        yield made


def check(lab: Lab, directory: Path, text: str) -> tuple[int, list[dict[str, Any]]]:
    file = directory / "f.toml"
    file.write_text(text)
    command = lab.command("target", sys.executable, "-m", "aoe.cli.target", "check", str(file), "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("v0", ["v0"]),
        (LONG, ["v0"]),
        ("enp7*", ["v0"]),
        ("v*", ["v0", "v1"]),
        ("*", ["v0", "v1"]),
        ("MAC", ["v1"]),
        ("v7", []),
    ],
)
def test_an_interface_by_any_name(lab: Lab, word: str, names: list[str], tmp_path: Path) -> None:
    word = lab.cables[1].a.mac.hex(":") if word == "MAC" else word
    known = in_namespace(lab.namespace("target"), all_known)
    assert sorted(called(word, known)) == names
    status, lines = check(lab, tmp_path, f'[target]\ninterfaces = ["{word}"]\n')
    assert status == (0 if names else 1)
    assert sorted(it["interface"] for it in lines if it.get("usable")) == names


def test_an_interface_that_is_down(lab: Lab, tmp_path: Path) -> None:
    lab.down(lab.cables[0].a)
    status, lines = check(lab, tmp_path, '[target]\ninterfaces = ["v*"]\n')
    assert status == 1
    said = {it["interface"]: it.get("error", {}).get("message") for it in lines if "interface" in it}
    assert said == {"v0": "interface v0 is down, or has no carrier; ip link set v0 up", "v1": None}


def test_the_file_of_a_target_that_serves(lab: Lab, tmp_path: Path) -> None:
    """One that is no command of that name: it is said which process has the store."""
    disk = image(tmp_path / "disk", 2048)
    text = f'[target]\ninterfaces = ["v0"]\n[[export]]\npath = "{disk}"\nshelf = 1\nslot = 0\n'
    with AoeTarget(lab, tmp_path, f"{disk}=1.0", interfaces=("v0",)):
        status, lines = check(lab, tmp_path, text)
    assert (status, lines[1]["usable"]) == (1, False)
    assert f"e1.0: {disk} is in use by python" in lines[1]["error"]["message"]
    assert check(lab, tmp_path, text)[0] == 0
