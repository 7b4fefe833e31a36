"""`aoe nbd` over UDP, and what it says where it cannot begin."""

import random
from pathlib import Path

import pytest

from aoe.errors import ConfigurationError
from aoe.nbd import door
from aoe.nbd.door import Plan, command_line
from tests.cli.test_serve import SECTORS, serving
from tests.support.door import Door, need_door

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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nbdkit": None}, "apt-get install nbdkit"),
        ({"plugin": Path("/nonexistent")}, "apt-get install gcc nbdkit-plugin-dev"),
        ({"links": ["udp:127.0.0.1:0"]}, "names nobody to ask"),
        ({"links": ["udp:127.0.0.1:0,peer=1"]}, "udp:ADDRESS:PORT"),
    ],
)
def test_what_is_missing_is_told(
    change: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    need_door()
    if "nbdkit" in change:
        monkeypatch.setattr(door.shutil, "which", lambda *_, **__: None)
    if "plugin" in change:
        monkeypatch.setattr(door, "PLUGIN", change["plugin"])
    with pytest.raises(ConfigurationError, match=said):
        command_line(Plan(tmp_path / "s", ["e1.1"], links=change.get("links", [LINK])))  # type: ignore[arg-type]


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    need_door()
    there = tmp_path / "nbd"
    there.write_text("mine")
    started = Door(None, tmp_path, "e1.1", "--link", LINK).launch()
    assert started.process.wait(10) == 2
    assert "is there and no socket" in started.errors
    assert there.read_text() == "mine"
