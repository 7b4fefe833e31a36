"""A machine without a disk: its root is on two primaries, and it goes on while either of them is gone."""

import os
import re
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aoe.wire.protocol import SECTOR
from tests.support.labs.guests.filesystem import trouble
from tests.support.labs.guests.machine import (
    PATIENCE_S,
    add_tap,
    host,
    needs_qemu,
    tap_card,
)
from tests.support.labs.guests.target import Export, TargetProcess, need_engine, ours
from tests.support.labs.network import Lab
from tests.support.tools import need_namespaces, tool
from tests.support.waiting import wait_for
from tests.vm.built_image import BuiltImage, built_image
from tests.vm.diskless import Node, copied

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]

MACS = (bytes.fromhex("52540000aa01"), bytes.fromhex("52540000aa02"))
MISSING = "52:54:00:00:aa:03"
AOEROOT = "aoeroot=e1.0,e2.0,mtu=9000,interfaces=52:54:00:00:AA:01+52:54:00:00:AA:02"
ADDRESS, NAME_SERVER = "192.168.55.2", "192.168.55.53"
BARE, LINUX = "/usr/sbin/bare", 0x83
UNPLUGGED = ("-netdev", "hubport,id=none,hubid=0", "-device", "virtio-net-pci,netdev=none,romfile=")
"""A network card without a cable."""
WRITER = (
    "n=0; while [ ! -e /run/stop ]; do f=w.$((n%20)); head -c 300000 /dev/urandom >/run/new &&"
    " cp /run/new /var/$f && sync /var/$f && (cd /run && sha256sum new | sed s,new,/var/$f, >/run/sum.$f)"
    " || touch /run/failed; n=$((n+1)); echo $n >/run/next && mv /run/next /run/count; done; touch /run/over"
)
"""A file after the other; their checksums are kept where the disk is not."""


@pytest.fixture(scope="module")
def built() -> BuiltImage:
    needs_qemu()
    need_namespaces()
    need_engine("c")
    return built_image()


class Site:
    """Two cables from the node to this host, each with a primary at its end: e1.0 and e2.0."""

    def __init__(self, lab: Lab, work: Path) -> None:
        self.lab = lab
        self._work = work
        self.cards = [
            word for tap, mac in zip(("tap0", "tap1"), MACS, strict=True) for word in _card(tap, mac)
        ]
        for tap in ("tap0", "tap1"):
            add_tap(lab, tap, 9000)

    def primary(self, number: int, image: Path, *how: str) -> TargetProcess:
        """One that serves from now on."""
        directory = self._work / f"primary{number}"
        directory.mkdir()
        export = Export(image, number + 1, 0, f"tap{number}")
        return ours(export, directory, "--serial", "ROOT", *how, lab=self.lab)


def _card(tap: str, mac: bytes) -> list[str]:
    return tap_card(tap, 9000, mac)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with host() as lab:
        yield Site(lab, tmp_path)


def test_a_root_on_two_primaries(built: BuiltImage, site: Site, tmp_path: Path) -> None:
    """It boots when they come, does not notice that one of them goes, and stops in good order."""
    image = copied(built, tmp_path / "root")
    words = f"{AOEROOT}+{MISSING} ip={ADDRESS}:::255.255.255.0::eth0:off"
    with ExitStack() as stack:
        node = Node(tmp_path, built, words, *site.cards, lab=site.lab)
        stack.callback(node.kill)
        node.wait_for(f"there is no interface with the MAC {MISSING}")
        said = node.wait_for("(eth0 has MTU 9000, eth1 has MTU 9000)")
        assert "e1.0/e2.0 does not answer on eth0 or eth1" in said
        primaries = [stack.enter_context(site.primary(number, image, "--shared")) for number in range(2)]
        stack.enter_context(node)
        assert f"the disk is used without {MISSING}" in node.text()
        _has_its_interfaces(node)
        _goes_on(node, primaries)
        node.start("systemctl reboot")
        node.process.wait(timeout=PATIENCE_S)
    _is_in_order(image)


def test_two_copies_below_an_overlay(built: BuiltImage, site: Site, tmp_path: Path) -> None:
    """Each primary has a copy of its own, which stays as it was; either of them may go. One interface of the
    node is a port of a bridge, which has its address."""
    copies = [copied(built, tmp_path / f"copy{number}") for number in range(2)]
    how = ("--copy-of", built.builds[0]["id"])
    with ExitStack() as stack:
        primaries = [
            stack.enter_context(site.primary(number, copy, *how)) for number, copy in enumerate(copies)
        ]
        ip = f"ip={ADDRESS}:::255.255.255.0::br0:off:{NAME_SERVER}"
        words = f"{AOEROOT},bridge=br0,overlay=tmpfs,size=60% {ip}"
        node = Node(tmp_path, built, words, *site.cards, lab=site.lab)
        stack.enter_context(node)
        assert node.check("findmnt -no FSTYPE,SOURCE /").split() == ["overlay", "aoe-root"]
        assert ADDRESS in node.check("ip -4 -brief address show br0")
        assert node.check("cat /etc/resolv.conf") == f"nameserver {NAME_SERVER}\n"
        assert {"on br0:", "on eth1:"} <= set(re.findall("on [a-z0-9.]+:", node.text()))
        _goes_on(node, primaries)
        node.start("systemctl poweroff")
        node.process.wait(timeout=PATIENCE_S)
    for copy in copies:
        tool("cmp", built.place.base, copy)


def test_a_partition_with_a_root_of_another_kernel(built: BuiltImage, site: Site, tmp_path: Path) -> None:
    """It is found by its UUID, and gets the modules of the initramfs. The machine ends without a farewell."""
    disk = _partitioned(_of_another_kernel(built, tmp_path), tmp_path / "disk")
    with ExitStack() as stack:
        stack.enter_context(site.primary(0, disk))
        words = f"aoeroot=e1.0,mtu=9000 init={BARE}"
        node = stack.enter_context(Node(tmp_path, built, words, *site.cards, lab=site.lab))
        assert node.check("findmnt -no SOURCE /").strip() == "/dev/nbd0p1"
        assert node.check("findmnt -no SOURCE /usr/lib/modules").strip() == "aoe-modules"
        node.check("modprobe dm_mod && grep -q ^dm_mod /proc/modules")
        node.start("sync; reboot -ff")
        node.process.wait(timeout=PATIENCE_S)


def _of_another_kernel(built: BuiltImage, work: Path) -> Path:
    """The root without its modules, and with a shell as its init."""
    root, init = copied(built, work / "root"), work / "init"
    init.write_text("#!/bin/sh\nexec </dev/ttyS1 >/dev/ttyS1\nexec bash /usr/local/sbin/test-shell\n")
    commands = work / "commands"
    commands.write_text(
        f"unlink /usr/lib/modules/{built.builds[0]['kernel']}\nwrite {init} {BARE}\nsif {BARE} mode 0100755\n"
    )
    tool("debugfs", "-w", "-f", commands, root)
    return root


def _partitioned(root: Path, disk: Path) -> Path:
    """A disk with a partition table, whose first partition has this root."""
    first, sectors = 2048, root.stat().st_size // SECTOR
    entry = struct.pack("<4xB3xII", LINUX, first, sectors)
    table = bytes(446) + entry + bytes(48) + b"\x55\xaa"
    disk.write_bytes(table)
    tool("dd", f"if={root}", f"of={disk}", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
    os.truncate(disk, (first + sectors) * SECTOR)
    return disk


def _has_its_interfaces(node: Node) -> None:
    """No manager of the root's changes them."""
    assert node.check("findmnt -no SOURCE /").strip() == "/dev/nbd0"
    node.check("systemctl start systemd-networkd")  # which waits until it is
    wait_for(lambda: _judged(node) == ["unmanaged"] * 2, PATIENCE_S, lambda: f"{_judged(node)}", every_s=0.3)
    assert ADDRESS in node.check("ip -4 -brief address show eth0")


def _judged(node: Node) -> list[str]:
    """What networkd makes of each interface, "pending" and "initialized" before that."""
    listed = node.check("networkctl --no-legend --no-pager list").splitlines()
    return [it.split()[-1] for it in listed if " eth" in it]


def _goes_on(node: Node, primaries: list[TargetProcess]) -> None:
    """While one primary after the other is killed."""
    node.check(f"({WRITER}) >/dev/null 2>&1 &")
    for primary in primaries:
        _writes(node)
        primary.kill()
        _writes(node)
        node.check("echo 3 >/proc/sys/vm/drop_caches; ls -lR /usr/share >/dev/null")
        primary.restart()
    node.check("touch /run/stop")
    wait_for(lambda: not node.run("[ -e /run/over ]").status, PATIENCE_S, node.text, every_s=0.3)
    node.check("sync; echo 3 >/proc/sys/vm/drop_caches; [ ! -e /run/failed ]")
    assert "FAILED" not in node.check("cat /run/sum.* | sha256sum -c")
    assert not trouble(node)


def _writes(node: Node) -> None:
    """Wait until three more files were written."""

    def count() -> int:
        return int(node.run("cat /run/count 2>/dev/null || echo 0").output)

    before = count()
    wait_for(lambda: count() >= before + 3, PATIENCE_S, node.text, every_s=0.3)


def _is_in_order(image: Path) -> None:
    """The root was not in use when the machine stopped."""
    assert "needs_recovery" not in tool("dumpe2fs", "-h", image)
    tool("e2fsck", "-fn", image)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("aoeroot=e1.0,mtuu=9000", "'mtuu=9000' is not known"),
        ("aoeroot=e1.0,timeout=3", "there was no disk in 3 s"),
        ("aoeroot=e1.0,timeout=3,vlan=7,bridge=br0", "aoe-door: e1.0 does not answer on br0;"),
    ],
)
def test_what_is_wrong_is_said(built: BuiltImage, tmp_path: Path, words: str, said: str) -> None:
    """And the machine does what `panic=` asks for."""
    node = Node(tmp_path, built, words, *(UNPLUGGED if "vlan" in words else ()))
    try:
        node.process.wait(timeout=PATIENCE_S)
    finally:
        node.kill()
    assert said in node.text()
