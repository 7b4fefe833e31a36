"""What a service manager hears of `aoe-target run`."""

import fcntl
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from aoe.control.client import Client
from aoe.errors import AoeError
from aoe.node.status import ExportStatus, Status
from tests.node.manager import Manager
from tests.support.labs.peers import image
from tests.support.waiting import wait_for

FILE = """
[target]
links = ["udp:127.0.0.1:0"]
state-dir = "{directory}/state"
[[export]]
path = "{directory}/disk"
shelf = 1
slot = 0
"""
WATCHDOG_US = 400_000


def manager(directory: Path, **environment: str) -> Manager:
    """Of a daemon that serves a disk."""
    image(directory / "disk")
    (directory / "file.toml").write_text(FILE.format(directory=directory))
    words = ("run", "--config", directory / "file.toml", "--socket", directory / "control")
    command = [sys.executable, "-m", "aoe.cli.target", *map(str, words)]
    return Manager(command, directory, environment={**os.environ, **environment})


def append(directory: Path, name: str) -> None:
    """One more disk to the file of the daemon."""
    image(directory / name)
    with (directory / "file.toml").open("a") as file:
        file.write(f'[[export]]\npath = "{directory}/{name}"\nshelf = 1\nslot = 1\n')


def test_it_hears_that_it_is_ready_how_it_is_and_that_it_stops(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with manager(tmp_path) as one:
        one.start()
        assert one.said["STATUS"].startswith("1 serving; ")
        assert "STOPPING" not in one.said
        assert one.kill(signal.SIGTERM) == 0
        wait_for(lambda: one.said.get("STOPPING") == "1")
    assert "systemctl stop lets go of them" in capfd.readouterr().err


def test_a_watchdog_hears_it_until_it_hangs(tmp_path: Path) -> None:
    with manager(tmp_path, WATCHDOG_USEC=str(WATCHDOG_US)) as one:
        one.start()
        for _ in range(3):
            one.said.pop("WATCHDOG", None)
            wait_for(lambda: one.said.get("WATCHDOG") == "1")
        assert one.process is not None
        one.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: "T (stopped)" in Path(f"/proc/{one.process.pid}/status").read_text())
        one.hear()
        one.said.pop("WATCHDOG", None)
        with pytest.raises(AssertionError):
            wait_for(lambda: "WATCHDOG" in one.said, 3 * WATCHDOG_US / 1e6)
        one.process.send_signal(signal.SIGCONT)
        wait_for(lambda: one.said.get("WATCHDOG") == "1")


def test_what_it_changes_to_is_told(tmp_path: Path) -> None:
    with manager(tmp_path, WATCHDOG_USEC=str(WATCHDOG_US)) as one:
        one.start()
        append(tmp_path, "later")
        assert one.process is not None
        one.process.send_signal(signal.SIGHUP)
        wait_for(lambda: one.said["STATUS"].startswith("2 serving; "))


def test_what_it_is_asked_to_change_is_told_at_once(tmp_path: Path) -> None:
    """Also where no watchdog has it say from time to time how it is."""
    with manager(tmp_path) as one:
        one.start()
        with Client(tmp_path / "control") as client:
            client.ask("drain", addresses=["e1.0"])
            wait_for(lambda: one.said["STATUS"].startswith("1 draining: e1.0"))
            client.ask("resume", addresses=["e1.0"])
            wait_for(lambda: one.said["STATUS"].startswith("1 serving; "))
            append(tmp_path, "later")
            client.ask("apply")
            wait_for(lambda: one.said["STATUS"].startswith("2 serving; "))


def test_a_manager_that_hears_nothing_for_a_while_is_told_that_it_is_ready(tmp_path: Path) -> None:
    """As one that is busy with many services: else the start would end with an error."""
    with manager(tmp_path) as one:
        one.start(ready_s=None)
        with one.deaf():
            wait_for(lambda: serves(tmp_path))
            time.sleep(0.1)
            assert "READY" not in one.said
        wait_for(lambda: one.said.get("READY") == "1")


def serves(directory: Path) -> bool:
    with suppress(AoeError), Client(directory / "control") as client:
        return [it["state"] for it in client.ask("status")["exports"]] == ["serving"]
    return False


def test_a_word_for_another_process_is_no_watchdog(tmp_path: Path) -> None:
    with manager(tmp_path, WATCHDOG_USEC="100000", WATCHDOG_PID="1") as one:
        one.start()
        with pytest.raises(AssertionError):
            wait_for(lambda: "WATCHDOG" in one.said, 0.5)


def export(address: str, state: str, reason: str = "") -> ExportStatus:
    return ExportStatus(address, f"/{address}", state, reason)


@pytest.mark.parametrize(
    ("exports", "said"),
    [
        ((), "nothing to serve"),
        ((export("e1.0", "serving"), export("e1.1", "serving")), "2 serving"),
        (
            (export("e1.0", "serving"), export("e1.1", "waiting", "no such disk")),
            "1 serving, 1 waiting: e1.1 (no such disk)",
        ),
        ((export("e1.0", "draining"), export("e1.1", "failed", "sync")), "1 draining, 1 failed: e1.0"),
    ],
)
def test_the_status_is_one_line(exports: tuple[ExportStatus, ...], said: str) -> None:
    assert Status(1, "/f", "", exports, (), (), {}).sentence == f"{said}; change 1"


MORE = '[[export]]\npath = "{directory}/{name}"\nshelf = 1\nslot = {slot}\n'


def stores(one: Manager) -> list[str]:
    return [name for name in one.names() if name.startswith("aoe1-store-")]


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_its_disks_are_locked_also_while_it_is_gone_and_does_not_start(tmp_path: Path) -> None:
    with manager(tmp_path) as one:
        one.start()
        wait_for(lambda: len(stores(one)) == 1)
        held = one.names()
        for how in (signal.SIGKILL, signal.SIGTERM):
            one.kill(how)
            assert is_locked(tmp_path / "disk")
            file = (tmp_path / "file.toml").rename(tmp_path / "aside")
            one.start(ready_s=None)
            assert one.process is not None
            assert one.process.wait(30) == 2
            assert is_locked(tmp_path / "disk")
            file.rename(tmp_path / "file.toml")
            one.start()
            wait_for(lambda: stores(one) == [it for it in held if "-store-" in it])
        one.stop()
        wait_for(lambda: not is_locked(tmp_path / "disk"))


def test_what_no_export_has_any_more_is_let_go(tmp_path: Path) -> None:
    """One was removed, the path of another leads to another file, and one lock is of an unknown version."""
    with manager(tmp_path) as one:
        text = (tmp_path / "file.toml").read_text()
        for slot, name in enumerate(("removed", "replaced"), 1):
            image(tmp_path / name)
            text += MORE.format(directory=tmp_path, name=name, slot=slot)
        (tmp_path / "file.toml").write_text(text)
        one.start()
        wait_for(lambda: len(stores(one)) == 3)
        before = stores(one)
        one.kill()
        (tmp_path / "replaced").rename(tmp_path / "moved")
        image(tmp_path / "replaced")
        removed = MORE.format(directory=tmp_path, name="removed", slot=1)
        later = MORE.format(directory=tmp_path, name="later", slot=3)
        (tmp_path / "file.toml").write_text(text.replace(removed, later))
        image(tmp_path / "later")
        with (tmp_path / "later").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            one.hold("aoe9-store-x", file.fileno(), polled=False)
        one.start()
        assert one.said["STATUS"].startswith("3 serving; ")
        wait_for(lambda: len(stores(one)) == 3 and "aoe9-store-x" not in one.names())
        assert len(set(stores(one)) & set(before)) == 1
        wait_for(lambda: not is_locked(tmp_path / "removed"))
        wait_for(lambda: not is_locked(tmp_path / "moved"))
        assert all(is_locked(tmp_path / name) for name in ("disk", "replaced", "later"))
