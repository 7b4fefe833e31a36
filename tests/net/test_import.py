"""Disks that vblade served are served by our service, from the files that vblade was started by."""

import subprocess
import sys
from pathlib import Path

from aoe.config.read import read
from aoe.wire.protocol import SECTOR
from tests.net.service import Service
from tests.support.labs.network import Lab
from tests.support.labs.peers import Vblade
from tests.support.tools import need

ADDRESSES = ((1, 1), (1, 2), (7, 0))
OFFSET = 8


def fragment(path: Path, shelf: int, slot: int) -> str:
    """As in /etc/vblade.conf.d."""
    return f"shelf={shelf}\nslot={slot}\nnetif=v0\nfilename={path}\noptions='-o {OFFSET}'\n"


def test_the_same_disks_have_the_same_addresses(lab: Lab, tmp_path: Path) -> None:
    need("vblade")
    seen = {}
    for shelf, slot in ADDRESSES:
        disk = tmp_path / f"{shelf}.{slot}"
        disk.write_bytes(bytes(OFFSET * SECTOR) + f"e{shelf}.{slot}".encode().ljust(64 * SECTOR, b"."))
        (tmp_path / f"{shelf}.{slot}.conf").write_text(fragment(disk, shelf, slot))
        with Vblade(lab, disk, "-o", str(OFFSET), shelf=shelf, slot=slot):
            seen[shelf, slot] = read_by(lab, shelf, slot)
    words = [sys.executable, "-m", "aoe.cli.target", "import", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    exports = [text.partition("[[export]]")[2] for text in done.stdout.split("\n# ")[1:]]
    assert read(done.stdout, "made").target.interfaces == ("v0",)
    with Service(lab, tmp_path, ["[[export]]" + it for it in exports]):
        assert {at: read_by(lab, *at) for at in ADDRESSES} == seen
    assert seen[7, 0].startswith(b"e7.0....")


def read_by(lab: Lab, shelf: int, slot: int) -> bytes:
    """The first sectors, to a client that does not know which target answers."""
    with lab.client(shelf, slot) as client:
        return client.read(0, 2)
