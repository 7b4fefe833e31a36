"""A service is killed with a write under way in its disk, which lands after the next one has begun."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.net.one_write import LENGTH
from tests.net.service import export
from tests.node.manager import Manager
from tests.support.labs.fault_disk import loop_device
from tests.support.labs.network import Lab
from tests.support.labs.recorded import RecordedDisk
from tests.support.waiting import wait_for

ENGINES = ("c",)
"""A process that writes in Python ends with its write."""
SERVE = ("-m", "aoe.cli.target")
SERVE_BLINDLY = (
    "-c",
    "import sys; from aoe.disk.locks import LifeLock; from aoe.cli.target import main\n"
    "LifeLock.is_free = LifeLock.take = lambda self: True\n"
    "sys.exit(main())",
)
"""What says whether an earlier process can still write is out of order."""


@contextmanager
def store(kind: str, disk: RecordedDisk) -> Iterator[Path]:
    """A file, or a device that hands all on to it at once."""
    if kind == "file":
        yield disk.path
        return
    with loop_device(disk.path, direct=True) as device:
        yield device


def service(lab: Lab, work: Path, disk: Path, program: tuple[str, ...]) -> Manager:
    head = f'[target]\ninterfaces = ["v0"]\nstate-dir = "{work}/state"\nengine = "c"\n'
    exports = [export(disk, "1.0", direct=True), export(work / "other", "1.1")]
    (work / "target.toml").write_text(head + "".join(exports))
    words = ["run", "--config", work / "target.toml", "--socket", work / "control"]
    return Manager(lab.command("target", sys.executable, *program, *words), work)


@contextmanager
def writing(lab: Lab, text: str) -> Iterator[subprocess.Popen[str]]:
    command = lab.command("client", sys.executable, "-m", "tests.net.one_write", text)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        try:
            yield client
        finally:
            client.kill()


def says(client: subprocess.Popen[str]) -> str:
    assert client.stdout is not None
    return client.stdout.readline().strip()


def stands(disk: RecordedDisk) -> str:
    with disk.store.open("rb") as file:
        return file.read(LENGTH).decode().rstrip(".\0")


@contextmanager
def killed(lab: Lab, manager: Manager, disk: RecordedDisk) -> Iterator[None]:
    """By signal 9, with a write under way in its disk, as the host is that wrote; then it starts again."""
    manager.start()
    disk.hold_next_write()
    with writing(lab, "older") as client:
        assert says(client) == "attached"
        wait_for(disk.holds_write, what="the write does not come to the disk")
        manager.kill(signal.SIGKILL)
    try:
        manager.start()
        yield
    finally:
        disk.let_write_go()


@pytest.mark.parametrize("kind", ["file", "loop"])
def test_no_older_write_lands_over_a_newer_one(lab: Lab, tmp_path: Path, kind: str) -> None:
    with (
        RecordedDisk(tmp_path / "fuse") as disk,
        store(kind, disk) as path,
        service(lab, tmp_path, path, SERVE) as manager,
    ):
        with killed(lab, manager, disk), writing(lab, "newer") as client:
            said = manager.said["STATUS"]
            assert said.startswith(f"1 serving, 1 waiting: e1.0 (writes of an earlier process to {path} have")
            time.sleep(0.5)
            assert stands(disk) == ""
            disk.let_write_go()
            assert [says(client), says(client)] == ["attached", "done"]
        assert stands(disk) == "newer"
        manager.kill(signal.SIGTERM)
        assert stands(disk) == "newer"


@pytest.mark.parametrize("kind", ["file", "loop"])
def test_without_the_lock_of_its_life_it_does(lab: Lab, tmp_path: Path, kind: str) -> None:
    """So what the other test sees is the lock's doing."""
    with (
        RecordedDisk(tmp_path / "fuse") as disk,
        store(kind, disk) as path,
        service(lab, tmp_path, path, SERVE_BLINDLY) as manager,
    ):
        with killed(lab, manager, disk), writing(lab, "newer") as client:
            assert manager.said["STATUS"].startswith("2 serving")
            assert [says(client), says(client)] == ["attached", "done"]
            assert disk.holds_write()
            assert stands(disk) == "newer"
        wait_for(lambda: stands(disk) == "older", what="the older write never lands")
