"""Interfaces that stand on others: a bridge serves, and frames of a VLAN that is not ours are not ours."""

from pathlib import Path

from aoe.wire.frame import Command
from tests.support.net import Lab
from tests.support.peers import AoeTarget, image


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


def test_a_tagged_frame_is_for_a_vlan_and_not_answered(lab: Lab, tmp_path: Path) -> None:
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=1.1") as target:
        client = lab.client()
        untagged = client.request(Command.CONFIG, bytes(8))
        assert not client.silence(untagged)
        assert client.silence(untagged[:12] + b"\x81\x00\x00\x05" + untagged[12:])
        assert "other_host=1" in target.counters()
