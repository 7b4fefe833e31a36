"""`aoe-target state`: what is remembered, and what may be forgotten."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aoe.errors import ConfigurationError
from aoe.target.keys import StoreKey
from aoe.target.records import Record, StateStore
from aoe.target.state import AoeState
from tests.support.labs.served import serving

ONE = bytes.fromhex("020000000001")


def remember(directory: Path, serial: str, path: str, state: AoeState | None = None) -> Record:
    record = StateStore(directory).record(serial, StoreKey(path=path))
    record.open("e7.3")
    record.save(state or AoeState())
    return record


def state(directory: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "aoe.cli.target", "state", "--state-dir", str(directory), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def listed(directory: Path, *words: str) -> list[dict[str, Any]]:
    done = state(directory, *words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def left(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()}


def test_what_is_remembered_is_listed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(512))
    directory = tmp_path / "s"
    remember(directory, "B", str(disk), AoeState(b"rack\xff", (ONE,), (ONE,))).close()
    remember(directory, "A", "/gone").close()
    gone, there = listed(directory)
    assert gone == {
        "serial": "A",
        "path": "/gone",
        "present": False,
        "addresses": ["e7.3"],
        "config": "",
        "mask": [],
        "reserve": [],
        "fate": "",
    }
    assert (there["path"], there["present"], there["config"]) == (str(disk), True, "rack\\xff")
    assert there["mask"] == there["reserve"] == ["02:00:00:00:00:01"]
    text = state(directory).stdout.splitlines()
    assert text[0] == "serial A, /gone, not there, last at e7.3"
    assert text[1].startswith(f"serial B, {disk}, there, last at e7.3, mask 02:00:00:00:00:01, reserved for")
    assert left(directory) == {"A.json", "A.lock", "B.json", "B.lock"}


def test_only_what_is_not_there_is_forgotten(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(512))
    directory = tmp_path / "s"
    remember(directory, "THERE", str(disk)).close()
    remember(directory, "GONE", str(tmp_path / "gone"), AoeState(b"text")).close()
    remember(directory, "ABOVE", str(disk / "in a file")).close()
    remember(directory, "MASKED", "/gone", AoeState(mask=(ONE,))).close()
    remember(directory, "HELD", "/gone", AoeState(reserve=(ONE,))).close()
    used = remember(directory, "USED", "/gone")
    (directory / "GONE.new").write_text("left behind")
    fates = {facts["serial"]: facts["fate"] for facts in listed(directory, "--prune")}
    assert fates == {
        "THERE": "",
        "GONE": "forgotten",
        "ABOVE": "forgotten",
        "MASKED": "kept: its lists of hosts would be forgotten",
        "HELD": "kept: its lists of hosts would be forgotten",
        "USED": "kept: it is in use",
    }
    used.close()
    kept = {"THERE", "MASKED", "HELD", "USED"}
    assert left(directory) == {f"{name}.{suffix}" for name in kept for suffix in ("json", "lock")}


@pytest.mark.parametrize("part", ["", "@8+16", "@8+", "@0+16"])
@pytest.mark.parametrize("name", ["disk", "disk@4+4"])
def test_a_record_of_old_of_a_disk_that_is_there_is_not_forgotten(
    tmp_path: Path, name: str, part: str
) -> None:
    """Version 1 wrote the part behind the path: no file has such a name, or another one."""
    directory, disk = tmp_path / "s", tmp_path / name
    disk.write_bytes(bytes(512))
    directory.mkdir()
    old = {"addresses": [], "config": "", "mask": [], "reserve": []}
    for serial, path in (("THERE", str(disk)), ("GONE", str(tmp_path / "other"))):
        (directory / f"{serial}.json").write_text(json.dumps({**old, "serial": serial, "path": path + part}))
    fates = {facts["serial"]: (facts["present"], facts["fate"]) for facts in listed(directory, "--prune")}
    assert fates == {"THERE": (True, ""), "GONE": (False, "forgotten")}


def test_a_disk_that_is_served_is_not_forgotten_though_its_file_was_removed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    with serving(disk, "--state-dir", tmp_path / "s") as target:
        disk.unlink()
        (facts,) = listed(tmp_path / "s", "--prune")
        assert (facts["serial"], facts["fate"]) == (target.facts["serial"], "kept: it is in use")


def test_what_cannot_be_looked_at_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = remember(tmp_path / "s", "A", "/somewhere")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    assert not record.is_of_nothing


def test_damage_is_a_line_and_status_1_beside_the_rest(tmp_path: Path) -> None:
    remember(tmp_path, "A", "/gone").close()
    (tmp_path / "BAD.json").write_text("{")
    os.mkfifo(tmp_path / "FIFO.json")
    done = state(tmp_path)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    assert [name in line for name, line in zip(("BAD", "FIFO"), done.stderr.splitlines(), strict=True)]
    assert {"BAD.json", "FIFO.json"} <= left(tmp_path)


def test_an_empty_directory_is_an_empty_list(tmp_path: Path) -> None:
    assert listed(tmp_path, "--prune") == []


def test_a_record_that_is_forgotten_as_another_takes_it_has_one_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock that it opened is then of a file that is gone."""
    key = StoreKey(path="/gone")
    remember(tmp_path, "A", "/gone").close()
    flock, fates = fcntl.flock, []

    def late(fd: int, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        fates.append(Record(tmp_path, "A", key).forget())
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    mine = Record(tmp_path, "A", key)
    mine.open("e0.0")
    assert fates == [""]
    with pytest.raises(ConfigurationError, match="in use"):
        Record(tmp_path, "A", key).open("e0.1")
    assert Record(tmp_path, "A", key).forget() == "it is in use"
    mine.close()


@pytest.mark.parametrize("name", ["typo", "file", "file/below", "dangling"])
def test_where_no_state_can_be_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    done = state(tmp_path / name)
    assert (done.returncode, done.stdout) == (2, "")
    said = "is not a directory; name the --state-dir of the target"
    assert done.stderr == f"aoe-target: {tmp_path / name} {said}\n"


def test_a_path_with_line_breaks_is_one_line(tmp_path: Path) -> None:
    remember(tmp_path / "s", "A", "/two\nlines, there").close()
    done = state(tmp_path / "s")
    assert done.stdout == "serial A, /two\\u000alines, there, not there, last at e7.3\n"
