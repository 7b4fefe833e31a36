"""What a target is given at its start, interfaces and privileges: used, or refused in one line."""

import subprocess
from pathlib import Path

from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.waiting import wait_for


def ip(lab: Lab, *words: str) -> None:
    subprocess.run(lab.command("target", "ip", *words), check=True)


def test_no_thread_keeps_a_capability(lab: Lab, tmp_path: Path) -> None:
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=7.0") as target, lab.client() as client:
        client.write(0, bytes(512), shelf=7, slot=0)
        client.identify(shelf=7, slot=0)
        threads = list(Path(f"/proc/{target.pid}/task").iterdir())
        assert len(threads) > 1
        for thread in threads:
            fields = dict(line.split(":\t", 1) for line in (thread / "status").read_text().splitlines())
            assert {fields[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
            assert fields["NoNewPrivs"] == "1"


def test_a_port_of_a_bridge_is_refused_with_the_name_of_that(lab: Lab, tmp_path: Path) -> None:
    """It would hear nothing: whatever comes there is the bridge's."""
    disk = f"{image(tmp_path / 'disk')}=7.0"
    ip(lab, "link", "add", "br0", "type", "bridge")
    ip(lab, "link", "set", "br0", "up")
    ip(lab, "link", "set", "v0", "master", "br0")
    port = AoeTarget(lab, tmp_path, disk).launch()
    assert port.wait(30) == 2
    assert port.errors == "aoe-target: v0 is a port of br0, which takes all frames; name that instead\n"
    chosen = AoeTarget(lab, tmp_path, disk, interfaces=()).launch()
    wait_for(lambda: "on br0" in chosen.output, what=lambda: chosen.errors)
    with lab.client() as client:
        assert client.read(0, shelf=7, slot=0) == bytes(512)
    chosen.kill()


def test_an_interface_that_becomes_part_of_a_bridge_is_said(lab: Lab, tmp_path: Path) -> None:
    ip(lab, "link", "add", "br0", "type", "bridge")
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=7.0") as target, lab.client() as client:
        ip(lab, "link", "set", "v0", "master", "br0")
        target.says("v0: the interface is down, gone or part of a bridge")
        ip(lab, "link", "set", "v0", "nomaster")
        target.says("v0: the interface is there again")
        assert client.read(0, shelf=7, slot=0) == bytes(512)
