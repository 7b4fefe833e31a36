"""What a service manager hears of `aoe-target run`."""

import os
import signal
import sys
from pathlib import Path

import pytest

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


def test_it_hears_that_it_is_ready_how_it_is_and_that_it_stops(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with manager(tmp_path) as one:
        one.start()
        assert one.said["STATUS"].startswith("1 serving; ")
        assert "STOPPING" not in one.said
        assert one.kill(signal.SIGTERM) == 0
        wait_for(lambda: one.said.get("STOPPING") == "1", 5)
    assert "systemctl stop lets go of them" in capfd.readouterr().err


def test_a_watchdog_hears_it_until_it_hangs(tmp_path: Path) -> None:
    with manager(tmp_path, WATCHDOG_USEC=str(WATCHDOG_US)) as one:
        one.start()
        for _ in range(3):
            one.said.pop("WATCHDOG", None)
            wait_for(lambda: one.said.get("WATCHDOG") == "1", 10 * WATCHDOG_US / 1e6)
        assert one.process is not None
        one.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: "T (stopped)" in Path(f"/proc/{one.process.pid}/status").read_text(), 5)
        one.said.pop("WATCHDOG", None)
        with pytest.raises(AssertionError):
            wait_for(lambda: "WATCHDOG" in one.said, 3 * WATCHDOG_US / 1e6)
        one.process.send_signal(signal.SIGCONT)
        wait_for(lambda: one.said.get("WATCHDOG") == "1", 10 * WATCHDOG_US / 1e6)


def test_what_it_changes_to_is_told(tmp_path: Path) -> None:
    with manager(tmp_path, WATCHDOG_USEC=str(WATCHDOG_US)) as one:
        one.start()
        more = f'[[export]]\npath = "{tmp_path}/later"\nshelf = 1\nslot = 1\n'
        image(tmp_path / "later")
        with (tmp_path / "file.toml").open("a") as file:
            file.write(more)
        assert one.process is not None
        one.process.send_signal(signal.SIGHUP)
        wait_for(lambda: one.said["STATUS"].startswith("2 serving; "), 10)


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
