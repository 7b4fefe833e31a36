"""An opener that hangs: what is open is served on, the watchdog hears of it, and what waits for the opener
goes on when it answers again."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.net.service import Service, export
from tests.net.test_coming_interfaces import interfaces, ip, until
from tests.support.labs.network import Lab
from tests.support.waiting import wait_for

ENGINES = ("python", "c")
READS = 50


class Watchdog:
    """Hears what a service says of itself, and counts when it says that it lives."""

    def __init__(self, path: Path) -> None:
        self.heard = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while (text := self._socket.recv(1 << 16)) != b"end":
            self.heard += text == b"WATCHDOG=1"

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.connect(self._socket.getsockname())
            end.send(b"end")
        self._thread.join()
        self._socket.close()


@pytest.fixture
def watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watchdog]:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    made = Watchdog(tmp_path / "notify")
    yield made
    made.close()


def opener_of(service: Service) -> int:
    children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
    (found,) = (it for it in map(int, children) if "aoe-opener" in Path(f"/proc/{it}/comm").read_text())
    return found


@contextmanager
def hanging(process: int) -> Iterator[None]:
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def served_on(lab: Lab, watchdog: Watchdog) -> None:
    """An event loop that waits for the opener does neither."""
    before = watchdog.heard
    client = lab.client(timeout=0.5, retries=60)
    for lba in range(READS):
        assert client.read(lba, 1)
    wait_for(lambda: watchdog.heard >= before + 3, what="the watchdog hears nothing")


def test_all_else_goes_on(engine: str, lab: Lab, tmp_path: Path, watchdog: Watchdog) -> None:
    cable = lab.cable("target", "client")
    first, more = (export(tmp_path / it, it) for it in ("1.1", "1.2"))
    with Service(lab, tmp_path, [first], interfaces=("v0", "v1")) as service:
        until(lab, "v1")
        with hanging(opener_of(service)):
            lab.unplug(cable)
            lab.plug(cable)  # to be bound anew, and locked
            served_on(lab, watchdog)
            service.write([first, more])
            argv = [sys.executable, "-m", "aoe.cli.target", "apply", "--socket", service.socket]
            applying = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
            wait_for(
                lambda: service.ask("status")["changing"].startswith("apply"), what="apply is not under way"
            )
            status = service.ask("status")
            assert [it["state"] for it in status["exports"]] == ["serving"]
            assert "the opener has not answered yet" in status["notes"][-1]
            served_on(lab, watchdog)
        said, _ = applying.communicate(timeout=60)
        assert applying.returncode == 0, said
        assert lab.client(slot=2, timeout=0.5, retries=60).read(0, 1)
        until(lab, "v1")
        assert not service.ask("status")["notes"]


def test_an_interface_that_is_renamed(lab: Lab, tmp_path: Path, watchdog: Watchdog) -> None:
    """By another name that the file has, so that nothing is to be bound."""
    lab.cable("target", "client")
    ip(lab, "property", "add", "dev", "v1", "altname", "storage")
    with Service(lab, tmp_path, [export(tmp_path / "1.1", "1.1")], interfaces=("v0", "storage")) as service:
        until(lab, "v1")
        with hanging(opener_of(service)):
            ip(lab, "set", "v1", "name", "lan5")
            wait_for(lambda: "lan5" in interfaces(service), what="it is not called lan5")
            until(lab, "v1")
            served_on(lab, watchdog)


def test_it_ends_all_the_same(lab: Lab, tmp_path: Path) -> None:
    with Service(lab, tmp_path, [export(tmp_path / "1.1", "1.1")]) as service, hanging(opener_of(service)):
        service.stop()
        assert service.status == 0
