"""The commands that ask a daemon: what they ask it for, what they print, how they end."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aoe.cli.target import main
from aoe.control.place import changes_of
from aoe.control.rights import Rights
from aoe.control.written import Written
from tests.control.asking import Running, served
from tests.control.fake_node import FakeNode, refused

MAC = "02:00:00:00:00:01"
FILE = """# our disks
[groups]
admins = ["02:00:00:00:00:09"]

[[export]]
# the first one
path = "/dev/md0"
shelf = 1
slot = 0
mask = ["02:00:00:00:00:01"]
"""


@pytest.fixture(autouse=True)
def changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where root's changes are written down."""
    monkeypatch.setattr("aoe.control.place.CHANGES", tmp_path / "changes")
    return tmp_path / "changes"


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(changes_of(os.geteuid(), tmp_path / "control"))


@pytest.fixture
def daemon(tmp_path: Path, written: Written) -> Iterator[Running]:
    with served(tmp_path / "control", FakeNode(), Rights(os.geteuid(), changes=str(written.path))) as running:
        yield running


def run(daemon: Running, *words: str) -> int:
    """A command."""
    command, *others = words
    return main([command, "--socket", str(daemon.path), *others])


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("add", "1.0", "/dev/sda", "read-only=true"), ("take_up", "add", "e1.0")),
        (("remove", "e1.0"), ("take_up", "remove", "e1.0")),
        (("set", "e1.0", "durability=write-back", "--unset", "mask"), ("take_up", "set", "e1.0")),
        (("mask", "e1.0", MAC), ("take_up", "set", "e1.0")),
        (("release", "1.0"), ("release", "e1.0")),
        (("reopen", "e1.0"), ("reopen", "e1.0")),
        (("drain", "1.0", "e1.1"), ("drain", "e1.0", "e1.1")),
        (("drain", "--all"), ("drain",)),
        (("resume", "e1.0"), ("resume", "e1.0")),
        (("resume", "--all"), ("resume",)),
        (("log-level", "debug"), ("log_level", "debug")),
    ],
    ids=lambda it: it[0] if isinstance(it, tuple) else "",
)
def test_each_command_asks_for_its_verb(
    daemon: Running, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], asked: tuple[str, ...]
) -> None:
    assert run(daemon, *words) == 0
    assert daemon.node.asked == [asked]
    assert capsys.readouterr().out == f"did {asked[0]}\n"


def test_what_is_written_down_is_what_the_file_would_have(
    daemon: Running, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(daemon, "add", "e2.0", "disk", "serial=123", "offset=8", "interfaces=eth0,eth1", "mask=any")
    run(daemon, "add", "e3.0", "UUID=12-34", "direct=false", "mask=admins")
    run(daemon, "set", "e2.0", f"mask={MAC},admins", "--unset", "serial", "--unset", "offset")
    run(daemon, "mask", "e3.0", "any")
    one, three, two, four = sorted(written.read(), key=lambda it: it.address)
    expected = {
        "path": str(tmp_path / "disk"),
        "serial": "123",
        "offset": 8,
        "interfaces": ["eth0", "eth1"],
        "mask": "any",
    }
    assert one.keys == expected
    assert two.keys == {"path": "UUID=12-34", "direct": False, "mask": ["admins"]}
    assert (three.keys, three.gone) == ({"mask": [MAC, "admins"]}, ("serial", "offset"))
    assert four.keys == {"mask": "any"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("add", "eth0", "/dev/sda"), "'eth0' is not an address; write it as e0.0"),
        (("add", "e1.0", "/dev/sda", "readonly=true"), "is read-only meant?"),
        (("add", "e1.0", "/dev/sda", "path=/dev/sdb"), "path is there twice"),
        (("add", "e1.0", "/dev/sda", "slot=3"), "slot is part of the address"),
        (("drain",), "drain needs addresses such as e0.0, or --all"),
        (("resume", "--all", "e1.0"), "resume needs addresses such as e0.0, or --all"),
        (("drain", "eth0"), "'eth0' is not an address; write it as e0.0"),
        (("drain", "e1.0", "--timeout", "-1"), "--timeout: '-1' is not a number of seconds from 0"),
        (("set", "e1.0"), "set needs KEY=VALUE or --unset KEY"),
        (("set", "e1.0", "mask"), "'mask' has no value; write mask=VALUE"),
        (("set", "e1.0", "mask=any", "mask=any"), "mask is there twice"),
        (("set", "e1.0", "mask=any", "--unset", "mask"), "mask is set and unset"),
        (("set", "e1.0", "--unset", "marsk"), "is mask meant?"),
        (("set", "e1.0", "mask=any", "--config", "/x"), "--config FILE is for --save"),
        (("log-level", "loud"), "invalid choice: 'loud'"),
    ],
)
def test_words_that_mean_nothing_are_told(
    daemon: Running, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert run(daemon, *words) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert not daemon.node.asked


def test_a_refusal_is_one_line_and_status_2(daemon: Running, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.node.error = refused("e1.0 is not\x1b[2J served\nhere")
    assert run(daemon, "release", "e1.0") == 2
    assert capsys.readouterr().err == "aoe-target: e1.0 is not\\u001b[2J served here\n"
    assert run(daemon, "release", "e1.0", "--json") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == "usage"


def test_without_a_daemon_the_status_is_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["status"], ["add", "e1.0", "/dev/sda"], ["reopen", "e1.0"]):
        command, *others = words
        assert main([command, "--socket", str(tmp_path / "none"), *others]) == 3
        said = capsys.readouterr().err
        assert "no daemon answers at" in said
        assert "start it with systemctl start aoe-target" in said
        assert said.count("\n") == 1


def test_json_is_what_the_daemon_said(daemon: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(daemon, "reopen", "e1.0", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"said": ["did reopen"], "exit": 0, "number": 1}


# The file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "aoe-target.toml"
    made.write_text(FILE)
    made.chmod(0o640)
    return made


def test_save_puts_it_into_the_file(daemon: Running, written: Written, file: Path) -> None:
    assert run(daemon, "set", "e1.0", "mask=any") == 0
    assert run(daemon, "set", "e1.0", "read-only=true", "--save", "--config", str(file)) == 0
    assert file.read_text() == FILE.replace(f'mask = ["{MAC}"]\n', 'mask = "any"\nread-only = true\n')
    assert file.stat().st_mode & 0o777 == 0o640
    assert [it.saved for it in written.read()] == [True, True]
    assert run(daemon, "add", "e2.0", "/dev/sdb", "--save", "--config", str(file)) == 0
    assert file.read_text().endswith('[[export]]\npath = "/dev/sdb"\nshelf = 2\nslot = 0\n')
    assert run(daemon, "remove", "e2.0", "--save", "--config", str(file)) == 0
    assert "/dev/sdb" not in file.read_text()
    assert file.read_text().startswith("# our disks\n")
    assert sorted(it.name for it in file.parent.glob("*aoe-target.toml*")) == ["aoe-target.toml"]


def test_a_link_to_the_file_stays_one(daemon: Running, file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    assert run(daemon, "mask", "e1.0", "any", "--save", "--config", str(tmp_path / "link")) == 0
    assert (tmp_path / "link").is_symlink()
    assert 'mask = "any"' in file.read_text()


@pytest.mark.parametrize("text", ["", "[[export", '[[export]]\npath="/x"\nshelf=1\nslot=1\n', None])
def test_a_file_that_cannot_take_it_is_as_it_was(
    daemon: Running, written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    file = tmp_path / "other.toml"
    if text is not None:
        file.write_text(text)
    assert run(daemon, "mask", "e1.0", "any", "--save", "--config", str(file)) == 1
    assert "the change is in force, but not in the file" in capsys.readouterr().err
    assert (file.read_text() if file.exists() else None) == text
    assert [it.saved for it in written.read()] == [False]


def test_what_the_daemon_refuses_is_not_saved(daemon: Running, written: Written, file: Path) -> None:
    daemon.node.error = refused("no")
    assert run(daemon, "mask", "e1.0", "any", "--save", "--config", str(file)) == 2
    assert file.read_text() == FILE
    assert written.read() == ()


# For other programs


def bridged(daemon: Running, text: bytes, *words: str) -> "subprocess.CompletedProcess[bytes]":
    """`aoe-target control` with that on its standard input."""
    command = [sys.executable, "-m", "aoe.cli.target", "control", "--socket", str(daemon.path), *words]
    changes = str(daemon.path.parent / "changes")
    code = f"import aoe.control.place as p, pathlib; p.CHANGES = pathlib.Path({changes!r}); "
    command[1:3] = ["-c", f"{code}from aoe.cli.target import main; raise SystemExit(main())"]
    return subprocess.run(command, input=text, capture_output=True, timeout=60, check=False)


def request(number: int, verb: str, **arguments: Any) -> bytes:
    return json.dumps({"version": 1, "id": number, "verb": verb, "arguments": arguments}).encode() + b"\n"


def test_the_bridge_answers_each_line(daemon: Running, written: Written) -> None:
    text = request(1, "status") + b"garbage\n\n" + request(2, "mask", address="e1.0", mask=[MAC])
    done = bridged(daemon, text + request(3, "frobnicate"))
    assert done.returncode == 0, done.stderr
    status, garbage, mask, unknown = map(json.loads, done.stdout.splitlines())
    assert (status["id"], status["ok"]["number"]) == (1, 7)
    assert garbage["error"]["kind"] == "message"
    assert mask["ok"]["said"] == ["did take_up"]
    assert unknown["error"]["kind"] == "verb"
    assert [it.keys for it in written.read()] == [{"mask": [MAC]}]


def test_the_bridge_tells_of_a_daemon_that_is_not_there(tmp_path: Path, daemon: Running) -> None:
    lost = Running(tmp_path / "none", daemon._loop, daemon.server, daemon.node)
    done = bridged(lost, request(1, "status"))
    assert done.returncode == 0
    assert json.loads(done.stdout)["error"]["exit"] == 3


def test_the_bridge_stops_at_a_line_without_an_end(daemon: Running) -> None:
    done = bridged(daemon, b"x" * 3_000_000)
    assert done.returncode == 2
    assert "longer than" in json.loads(done.stdout)["error"]["message"]


def test_apply_ends_what_stands_beside_the_file(
    daemon: Running, written: Written, capsys: pytest.CaptureFixture[str]
) -> None:
    run(daemon, "mask", "e1.0", "any")
    assert run(daemon, "apply", "--plan") == 0
    assert len(written.read()) == 1
    daemon.node.error = refused("the file is wrong")
    assert run(daemon, "apply") == 2
    assert len(written.read()) == 1
    daemon.node.error = None
    assert run(daemon, "apply") == 0
    assert written.read() == ()
    assert capsys.readouterr().out.count("did apply") == 2


def test_limits_are_set_by_their_options_as_by_their_keys(daemon: Running, written: Written) -> None:
    words = ("--limit-iops", "100", "--limit-client-bandwidth", "20M", "--limit-burst", "0.5")
    assert run(daemon, "set", "e1.0", "durability=write-back", *words) == 0
    assert written.read()[-1].keys == {
        "durability": "write-back",
        "limit-iops": 100,
        "limit-client-bandwidth": "20M",
        "limit-burst": 0.5,
    }
    assert run(daemon, "set", "e1.0", "limit-iops=100", "--limit-iops", "200") == 2


def test_save_puts_what_the_group_changed_into_the_file(
    daemon: Running, written: Written, tmp_path: Path
) -> None:
    file = tmp_path / "file.toml"
    file.write_text(FILE)
    common = {"verb": "set", "by": "uid 1001", "at": "2026-11-28T12:00:00Z", "gone": []}
    patches = [
        {**common, "address": "e1.0", "keys": {"limit-iops": 100}, "lent": True},
        {**common, "address": "e1.1", "keys": {"limit-iops": 200}, "lent": True},
        {**common, "address": "e1.0", "keys": {"durability": "write-back"}, "lent": False},
    ]
    daemon.node.said = {"number": 1, "exports": [], "patches": patches}
    assert run(daemon, "set", "e1.0", "--save", "--config", str(file)) == 0
    assert file.read_text() == FILE + "limit-iops = 100\n"
    assert [(it.by, it.saved) for it in written.read()] == [("uid 1001", True)]
    assert run(daemon, "set", "e1.0") == 2
