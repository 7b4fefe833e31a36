"""`serve` as root, on a host that has a user for it: an opener keeps the rights, what serves has none."""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aoe.cli import opening
from aoe.cli.serve import Words
from aoe.cli.target_parser import command_of
from aoe.node.opener_process import Forked
from aoe.wire.config import ConfigCommand
from tests.node.test_sandbox import launcher, told
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.served import Served, serving
from tests.support.tools import need_engine, need_namespaces, need_users
from tests.support.waiting import statuses, wait_for, wait_for_end

NOBODY = 65534
SERVICE = ("-m", "tests.node.as_service")


@pytest.fixture(autouse=True)
def root() -> None:
    need_users()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Where every user comes by; pytest's own is root's."""
    with tempfile.TemporaryDirectory(prefix="aoe-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Root's own."""
    path = image(tmp_path / "disk.img")
    path.chmod(0o600)
    return path


@pytest.fixture
def lab() -> Iterator[Lab]:
    need_namespaces()
    with Lab() as made:
        yield made


def children(pid: int) -> list[int]:
    return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def opener_of(target: Served) -> int:
    """Beside it there may be what has images served."""
    names = {pid: Path(f"/proc/{pid}/comm").read_text() for pid in children(target.process.pid)}
    assert set(names.values()) <= {"aoe-opener\n", "aoe-images\n"}
    (pid,) = (it for it, name in names.items() if name == "aoe-opener\n")
    return pid


def test_nothing_but_serving_can_be_done(disk: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with serving(disk, "--state-dir", state, launcher=launcher(state / "tried", "service")) as target:
        found = told(state / "tried")
        assert "bind a socket" in found
        assert {name: it for name, it in found.items() if it} == {}
        assert target.stop()[0] == 0


@pytest.mark.parametrize("engine", ["python", "c"])
def test_a_disk_of_roots_is_served_by_another_user(engine: str, lab: Lab, disk: Path, tmp_path: Path) -> None:
    if engine == "c":
        need_engine()
    words = (f"{disk}=7.0", "--engine", engine)
    with AoeTarget(lab, tmp_path, *words, launcher=SERVICE) as target, lab.client() as client:
        client.write(8, b"y" * 512, shelf=7, slot=0)
        assert client.read(8, shelf=7, slot=0) == b"y" * 512
        for fields in statuses(target.pid):
            assert fields["Uid"].split() == [str(NOBODY)] * 4
            assert (fields["CapEff"], fields["NoNewPrivs"], fields["Seccomp"]) == ("0" * 16, "1", "2")
            assert fields["Groups"] == ""
        second = AoeTarget(lab, tmp_path / "second", *words, launcher=SERVICE)
        (tmp_path / "second").mkdir()
        refused = second.launch()
        assert refused.wait(30) == 2
        assert "in use by" in refused.errors
        disk.rename(disk.with_name("moved"))
        target.says(f"{disk} was renamed")
        lab.down(lab.cables[0].a)
        target.says("is down")
        lab.up(lab.cables[0].a)
        target.says("is there again")
        assert client.read(8, shelf=7, slot=0) == b"y" * 512
    assert (disk.with_name("moved")).read_bytes()[8 * 512 : 9 * 512] == b"y" * 512


def test_the_opener_keeps_the_rights_to_open_and_no_others(disk: Path, tmp_path: Path) -> None:
    with serving(disk, "--state-dir", tmp_path / "s", launcher=SERVICE) as target:
        text = Path(f"/proc/{opener_of(target)}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in text.splitlines())
        kept = sum(1 << number for number in (1, 2, 10, 12, 13))  # see capabilities(7)
        for name in ("CapPrm", "CapEff", "CapBnd"):
            assert int(fields[name], 16) & ~kept == 0, name
        assert int(fields["CapAmb"], 16) == int(fields["CapInh"], 16) == 0
        assert fields["NoNewPrivs"] == "1"
        assert target.stop()[0] == 0


def test_what_root_kept_is_gone_on_with(disk: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    words = (f"{disk}=0.0,serial=ONE", "--state-dir", state)
    with serving(*words) as target, target.client() as client:
        client.config(ConfigCommand.FORCE_SET, b"kept")
        assert target.stop()[0] == 0
    for _ in range(2):
        with serving(*words, launcher=SERVICE) as target, target.client() as client:
            assert client.config().text == b"kept"
            assert target.stop()[0] == 0
    assert (state / "ONE.json").stat().st_uid == NOBODY


def test_the_state_stays_where_root_kept_it(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a directory that was looked for again as the other user."""
    seen: list[Path] = []
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(opening, "hand_over", lambda directory, _: seen.append(directory))
    monkeypatch.setattr(opening, "confine", lambda directory, _: seen.append(directory))
    monkeypatch.setattr(
        opening, "drop_privileges", lambda _: monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    )
    said = command_of(["serve", str(disk)])
    assert isinstance(said, Words)
    ours, its = socket.socketpair()
    with ours, its:
        opening.Apart(said.meaning(), pwd.getpwuid(NOBODY), Forked(ours, 0)).confine()
    assert seen == [Path("/var/lib/aoe-target")] * 2


def test_an_opener_that_is_killed_is_said_once_and_serving_goes_on(disk: Path, tmp_path: Path) -> None:
    with serving(disk, "--state-dir", tmp_path / "s", launcher=SERVICE) as target, target.client() as client:
        opener = opener_of(target)
        os.kill(opener, signal.SIGKILL)
        wait_for_end(opener)
        client.write(0, b"z" * 512)
        assert client.read(0)[:512] == b"z" * 512
        target.tell(signal.SIGUSR1)
        assert json.loads(target.line())["event"] == "counters"
        status, _, errors = target.stop()
        assert status == 0
        (line,) = errors.splitlines()
        assert line.startswith("aoe-target: the opener has ended: what is open is served on")


def test_it_is_said_where_there_is_no_user_to_become(disk: Path, tmp_path: Path) -> None:
    with serving(disk, "--state-dir", tmp_path / "s", "--verbose", launcher=(*SERVICE, "unknown")) as target:
        assert children(target.process.pid) == []
        assert "there is no user aoe-target: the process stays user 0" in target.stop()[2]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_opener_ends_with_what_it_opened_for(how: int, disk: Path, tmp_path: Path) -> None:
    with serving(disk, "--state-dir", tmp_path / "s", launcher=SERVICE) as target:
        opener = opener_of(target)
        target.tell(how)
        target.process.wait(30)
        wait_for(lambda: not Path(f"/proc/{opener}").exists(), what="it stays")
        with serving(disk, "--state-dir", tmp_path / "s", launcher=SERVICE) as again:
            assert again.stop()[0] == 0


@pytest.mark.parametrize("wrong", ["missing", "directory", "busy"])
def test_what_cannot_be_opened_is_said_as_without_an_opener(wrong: str, disk: Path, tmp_path: Path) -> None:
    path = {"missing": tmp_path / "none", "directory": tmp_path, "busy": disk}[wrong]
    with serving(disk, "--state-dir", tmp_path / "s"), ThreadPoolExecutor(2) as pool:
        ways = (("-m", "aoe.cli.target"), SERVICE)
        waiting = [pool.submit(ended, how, path, tmp_path / str(at)) for at, how in enumerate(ways)]
        one, other = (it.result() for it in waiting)
    assert one == other
    assert str(path) in one


def ended(how: tuple[str, ...], path: Path, work: Path) -> str:
    words = [sys.executable, *how, "serve", "--engine", "python", str(path), "--state-dir", str(work / "t")]
    done = subprocess.run(
        [*words, "--link", "udp:127.0.0.1:0"], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    return line
