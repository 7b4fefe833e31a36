"""`aoe nbd --attach` and its supervisor, without a kernel that has NBD devices (tests/vm/test_door.py)."""

import asyncio
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from aoe.cli.nbd import Nbd, Status
from aoe.errors import ConfigurationError
from aoe.nbd import nbdkit
from aoe.nbd.nbdkit import DOOR, Plan, command_line
from tests.nbd.test_options import command_of
from tests.support.labs.nbdkit import need_nbdkit
from tests.support.tools import unavailable


def door(*words: str) -> "subprocess.CompletedProcess[str]":
    if not DOOR.exists():
        unavailable("aoe-door is not built")
    return subprocess.run([DOOR, *words], capture_output=True, text=True, timeout=60, check=False)


def test_a_device_has_a_place_for_its_status() -> None:
    made: Any = command_of(["nbd", "e0.0", "--attach", "/dev/nbd3"])
    asked: Any = command_of(["nbd", "--status", "/dev/nbd3"])
    assert isinstance(made, Nbd)
    assert isinstance(asked, Status)
    assert (made.device, made.path) == ("/dev/nbd3", asked.path)
    named: Any = command_of(["nbd", "e0.0", "--attach", "/dev/nbd3", "--socket", "s"])
    assert (named.device, named.path) == ("/dev/nbd3", Path("s"))


@pytest.mark.parametrize(
    "device", ["/dev/sda", "nbd0", "/dev/nbd", "/dev/nbd0p1", "/dev/nbd0\n", "/dev/nbd12345"]
)
def test_what_is_no_such_device(device: str) -> None:
    with pytest.raises(ConfigurationError, match="write /dev/nbd0"):
        command_of(["nbd", "e0.0", "--attach", device])


def test_a_status_is_of_no_device_that_is_to_be_attached() -> None:
    with pytest.raises(ConfigurationError, match="--attach"):
        command_of(["nbd", "--status", "/dev/nbd0", "--attach", "/dev/nbd1"])


def test_how_the_supervisor_is_called() -> None:
    need_nbdkit()
    plan = Plan(Path("s"), ["e0.0"], ["lo"], device="/dev/nbd1", threads=3)
    first, *words = command_line(plan)
    assert first == str(DOOR)
    assert words[:2] == ["--foreground", "/dev/nbd1"]
    assert Path(words[2]).name == "nbdkit"
    assert "--threads=3" in words
    assert not [it for it in words if it.startswith(("--unix", "--exit"))]


def test_one_that_is_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    need_nbdkit()
    monkeypatch.setattr(nbdkit, "DOOR", tmp_path / "none")
    with pytest.raises(ConfigurationError, match="apt-get install gcc"):
        command_line(Plan(Path("s"), ["e0.0"], ["lo"], device="/dev/nbd1"))


@pytest.mark.parametrize(("told", "is_there"), [(b"x", True), (b"", False)])
def test_that_the_device_is_there_is_told_by_a_byte(told: bytes, is_there: bool) -> None:
    ready, says = os.pipe()
    os.write(says, told)
    os.close(says)
    assert asyncio.run(nbdkit._is_attached(ready)) is is_there
    os.close(ready)


def test_what_waits_for_a_device_may_be_cancelled() -> None:
    """No thread waits on."""

    async def run() -> None:
        waits = asyncio.ensure_future(nbdkit._is_attached(ready))
        await asyncio.sleep(0)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits

    ready, says = os.pipe()
    late = threading.Timer(30, os.close, [says])
    late.start()
    asyncio.run(run())
    assert late.is_alive(), "it has waited for that"
    late.cancel()
    os.close(says)
    os.close(ready)


def test_the_supervisor_says_how_it_is_called() -> None:
    said = door("--help")
    assert said.returncode == 0
    assert {"--foreground", "--root", "--kernel-log"} <= set(said.stdout.replace(",", " ").split())


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["/dev/nbd0"],
        ["/dev/nbd0", "/nbdkit"],
        ["/dev/nbd0", "nbdkit", "null"],
        ["/dev/sda", "/nbdkit", "null"],
        ["/dev/nbd0x", "/nbdkit", "null"],
        ["--block", "1000", "/dev/nbd0", "/nbdkit", "null"],
        ["--block", "8192", "/dev/nbd0", "/nbdkit", "null"],
        ["--max-kib", "-1", "/dev/nbd0", "/nbdkit", "null"],
        ["--io-timeout", "1x", "/dev/nbd0", "/nbdkit", "null"],
        ["--nonsense", "/dev/nbd0", "/nbdkit", "null"],
    ],
)
def test_wrong_words_are_named(words: list[str]) -> None:
    said = door(*words)
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert said.stdout == ""


def test_a_device_that_is_not_there() -> None:
    """Nothing was started, and the reason is one line."""
    said = door("--foreground", "/dev/nbd4095", "/bin/false", "x")
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].startswith("aoe-door: ")
