"""A first try on one machine: target and client on the loopback interface, which knows no broadcast."""

import json
import sys
from pathlib import Path

import pytest

from aoe.wire import config, frame
from aoe.wire.config import Config, ConfigCommand
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.ports import PacketPort
from tests.support.waiting import PATIENCE_S, at_best, wait_for

LOOPBACK = bytes(6)
QUERY = config.encode(Config(ConfigCommand.READ))

USE = """
import sys, aoe
with aoe.open("e7.0", interface="lo", engine=sys.argv[1], timeout_s=60) as disk:
    data = bytes(range(256)) * 1024
    disk.write(1000, data)
    disk.flush()
    assert disk.read(1000, len(data)) == data
    print(disk.size)
"""


@pytest.fixture
def target(lab: Lab, tmp_path: Path) -> AoeTarget:
    made = AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk')}=7.0", interfaces=["lo"]).launch()
    wait_for(lambda: "e7.0:" in made.output or not made.alive)
    assert made.alive, made.errors
    return made


def query(destination: bytes, tag: int) -> bytes:
    header = frame.Header(destination, LOOPBACK, 1, 0, 0, 7, 0, frame.Command.CONFIG, tag)
    return frame.encode(header, QUERY)


def answered(port: PacketPort, tag: int, seconds: float) -> bool:
    """Whether a reply with that tag comes; everything on the interface is seen."""
    while (raw := port.receive(seconds)) is not None:
        header = frame.decode(raw)
        if isinstance(header, frame.Header) and header.flags & frame.FLAG_RESPONSE and header.tag == tag:
            return True
    return False


def test_a_client_on_the_same_machine_finds_the_disk(lab: Lab, target: AoeTarget) -> None:
    command = (sys.executable, "-m", "aoe.cli.client", "discover", "--interface", "lo", "--json")

    def finds() -> None:
        found = [json.loads(line) for line in lab.run("target", *command).stdout.splitlines()]
        assert [(it["address"], it["mac"]) for it in found] == [("e7.0", "00:00:00:00:00:00")]

    at_best(finds)


@pytest.mark.parametrize("client", ["python", "c"])
def test_a_client_on_the_same_machine_uses_the_disk(lab: Lab, target: AoeTarget, client: str) -> None:
    done = lab.run("target", sys.executable, "-c", USE, client, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, str(2048 * 512)), done.stderr


def test_what_is_for_others_or_for_a_group_is_not_answered(lab: Lab, target: AoeTarget) -> None:
    port = lab.port("target", "lo", promiscuous=True)
    for tag, destination in enumerate((LOOPBACK, frame.BROADCAST), 1):
        port.send(query(destination, tag))
        assert answered(port, tag, PATIENCE_S)
    groups = ("01:80:c2:00:00:0e", "33:33:00:00:00:01", "fe:ff:ff:ff:ff:ff", "ff:ff:ff:ff:ff:fe")
    for tag, mac in enumerate((*groups, "02:00:00:00:00:99"), 10):
        port.send(query(bytes.fromhex(mac.replace(":", "")), tag))
        assert not answered(port, tag, 0.2)
    assert "other_host=5" in target.counters()


def test_our_own_replies_do_not_come_back_as_work(lab: Lab, target: AoeTarget, engine: str) -> None:
    done = lab.run("target", sys.executable, "-c", USE, "c", timeout=120)
    assert done.returncode == 0, done.stderr
    assert engine == "python" or "response=" not in target.counters()
    assert "answers for this address too" not in target.errors
