"""What manages the interfaces of a machine without a disk leaves those alone by which its root comes."""

import socket
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from aoe.image.qmp import Qmp
from tests.support.labs.guests.machine import PATIENCE_S, host, needs_qemu
from tests.support.labs.guests.target import need_engine
from tests.support.tools import need_namespaces
from tests.support.waiting import wait_for
from tests.vm.built_image import managed_image
from tests.vm.diskless import AOEROOT, TAPS, Node, Site, Writing, check_in_order, copied

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]

ADDRESS = "192.168.55.2"
FREE = "free"
CARD = ("-netdev", f"hubport,id={FREE},hubid=0", "-device", f"virtio-net-pci,netdev={FREE},romfile=")
"""Of an interface that is not the root's, eth2."""
UP = ["0x1003", "9000"]
"""Flags, MTU."""
LIST = "nmcli --colors no --terse --fields DEVICE,STATE device"
ORDERS = (
    "systemctl restart systemd-networkd NetworkManager networking",
    "ifdown -a && ifup -a",
    "ifdown eth0; ! ifup eth0 && ifdown eth0",
)


def test_networkd_networkmanager_and_ifupdown(tmp_path: Path) -> None:
    """As the machine starts, when they are told to do it again, and when cables are out for a while. One
    interface has an address, and in the configuration of ifupdown another one; the second has none."""
    needs_qemu()
    need_namespaces()
    need_engine("c")
    built = managed_image()
    image = copied(built, tmp_path / "root")
    with ExitStack() as stack:
        site = Site(stack.enter_context(host()), tmp_path)
        for number in range(2):
            stack.enter_context(site.primary(number, image, "--shared"))
        words = f"{AOEROOT} ip={ADDRESS}:::255.255.255.0::eth0:off"
        machine = (*site.cards, *CARD, "-qmp", f"unix:{tmp_path / 'qmp'},server=on,wait=off")
        node = stack.enter_context(Node(tmp_path, built, words, *machine, lab=site.lab))
        _are_left_alone(node)
        writing = Writing(node)
        with closing(_qmp(tmp_path / "qmp")) as qmp:
            for number in range(2):
                _cables(node, qmp, number, up=False)
                writing.goes_on(1)
                _cables(node, qmp, number, up=True)
        _are_left_alone(node)
        for order in ORDERS:
            node.check(order)
            writing.goes_on(1)
            _are_left_alone(node)
        writing.end()
        node.start("systemctl poweroff")
        node.process.wait(timeout=PATIENCE_S)
    check_in_order(image)


def _are_left_alone(node: Node) -> None:
    """The root's interfaces, by managers that run and have the other one in hand."""
    running = "systemctl is-active systemd-networkd NetworkManager networking"
    wait_for(lambda: node.run(running).output == "active\n" * 3, PATIENCE_S, node.text, every_s=0.3)
    judged = _judged(node, has_cable=True)
    assert judged["eth0"] == judged["eth1"] == "unmanaged"
    assert _facts(node, "eth0") == [*UP, f"{ADDRESS}/24"]
    assert _facts(node, "eth1") == UP


def _judged(node: Node, *, has_cable: bool) -> dict[str, str]:
    """What NetworkManager makes of each interface, once it knows all and whether eth2 has a cable."""

    def look() -> dict[str, str]:
        states = dict(line.split(":", 1) for line in node.run(LIST).output.splitlines() if ":" in line)
        seen = states.keys() >= {"eth0", "eth1", "eth2"} and states["eth2"] != "unmanaged"
        return states if seen and (states["eth2"] != "unavailable") == has_cable else {}

    return wait_for(look, PATIENCE_S, lambda: node.run(LIST).output, every_s=0.3)


def _facts(node: Node, interface: str) -> list[str]:
    """Flags, MTU, addresses."""
    at, addresses = f"/sys/class/net/{interface}", f"ip -4 -o address show {interface}"
    return node.check(f"cat {at}/flags {at}/mtu && {addresses} | awk '{{print $4}}'").split()


def _cables(node: Node, qmp: Qmp, number: int, *, up: bool) -> None:
    """Pull that of the root's and that of eth2, or put them back; and wait until each manager has seen it."""
    for cable in (TAPS[number], FREE):
        qmp.do("set_link", name=cable, up=up)
    carriers = f"cat /sys/class/net/eth{number}/carrier /sys/class/net/eth2/carrier"
    wait_for(lambda: node.check(carriers) == f"{int(up)}\n" * 2, PATIENCE_S, node.text, every_s=0.3)
    _judged(node, has_cable=up)


def _qmp(path: Path) -> Qmp:
    """By which the emulator takes orders."""
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(str(path))
    qmp = Qmp(connected)
    qmp.begin()
    return qmp
