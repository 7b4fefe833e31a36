"""What a service manager hears of `aoe nbd`."""

import sys
from contextlib import AbstractContextManager
from pathlib import Path

from tests.node.manager import Manager
from tests.support.labs.nbd_client import READ, NbdClient
from tests.support.labs.nbdkit import need_nbdkit
from tests.support.labs.peers import image
from tests.support.labs.served import SECTORS, Served, serving
from tests.support.waiting import wait_for


def manager(target: Served, directory: Path, *words: str) -> Manager:
    """Of one for e1.2."""
    need_nbdkit()
    command = (sys.executable, "-m", "aoe.cli.client", "nbd", "e1.2", *words, *link(target))
    return Manager([*command, "--socket", str(directory / "nbd")], directory)


def link(target: Served) -> tuple[str, str]:
    host, port = target.remote
    return "--link", f"udp:127.0.0.1:0,peer={host}:{port},mtu=9000"


def server(disk: Path, address: str) -> AbstractContextManager[Served]:
    """One of several of a disk."""
    state = disk.parent / address
    return serving(f"{disk}={address}", "--state-dir", state, "--shared", "--serial", "ONE")


def test_it_hears_that_clients_may_connect_and_how_the_paths_are(tmp_path: Path) -> None:
    disk = image(tmp_path / "disk", SECTORS)
    with (
        server(disk, "1.2") as target,
        server(disk, "2.2") as other,
        manager(target, tmp_path, "e2.2", *link(other)) as one,
    ):
        one.start()
        assert one.said["STATUS"].endswith(f"nbd serves e1.2 e2.2, {SECTORS * 512} bytes")
        with NbdClient(tmp_path / "nbd") as client:
            target.process.kill()
            other.process.kill()
            client.send(READ, 0, 512)
            wait_for(lambda: " is down" in one.said["STATUS"])


def test_it_hears_nothing_of_one_that_finds_no_disk(tmp_path: Path) -> None:
    disk = image(tmp_path / "disk", SECTORS)
    with server(disk, "1.3") as target, manager(target, tmp_path, "--find", "0.3") as one:
        one.start(ready_s=None)
        assert one.process is not None
        assert one.process.wait(30) == 1
        assert one.said == {}
