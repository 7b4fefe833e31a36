"""`aoe nbd` over UDP, and what it says where it cannot begin."""

import os
import random
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from aoe.errors import ConfigurationError
from aoe.nbd import nbdkit
from aoe.nbd.nbdkit import Plan, command_line
from tests.cli.test_stdio import AOE, BAD, CLOSED, FULL, Running, redirected, stuffed_pipe
from tests.support.labs.nbd_client import NbdClient, NbdError
from tests.support.labs.nbdkit import Door, need_nbdkit
from tests.support.labs.served import SECTORS, serving
from tests.support.tools import which
from tests.support.waiting import wait_for

LINK = "udp:127.0.0.1:0,peer=127.0.0.1:7000"


def test_a_disk_over_udp(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(random.Random(1).randbytes(SECTORS * 512))
    with serving(f"{disk}=1.2", "--state-dir", tmp_path / "state") as target:
        host, port = target.remote
        link = f"udp:localhost:0,peer={host}:{port},mtu=9000"
        with Door(None, tmp_path, "e1.2", "--link", link) as served, served.connect() as client:
            assert client.read(1, 70000) == disk.read_bytes()[1:70001]
            client.write(3, b"odd")
            assert disk.read_bytes()[3:6] == b"odd"
            assert served.stop() == 0


def test_a_disk_that_takes_no_writes_is_said(image: Path, tmp_path: Path) -> None:
    with serving(f"{image}=1.2", "--read-only", "--state-dir", tmp_path / "state") as target:
        host, port = target.remote
        link = f"udp:localhost:0,peer={host}:{port},mtu=9000"
        with Door(None, tmp_path, "e1.2", "--link", link) as served, served.connect() as client:
            with pytest.raises(NbdError):
                client.write(4096, bytes(512))
            served.says("failed at byte 4096", "the disk is read-only at its server", "overlay=tmpfs")


def test_two_disks_at_one_address_are_not_taken_for_one(tmp_path: Path) -> None:
    """The console of a machine without a disk shows what nbdkit says of it."""
    need_nbdkit()
    with ExitStack() as stack:
        peers = ""
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
            disk = tmp_path / name / "disk.img"
            disk.write_bytes(os.urandom(SECTORS * 512))
            there = stack.enter_context(serving(f"{disk}=1.2", "--state-dir", disk.with_name("state")))
            peers += ",peer={}:{}".format(*there.remote)
        words = [str(nbdkit.PLUGIN), "address=e1.2", f"link=udp:127.0.0.1:0{peers},mtu=9000"]
        command = [which("nbdkit") or "", "--foreground", f"--unix={tmp_path / 'nbd'}", *words]
        door = stack.enter_context(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        stack.callback(door.kill)
        assert door.stderr is not None
        said = next(line for line in iter(door.stderr.readline, "") if "refused" in line)
        assert said.startswith("nbdkit: error: e1.2 at ")
        assert "refused: another disk: its serial differs; if it is the same, give both servers" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nbdkit": None}, "apt-get install nbdkit"),
        ({"plugin": Path("/nonexistent")}, "apt-get install gcc nbdkit-plugin-dev"),
        ({"links": ["udp:127.0.0.1:0"]}, "names no peer"),
        ({"links": ["udp:127.0.0.1:0,peer=1"]}, "udp:ADDRESS:PORT"),
    ],
)
def test_what_is_missing_is_told(
    change: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    need_nbdkit()
    if "nbdkit" in change:
        monkeypatch.setattr(nbdkit.shutil, "which", lambda *_, **__: None)
    if "plugin" in change:
        monkeypatch.setattr(nbdkit, "PLUGIN", change["plugin"])
    with pytest.raises(ConfigurationError, match=said):
        command_line(Plan(tmp_path / "s", ["e1.1"], links=change.get("links", [LINK])))  # type: ignore[arg-type]


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    need_nbdkit()
    there = tmp_path / "nbd"
    there.write_text("mine")
    started = Door(None, tmp_path, "e1.1", "--link", LINK).launch()
    assert started.process.wait(30) == 2
    assert "exists and is not a socket" in started.errors
    assert there.read_text() == "mine"


# Whatever its standard streams are


class Quiet:
    """`aoe nbd` that says nothing to the test; its target serves by then."""

    def __init__(self, target: Running, work: Path, how: str = "", **options: Any) -> None:
        need_nbdkit()
        assert target.is_served()
        self.path = work / "nbd"
        host, port = target.remote
        words = [
            "nbd",
            "e0.0",
            "--link",
            f"udp:127.0.0.1:0,peer={host}:{port},mtu=9000",
            "--socket",
            self.path,
        ]
        self.process = subprocess.Popen(redirected([*AOE, *words], how), **options)

    def connect(self) -> NbdClient:
        wait_for(self._listens)
        return NbdClient(self.path)

    def _listens(self) -> bool:
        assert self.process.poll() is None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return not probe.connect_ex(str(self.path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with self.process:
            pass


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(1).randbytes(SECTORS * 512))
    return path


@pytest.mark.parametrize("how", [*CLOSED, *FULL])
def test_a_door_serves_whatever_its_streams_are(image: Path, tmp_path: Path, how: str) -> None:
    with Running(image) as target, Quiet(target, tmp_path, how) as served:
        with served.connect() as client:
            assert client.read(1, 5000) == image.read_bytes()[1:5001]
        served.process.terminate()
        assert served.process.wait(30) == 0


def test_a_door_needs_no_path_to_nbdkit(image: Path, tmp_path: Path) -> None:
    bare = {"env": os.environ | {"PATH": ""}, "executable": "/bin/sh"}
    with (
        Running(image) as target,
        Quiet(target, tmp_path, **bare) as served,
        served.connect() as client,
    ):
        assert client.read(0, 512) == image.read_bytes()[:512]


def failing_reads(client: NbdClient, count: int) -> None:
    for _ in range(count):
        with pytest.raises(NbdError):
            client.read(4096, 512)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_door_whose_errors_nobody_reads_goes_on(image: Path, tmp_path: Path, stream: str) -> None:
    read, write = stuffed_pipe()
    with (
        Running(image, launcher=(sys.executable, "-c", BAD)) as target,
        Quiet(target, tmp_path, **{stream: write}) as served,
        served.connect() as client,
    ):
        failing_reads(client, 2000)
        assert client.read(0, 512) == image.read_bytes()[:512]
        served.process.terminate()
        assert served.process.wait(30) == 0
    os.close(read)
    os.close(write)


def test_errors_of_one_kind_are_two_lines(image: Path, tmp_path: Path) -> None:
    with (
        Running(image, launcher=(sys.executable, "-c", BAD)) as target,
        Quiet(target, tmp_path, stderr=subprocess.PIPE) as served,
    ):
        with served.connect() as client:
            failing_reads(client, 100)
        served.process.terminate()
        assert served.process.wait(30) == 0
        assert served.process.stderr is not None
        lines = served.process.stderr.read().decode().splitlines()
    failed = [line for line in lines if "failed at byte 4096" in line]
    assert len(failed) == 2
    assert failed[1].endswith("(and 98 more like it)")
