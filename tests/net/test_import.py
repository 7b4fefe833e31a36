"""Disks that vblade served are served by our service, from what started vblade, ggaoed or our own target."""

import subprocess
import sys
from pathlib import Path

from aoe.wire.protocol import SECTOR
from tests.net.service import Service
from tests.support.labs.network import Lab
from tests.support.labs.peers import Vblade
from tests.support.tools import need

OFFSET = 8
SOURCES = {
    (1, 1): ("debian.conf", "shelf=1\nslot=1\nnetif=v0\nfilename={disk}\noptions='-o 8'\n"),
    (1, 2): ("rc.local", "#!/bin/sh\nvbladed -o 8 1 2 v0 {disk}\n"),
    (7, 0): (
        "ggaoed.conf",
        "[defaults]\ninterfaces = v0\ndirect-io = false\n[data]\npath = {disk}\nshelf = 7\nslot = 0\n",
    ),
    (7, 1): (
        "disk.service",
        "[Service]\nExecStart=/usr/bin/aoe-target serve {disk}=7.1 --offset 8 --interface v0\n",
    ),
}
"""By address: a file of /etc/vblade.conf.d, a script, a file of ggaoed, which has no offsets, and a unit."""
MADE = '[target]\ninterfaces = ["v0"]\n'


def source(work: Path, shelf: int, slot: int) -> tuple[Path, Path, int]:
    """The file that says how a disk is served, the disk, and from which sector on that is."""
    name, text = SOURCES[shelf, slot]
    disk, file = work / f"{shelf}.{slot}", work / name
    offset = OFFSET if str(OFFSET) in text else 0
    disk.write_bytes(bytes(offset * SECTOR) + f"e{shelf}.{slot}".encode().ljust(64 * SECTOR, b"."))
    file.write_text(text.format(disk=disk))
    return file, disk, offset


def test_the_same_disks_have_the_same_addresses(lab: Lab, tmp_path: Path) -> None:
    need("vblade")
    seen, files = {}, []
    for shelf, slot in SOURCES:
        file, disk, offset = source(tmp_path, shelf, slot)
        files.append(file)
        with Vblade(lab, disk, "-o", str(offset), shelf=shelf, slot=slot):
            seen[shelf, slot] = read_by(lab, shelf, slot)
    words = [sys.executable, "-m", "aoe.cli.target", "import", *map(str, files)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(MADE)
    service = Service(lab, tmp_path, [])
    with service.file.open("a") as made:  # after where the state of a test is to be
        made.write(done.stdout.removeprefix(MADE))
    with service:
        assert {at: read_by(lab, *at) for at in SOURCES} == seen
    assert seen[7, 0].startswith(b"e7.0....")


def read_by(lab: Lab, shelf: int, slot: int) -> bytes:
    """The first sectors, to a client that does not know which target answers."""
    with lab.client(shelf, slot) as client:
        return client.read(0, 2)
