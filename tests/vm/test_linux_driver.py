"""Linux's own initiator in a guest: a filesystem over our target at two MTUs, and a target that dies."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.wire.protocol import SECTOR, sectors_per_frame
from tests.support.labs.guests.filesystem import FILE_BYTES, checksums, guest_files, tree, trouble
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import PATIENCE_S, LinuxGuest, add_tap, host, needs_qemu, tap_card
from tests.support.labs.guests.target import VBLADE_INSTEAD, Export, TargetProcess, need_engine, on_tap
from tests.support.labs.network import Lab
from tests.support.tools import need, need_namespaces
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

WAYS = [(mtu, engine) for engine in ("python", "c") for mtu in (1500, 9000)]
SPOILT = len(WAYS)
"""Number of one more way, for the tests that plant a fault."""

IMAGE_BYTES = 64 << 20
KILL_AFTER = (5, 10)
STALL_S = 1.0


class Served(NamedTuple):
    """A target, and the names under which the guest finds it."""

    image: Path
    target: TargetProcess
    device: str
    sysfs: str


class Site(NamedTuple):
    guest: LinuxGuest
    ways: list[Served]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One guest with a network card, a tap and a target process for each way."""
    needs_qemu()
    need_namespaces()
    need("mkfs.ext4")
    with ExitStack() as stack:
        lab = stack.enter_context(host())
        ways, cards = [], []
        for number, (mtu, engine) in enumerate([*WAYS, (1500, "c")]):
            add_tap(lab, f"tap{number}", mtu)
            cards += tap_card(f"tap{number}", mtu)
            directory = tmp_path_factory.mktemp("way")
            # Not "c", so that the other ways can be tested where it is not built.
            chosen = "python" if engine == "python" else "auto"
            ways.append(way(stack, lab, directory, number, "--engine", chosen))
        directory = tmp_path_factory.mktemp("guest")
        guest = stack.enter_context(LinuxGuest(directory, kernel(), guest_files(), *cards, lab=lab))
        discover(guest, ways)
        yield Site(guest, ways)


def way(stack: ExitStack, lab: Lab, directory: Path, number: int, *options: str) -> Served:
    """A target for an image of zeroes; its tap and its address have the same number."""
    image = directory / "image"
    image.touch()
    os.truncate(image, IMAGE_BYTES)
    export = Export(image, number, number, f"tap{number}")
    target = stack.enter_context(on_tap(export, directory, lab, *options))
    return Served(image, target, f"/dev/etherd/e{number}.{number}", f"etherd!e{number}.{number}")


def discover(guest: LinuxGuest, ways: list[Served]) -> None:
    for number in range(len(ways)):
        guest.check(f"ip link set eth{number} up")
    guest.check("echo > /dev/etherd/discover")
    for way in ways:
        wait_for(lambda way=way: up(guest, way), PATIENCE_S, f"{way.device} is not up")


def up(guest: LinuxGuest, way: Served) -> bool:
    return guest.run(f"cat /sys/block/{way.sysfs}/state").output == "up\n"


@pytest.fixture
def healthy(site: Site) -> Iterator[LinuxGuest]:
    """The guest, whose kernel must not complain of anything during the test."""
    site.guest.check("dmesg -c >/dev/null")
    yield site.guest
    assert trouble(site.guest) == ""


def make_filesystem(guest: LinuxGuest, way: Served) -> None:
    guest.run("umount /mnt 2>/dev/null")
    guest.check(f"/sbin/mke2fs -q -F -t ext4 {way.device}")
    mount(guest, way)


def mount(guest: LinuxGuest, way: Served) -> None:
    guest.check(f"mount -t ext4 {way.device} /mnt")


def unmount_and_check(guest: LinuxGuest, way: Served) -> None:
    """Every byte comes back from the target, because the last close empties the caches."""
    guest.check("umount /mnt")
    guest.check(f"/sbin/e2fsck -f -n {way.device}")
    mount(guest, way)
    done = checksums(guest)
    guest.check("umount /mnt")
    assert done.status == 0, done.output


each_way = pytest.mark.parametrize("number", range(len(WAYS)), ids=[f"{e}-mtu{mtu}" for mtu, e in WAYS])


@each_way
def test_filesystem(site: Site, healthy: LinuxGuest, number: int) -> None:
    way = site.ways[number]
    mtu, engine = WAYS[number]
    need_engine(engine)
    payload = int(healthy.check(f"cat /sys/block/{way.sysfs}/payload"))
    assert payload >= sectors_per_frame(mtu) * SECTOR
    make_filesystem(healthy, way)
    healthy.check("cp -r /tree /mnt")
    unmount_and_check(healthy, way)
    assert VBLADE_INSTEAD or ("engine_writes=" in way.target.counters()) is (engine == "c")


@each_way
def test_target_is_killed_while_files_are_copied(site: Site, healthy: LinuxGuest, number: int) -> None:
    way = site.ways[number]
    need_engine(WAYS[number][1])
    make_filesystem(healthy, way)
    settle(healthy, way)
    healthy.start(
        "mkdir /mnt/tree; for f in $(ls /tree); do"
        " dd if=/tree/$f of=/mnt/tree/$f bs=64k conv=fsync 2>/dev/null && echo copied || break; done"
    )
    copied = 0
    for goal in KILL_AFTER:
        for _ in range(goal - copied):
            healthy.see("copied")
        way.target.kill()
        copied = goal + stalled(healthy)
        assert copied < len(FILE_BYTES)
        way.target.restart()
    done = healthy.finish()
    assert done.status == 0
    assert copied + done.output.count("copied") == len(FILE_BYTES)
    unmount_and_check(healthy, way)


def settle(guest: LinuxGuest, way: Served) -> None:
    """Some hundred round trips: the driver's first retransmission timeout of 16.5 s shrinks with each."""
    guest.check(f"dd if={way.device} of=/dev/null bs=64k count=64 iflag=direct")


def stalled(guest: LinuxGuest) -> int:
    """Files that were ready when the target died. After that none is: the copy waits for a target."""
    ready, deadline = 0, time.monotonic() + PATIENCE_S
    while said := more(guest):
        assert time.monotonic() < deadline
        ready += said.count("copied")
    return ready


def more(guest: LinuxGuest) -> str:
    """What it has said for a while."""
    time.sleep(STALL_S)
    return guest.pending()


def test_trouble_and_spoilt_data_are_noticed(site: Site) -> None:
    """The checks above can fail: a byte that changes on the disk, and a target that stays away."""
    guest, way = site.guest, site.ways[SPOILT]
    make_filesystem(guest, way)
    guest.check("mkdir /mnt/tree && cp /tree/f07 /mnt/tree && umount /mnt")
    spoil(way.image, tree()["tree/f07"][4096:4608])
    mount(guest, way)
    assert "tree/f07: FAILED\n" in checksums(guest).output

    assert trouble(guest) == ""
    settle(guest, way)
    guest.check("echo 1 > /sys/module/aoe/parameters/aoe_deadsecs")
    way.target.kill()
    assert guest.run("dd if=/sums of=/mnt/late conv=fsync").status
    assert "I/O error" in trouble(guest)
    guest.check("echo 180 > /sys/module/aoe/parameters/aoe_deadsecs")
    guest.run("umount /mnt")


def spoil(image: Path, data: bytes) -> None:
    """Flip one bit of the place where some data is."""
    where = image.read_bytes().index(data)
    with image.open("r+b") as file:
        file.seek(where)
        file.write(bytes([data[0] ^ 1]))
