"""Interfaces that stand on others: a bridge serves."""

from pathlib import Path

from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image


def _ip(lab: Lab, *words: str) -> None:
    lab.run("target", "ip", *words, check=True)


def _bridge(lab: Lab) -> None:
    _ip(lab, "link", "add", "br0", "type", "bridge")
    _ip(lab, "link", "set", "v0", "master", "br0")
    _ip(lab, "link", "set", "br0", "up")


def test_a_bridge_serves_what_its_ports_bring(lab: Lab, tmp_path: Path) -> None:
    _bridge(lab)
    target = AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1", "--interface", "br0", interfaces=[])
    target.launch()
    client = lab.client(timeout=0.5, retries=20)
    client.write(3, b"b" * 512)
    assert client.read(3) == b"b" * 512
    target.kill()
