"""A daemon with two interfaces: each export is on those that the file says, in either engine."""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from aoe.wire.frame import Command, Header, decode, encode
from aoe.wire.protocol import SLOT_ALL
from tests.support.labs.network import Lab
from tests.support.labs.peers import image
from tests.support.labs.raw_client import Client
from tests.support.tools import need_namespaces
from tests.support.waiting import PATIENCE_S, wait_for

ENGINES = ("c",)
MORE_S = 0.3


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

    def check(self, interface: str, *slots: int) -> None:
        """By this interface these are found and no others, with a question to all and with one to each."""
        with self.lab.client(interface=interface) as client:
            for asked in ([SLOT_ALL], range(len(self.disks))):
                assert answering(client, asked, len(slots)) == list(slots)


def answering(client: Client, asked: Iterable[int], least: int) -> list[int]:
    """Which slots answer these questions: so many, and whoever does a little later."""
    tags = set()
    for slot in asked:
        header = client.header(Command.CONFIG, shelf=1, slot=slot)
        client.send(encode(header, bytes(8)))
        tags.add(header.tag)
    first = islice(client.replies(tags, PATIENCE_S), least)
    headers = map(decode, [*first, *client.replies(tags, MORE_S)])
    return sorted(it.slot for it in headers if isinstance(it, Header))


@pytest.mark.parametrize("mover", ["c", "python"])
def test_each_export_is_where_the_file_says(lab: Lab, tmp_path: Path, mover: str) -> None:
    daemon = Daemon(lab, tmp_path, mover)
    daemon.write('interfaces = ["v0"]\n')
    daemon.start()
    daemon.check("v0", 0, 1)
    daemon.check("v1", 0, 2)
    daemon.write('interfaces = ["v1"]\n')
    assert daemon.apply() == 0
    daemon.check("v0", 0)
    daemon.check("v1", 0, 1, 2)
    daemon.write("")
    assert daemon.apply() == 0
    daemon.check("v0", 0, 1)
    daemon.check("v1", 0, 1, 2)
