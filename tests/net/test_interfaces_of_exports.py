"""A daemon with two interfaces: each export is on those that the file says, in either engine."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.labs.network import Lab
from tests.support.labs.peers import image
from tests.support.tools import need_namespaces
from tests.support.waiting import wait_for

ENGINES = ("c",)


@pytest.fixture
def lab() -> Iterator[Lab]:
    need_namespaces()
    with Lab(mtu=9000) as made:
        made.cable("target", "client")
        command = made.command(
            "target", "ip", "link", "property", "add", "dev", "v1", "altname", "storage-net"
        )
        subprocess.run(command, check=True)
        yield made


class Daemon:
    """`aoe-target run` on a file of three exports, of which the second has a say where it is."""

    def __init__(self, lab: Lab, work: Path, engine: str) -> None:
        self.lab, self.work, self.engine = lab, work, engine
        self.disks = [image(work / f"disk{slot}", 2048) for slot in range(3)]
        self.file = work / "f.toml"

    def write(self, own: str) -> None:
        text = f'[target]\nengine = "{self.engine}"\ninterfaces = ["v*"]\nstate-dir = "{self.work}/state"\n'
        says = ("", own, 'interfaces = ["storage-net"]\n')
        for slot, (disk, said) in enumerate(zip(self.disks, says, strict=True)):
            text += f'[[export]]\npath = "{disk}"\nshelf = 1\nslot = {slot}\n{said}'
        self.file.write_text(text)

    def words(self, command: str) -> list[str]:
        where = ("--config", str(self.file), "--socket", str(self.work / "control"))
        return self.lab.command("target", sys.executable, "-m", "aoe.cli.target", command, *where)

    def start(self) -> None:
        with (self.work / "said").open("w") as said, (self.work / "errors").open("w") as errors:
            inside = [sys.executable, "-m", "aoe.cli.target", "run", "--config", self.file]
            inside += ["--socket", self.work / "control"]
            self.lab.popen("target", *inside, stdout=said, stderr=errors)
        wait_for(lambda: (self.work / "said").read_text().count("\n") >= 3, what="it does not serve")

    def apply(self) -> int:
        return subprocess.run(self.words("apply"), check=False, timeout=30).returncode

    def client(self, interface: str, *words: str) -> "subprocess.CompletedProcess[str]":
        command = ("-m", "aoe.cli.client", *words, "--interface", interface, "--json")
        inside = self.lab.command("client", sys.executable, *command)
        return subprocess.run(inside, capture_output=True, text=True, timeout=60, check=False)

    def seen(self, interface: str) -> list[str]:
        """Found by a question to all."""
        lines = map(json.loads, self.client(interface, "discover").stdout.splitlines())
        return sorted({it["address"] for it in lines if "error" not in it})

    def answers(self, interface: str, address: str) -> bool:
        """To the questions that name it."""
        return self.client(interface, "ping", address, "-c", "1").returncode == 0


@pytest.mark.parametrize("mover", ["c", "python"])
def test_each_export_is_where_the_file_says(lab: Lab, tmp_path: Path, mover: str) -> None:
    daemon = Daemon(lab, tmp_path, mover)
    daemon.write('interfaces = ["v0"]\n')
    daemon.start()
    assert (daemon.seen("v0"), daemon.seen("v1")) == (["e1.0", "e1.1"], ["e1.0", "e1.2"])
    assert [daemon.answers(name, "e1.1") for name in ("v0", "v1")] == [True, False]
    assert [daemon.answers(name, "e1.2") for name in ("v0", "v1")] == [False, True]
    daemon.write('interfaces = ["v1"]\n')
    assert daemon.apply() == 0
    assert (daemon.seen("v0"), daemon.seen("v1")) == (["e1.0"], ["e1.0", "e1.1", "e1.2"])
    assert [daemon.answers(name, "e1.1") for name in ("v0", "v1")] == [False, True]
    daemon.write("")
    assert daemon.apply() == 0
    assert (daemon.seen("v0"), daemon.seen("v1")) == (["e1.0", "e1.1"], ["e1.0", "e1.1", "e1.2"])
