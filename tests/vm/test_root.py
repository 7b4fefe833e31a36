"""A machine without a disk: its root is on two primaries, and it goes on while either of them is gone."""

import os
import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aoe.wire import frame
from aoe.wire.protocol import SECTOR
from tests.support.labs.guests import versions
from tests.support.labs.guests.filesystem import trouble
from tests.support.labs.guests.machine import PATIENCE_S, host, needs_qemu
from tests.support.labs.guests.target import TargetProcess, need_engine
from tests.support.tools import need_namespaces, tool
from tests.support.waiting import wait_for
from tests.vm import root_lives
from tests.vm.built_image import BuiltImage, built_image
from tests.vm.diskless import (
    AOEROOT,
    MACS,
    TAPS,
    Attended,
    Node,
    Site,
    Writing,
    check_files,
    check_in_order,
    copied,
    rescued,
)
from tests.vm.trunk import Trunk
from tests.vm.volatile import VolatileDisk

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]

FILES, VLAN, READ_BYTES = 5, 7, 1 << 20
MISSING = "52:54:00:00:aa:03"
ADDRESS, GATEWAY, NAME_SERVER = "192.168.55.2", "192.168.55.1", "192.168.55.53"
LABEL = "its-root"
BARE, LINUX = "/usr/sbin/bare", 0x83
UNPLUGGED = ("-netdev", "hubport,id=none,hubid=0", "-device", "virtio-net-pci,netdev=none,romfile=")
"""A network card without a cable."""


@pytest.fixture(scope="module")
def built() -> BuiltImage:
    needs_qemu()
    need_namespaces()
    need_engine("c")
    return built_image()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with host() as lab:
        yield Site(lab, tmp_path)


def test_a_root_on_two_primaries(built: BuiltImage, site: Site, tmp_path: Path) -> None:
    """It is found by its label, and boots when they come. The power fails, theirs and that of the cache of
    their disk, too. Then it has all that was stable, and stops in good order."""
    disk = VolatileDisk(tmp_path / "disk")
    image = copied(built, disk.store)
    tool("e2label", image, LABEL)
    words = f"{AOEROOT}+{MISSING} root=LABEL={LABEL} ip={ADDRESS}::{GATEWAY}:255.255.255.0::eth0:off"
    with ExitStack() as stack:
        node = Node(tmp_path, built, words, *site.cards, lab=site.lab)
        stack.callback(node.kill)
        node.wait_for(f"there is no interface with the MAC {MISSING}")
        said = node.wait_for("(eth0 has MTU 9000, eth1 has MTU 9000)")
        assert "e1.0/e2.0 does not answer on eth0 or eth1" in said
        stack.enter_context(disk)
        primaries = [stack.enter_context(site.primary(number, disk.path, "--shared")) for number in range(2)]
        with node:
            assert f"the disk is used without {MISSING}" in node.text()
            _has_its_interfaces(node)
            stable = root_lives.pull_the_plug(node, FILES)
        root_lives.lose_power(primaries, disk)
        with Node(tmp_path, built, AOEROOT, *site.cards, lab=site.lab) as node:
            assert root_lives.REPAIRS in node.text()
            assert not trouble(node)
            node.start("systemctl reboot")
            node.process.wait(timeout=PATIENCE_S)
    check_in_order(image)
    check_files(image, stable)


def test_a_disk_that_loses_its_power_has_what_was_flushed(tmp_path: Path) -> None:
    first, second = bytes([1]) * 4096, bytes([2]) * 4096
    with VolatileDisk(tmp_path / "disk") as disk:
        with disk.path.open("r+b", buffering=0) as file:
            file.write(first)
            os.fsync(file.fileno())
            file.write(second)
        assert disk.path.read_bytes()[: 2 * 4096] == first + second
        disk.lose_power()
        assert disk.path.read_bytes()[: 2 * 4096] == first + bytes(4096)


@pytest.mark.usefixtures("built")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_life_in_which_primaries_come_and_go(tmp_path: Path, seed: int) -> None:
    """One fault as it boots, one as it writes and one as it stops."""
    root_lives.cycle(tmp_path, seed)


def test_a_root_that_was_in_use_is_not_in_order(tmp_path: Path) -> None:
    image = tmp_path / "image"
    tool("mke2fs", "-q", "-t", "ext4", image, "16M")
    check_in_order(image)
    tool("debugfs", "-w", "-R", "feature needs_recovery", image)
    with pytest.raises(AssertionError):
        check_in_order(image)


def test_a_write_that_comes_back_is_seen(tmp_path: Path) -> None:
    """By what a machine does with its blocks while its door is killed."""
    places, stale, over = (tmp_path / name for name in (versions.FILE, "stale", "over.0"))
    places.write_bytes(bytes(4096))
    script = versions.writer(0, tmp_path, tmp_path)

    def came_back() -> bool:
        places.write_bytes(b"0 1".ljust(4096))
        return stale.exists() and stale.stat().st_size > 0

    with ExitStack() as stack:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        stack.enter_context(subprocess.Popen(["bash", "-c", script], **quiet))
        stack.callback((tmp_path / "stop").touch)
        wait_for(lambda: not places.read_bytes().startswith((b"\0", b"0 1 ", b"0 2 ")))
        assert not stale.exists()
        wait_for(came_back)
    assert over.exists()


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
        node.wait_for(": usable, a copy")
        assert {"on br0:", "on eth1:"} <= set(re.findall("on [a-z0-9.]+:", node.text()))
        with site.other_disk():
            node.wait_for(" on eth1: refused: another disk: its serial differs")
        _goes_on(node, primaries)
        node.start("systemctl poweroff")
        node.process.wait(timeout=PATIENCE_S)
    for copy in copies:
        tool("cmp", built.place.base, copy)


def test_a_partition_with_a_root_of_another_kernel(built: BuiltImage, site: Site, tmp_path: Path) -> None:
    """It is found by its UUID in a VLAN, by way of a bridge and of another interface, and gets the modules of
    the initramfs. The machine ends without a farewell."""
    disk = _partitioned(_of_another_kernel(built, tmp_path), tmp_path / "disk")
    with ExitStack() as stack:
        primaries = [stack.enter_context(site.primary(number, disk, "--shared")) for number in range(2)]
        trunks = [
            stack.enter_context(Trunk(site.lab, tap, VLAN, 9000, mac))
            for tap, mac in zip(TAPS, MACS, strict=True)
        ]
        words = f"{AOEROOT},vlan={VLAN},bridge=br0 init={BARE}"
        cards = [word for trunk in trunks for word in trunk.card]
        node = stack.enter_context(Node(tmp_path, built, words, *cards, lab=site.lab))
        assert node.check(f"readlink -f /sys/class/net/eth0.{VLAN}/master").endswith("/br0\n")
        for name in ("br0", f"eth1.{VLAN}"):
            node.wait_for(f"on {name}: usable")
        assert node.check("findmnt -no SOURCE /").strip() == "/dev/nbd0p1"
        assert node.check("findmnt -no SOURCE /usr/lib/modules").strip() == "aoe-modules"
        node.check("modprobe dm_mod && grep -q ^dm_mod /proc/modules")
        _keeps_every_line(node)
        for trunk, other in zip(trunks, reversed(primaries), strict=True):
            other.kill()
            before = trunk.carried
            node.check(f"echo 3 >/proc/sys/vm/drop_caches; head -c {READ_BYTES} /dev/nbd0 | cksum >/dev/null")
            assert trunk.carried - before >= READ_BYTES // 9000
            other.restart()
        node.start("sync; reboot -ff")
        node.process.wait(timeout=PATIENCE_S)
        assert not [it.untagged for it in trunks if frame.ETHERTYPE in it.untagged]


def _keeps_every_line(node: Node) -> None:
    """The kernel's log, where no systemd has asked for that: a door has its log open once, as this has."""
    node.check("for it in $(seq 30); do echo of-tests; done >/dev/kmsg")
    assert node.check("dmesg | grep -c of-tests") == "30\n"


def test_a_root_by_the_kernels_driver(built: BuiltImage, site: Site, tmp_path: Path) -> None:
    """It boots to a login prompt, waits for its only primary, and stops in good order."""
    image = copied(built, tmp_path / "root")
    with ExitStack() as stack:
        primary = stack.enter_context(site.primary(0, image))
        words = "aoeroot=e1.0,mtu=9000,driver=kernel"
        node = stack.enter_context(Node(tmp_path, built, words, *site.cards, lab=site.lab))
        node.wait_for("login:")
        assert node.check("findmnt -no SOURCE /").strip() == "/dev/etherd/e1.0"
        assert node.check("cat /sys/module/aoe/parameters/aoe_deadsecs") == "0\n"
        writing = Writing(node)
        writing.goes_on()
        primary.kill()
        primary.restart()
        writing.goes_on()
        writing.end()
        node.start("systemctl poweroff")
        node.process.wait(timeout=PATIENCE_S)
    check_in_order(image)


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
    assert node.check("cat /sys/block/nbd0/queue/max_sectors_kb") == "512\n"  # of itself the kernel has 128
    node.check("systemctl start systemd-networkd")  # which waits until it is
    wait_for(lambda: _judged(node) == ["unmanaged"] * 2, PATIENCE_S, lambda: f"{_judged(node)}", every_s=0.3)
    assert ADDRESS in node.check("ip -4 -brief address show eth0")
    assert node.check("ip -4 route show default").startswith(f"default via {GATEWAY} dev eth0")


def _judged(node: Node) -> list[str]:
    """What networkd makes of each interface, "pending" and "initialized" before that."""
    listed = node.check("networkctl --no-legend --no-pager list").splitlines()
    return [it.split()[-1] for it in listed if " eth" in it]


def _goes_on(node: Node, primaries: list[TargetProcess]) -> None:
    """While one primary after the other is killed."""
    writing = Writing(node)
    for primary in primaries:
        writing.goes_on()
        primary.kill()
        writing.goes_on()
        node.check("echo 3 >/proc/sys/vm/drop_caches; ls -lR /usr/share >/dev/null")
        primary.restart()
    writing.end()


def test_a_disk_that_is_no_root_is_said(built: BuiltImage, site: Site, tmp_path: Path) -> None:
    """Its image was cut off, and it takes no writes; a person looks at it before anything is mounted."""
    image = copied(built, tmp_path / "root")
    os.truncate(image, image.stat().st_size // 2)
    with site.primary(0, image, "--read-only"), rescued(built, site, tmp_path, "") as node:
        node.start("dd if=/dev/zero of=/dev/nbd0 count=1; sync")
        node.see("the disk is read-only at its server; use it without writing")
        _boots_on(node, "it was cut off")


def test_a_root_of_another_image(built: BuiltImage, site: Site, tmp_path: Path) -> None:
    image, other = copied(built, tmp_path / "root"), tmp_path / "other"
    other.write_text("other\n")
    commands = tmp_path / "commands"
    commands.write_text(f"rm /etc/aoe-image\nwrite {other} /etc/aoe-image\n")
    tool("debugfs", "-w", "-f", commands, image)
    with site.primary(0, image, "--read-only"), rescued(built, site, tmp_path, ",overlay=tmpfs") as node:
        _boots_on(node, f"the root is of the image other, and aoeimage= names {built.builds[0]['id']}")


def _boots_on(node: Node, said: str) -> None:
    """Until it says that; then it does what `panic=` asks for."""
    node.start("exit")
    node.see(said)
    node.process.wait(timeout=PATIENCE_S)


def test_enter_gives_a_shell_while_there_is_no_disk(built: BuiltImage, site: Site, tmp_path: Path) -> None:
    """By the shell of the initramfs, on its console."""
    node = Attended(tmp_path, built, "aoeroot=e1.0,mtu=9000", *site.cards, lab=site.lab)
    try:
        node.see("Enter gives a shell")
        node.types("\n")
        node.see("there is no disk yet; when this shell ends, it is looked for again")
        node.see("(aoe-root) ")
    finally:
        node.kill()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("aoeroot=e1.0,mtuu=9000", ["'mtuu=9000' is not known"]),
        (
            "aoeroot=e1.0,timeout=3,vlan=7,bridge=br0",
            ["aoe-door: e1.0 does not answer on br0;", "there was no disk in 3 s"],
        ),
    ],
)
def test_what_is_wrong_is_said(built: BuiltImage, tmp_path: Path, words: str, said: list[str]) -> None:
    _ends_by_itself(Node(tmp_path, built, words, *(UNPLUGGED if "vlan" in words else ())), *said)


def test_an_initramfs_that_was_cut_off_is_said(built: BuiltImage, tmp_path: Path) -> None:
    """Before what it lacks is looked for: it ends in the middle of its drivers."""
    cut, whole = built._replace(base=tmp_path / "cut"), built.place.initramfs.read_bytes()
    cut.place.kernel.symlink_to(built.place.kernel)
    cut.place.initramfs.write_bytes(whole[: len(whole) * 3 // 4])
    node = Node(tmp_path, cut, "aoeroot=e1.0")
    _ends_by_itself(node, "the initramfs says nothing of an image: it was cut off, or is of none")
    assert "there is no interface" not in node.text()


def _ends_by_itself(node: Node, *said: str) -> None:
    """As `panic=` asks for, when it has said that."""
    try:
        node.process.wait(timeout=PATIENCE_S)
    finally:
        node.kill()
    assert not [it for it in said if it not in node.text()]
