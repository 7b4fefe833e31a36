"""`aoe-target --json`: what goes wrong is an object, as with `aoe --json`."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.labs.served import serving

SERVE = ("serve", "--json")


def run(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "aoe.cli.target", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def failure(status: int, *words: str | Path) -> dict[str, Any]:
    """The one object that is said, and nothing else."""
    done = run(*words)
    assert (done.returncode, done.stderr) == (status, "")
    said = json.loads(done.stdout)
    assert set(said) == {"error"}
    return dict(said["error"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*SERVE, "--bogus", "x"), "--bogus"),
        ((*SERVE, "/no/such/file", "--link", "udp:127.0.0.1:0"), "/no/such/file"),
        ((*SERVE, "disk", "--direct", "--buffered", "--link", "udp:127.0.0.1:0"), "exclude each other"),
        ((*SERVE, "disk", "--copy-of", "two words", "--link", "udp:127.0.0.1:0"), "is no id of an image"),
        ((*SERVE, "disk", "--key-file", "disk", "--link", "udp:127.0.0.1:0"), "and none is served"),
        ((*SERVE, "disk", "--mask", "ff:ff:ff:ff:ff:ff", "--link", "udp:127.0.0.1:0"), "group address"),
        ((*SERVE, "disk", "--interface", "nope9"), "nope9"),
        (("state", "--json", "--state-dir", "/no/such/directory"), "/no/such/directory"),
        (("--json",), "command"),
        (("nonsense", "--json"), "nonsense"),
    ],
)
def test_a_mistake_is_an_object(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    error = failure(2, *(disk if word == "disk" else word for word in words))
    assert (error["kind"], message in error["message"]) == ("usage", True), error
    assert set(error) == {"kind", "message"}


def test_state_that_cannot_be_kept_is_an_object(tmp_path: Path) -> None:
    disk, state = tmp_path / "disk", tmp_path / "state"
    disk.write_bytes(bytes(4096))
    state.write_text("a file is in the way")
    error = failure(2, *SERVE, disk, "--link", "udp:127.0.0.1:0", "--state-dir", state)
    assert str(state) in error["message"]


def test_damaged_records_are_objects_beside_those_that_are_whole(tmp_path: Path) -> None:
    disk, state = tmp_path / "disk", tmp_path / "s"
    disk.write_bytes(bytes(1 << 20))
    with serving(disk, "--state-dir", state):
        pass
    (state / "BAD.json").write_text("{")
    os.mkfifo(state / "FIFO.json")
    done = run("state", "--json", "--state-dir", state)
    assert (done.returncode, done.stderr) == (1, "")
    whole, *damaged = map(json.loads, done.stdout.splitlines())
    assert whole["path"] == str(disk)
    assert [name in it["error"]["message"] for name, it in zip(("BAD", "FIFO"), damaged, strict=True)] == [
        True,
        True,
    ]


def test_without_it_errors_stay_lines(tmp_path: Path) -> None:
    done = run("serve", tmp_path / "nothing", "--link", "udp:127.0.0.1:0")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("aoe-target: ")


def test_an_abbreviated_word_counts_as_the_whole(tmp_path: Path) -> None:
    error = failure(2, "serve", "--jso", tmp_path / "nothing", "--link", "udp:127.0.0.1:0")
    assert str(tmp_path / "nothing") in error["message"]
