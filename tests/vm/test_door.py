"""A door that dies under a mounted filesystem, in a guest: another one is started, and nothing is lost."""

import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.nbd.nbdkit import DOOR, PLUGIN
from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.filesystem import guest_files, trouble
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import PATIENCE_S, LinuxGuest, add_tap, host, needs_qemu, tap_card
from tests.support.labs.guests.target import Export, TargetProcess, need_engine, ours
from tests.support.labs.nbdkit import need_nbdkit
from tests.support.labs.peers import image
from tests.support.tools import need, need_namespaces, which
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

SECTORS = (64 << 20) // 512
KILLS = int(os.environ.get("AOE_DOOR_KILLS", "2"))
SEED = int(os.environ.get("AOE_DOOR_SEED", "1"))
RESIDENT_MAX_KIB = 32 << 10
PAUSE_MAX_S = 4.0
SLOW = 4.0
"""How much longer things take under emulation on a busy machine."""
ATTACH = (
    "aoe-door -k -r /door /dev/nbd0 /sbin/nbdkit --threads=16 /lib/aoe_nbd_plugin.so"
    " address=1.0 interface=eth0 timeout=none"
)
_FILE = "$w.$((n%20))"
_WRITES = (
    "head -c 300000 /dev/urandom >/tmp/$w && cp /tmp/$w /mnt/FILE &&"
    " (cd /mnt && sha256sum FILE >/tmp/sum.FILE.new && sync FILE) && mv /tmp/sum.FILE.new /tmp/sum.FILE"
).replace("FILE", _FILE)
WRITERS = (
    f"n=0; while [ ! -e /tmp/stop ]; do for w in 1 2; do ({_WRITES} || touch /tmp/failed) & done; wait;"
    " n=$((n+1)); done; echo $n"
)
"""Two at a time; a file's checksum is kept where the disk is not."""


class Site(NamedTuple):
    target: TargetProcess
    guest: LinuxGuest


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    needs_qemu()
    need_namespaces()
    need("mkfs.ext4")
    need_engine("c")
    need_nbdkit()
    disk = image(tmp_path / "image", SECTORS)
    with host() as lab:
        add_tap(lab, "tap0", 9000)
        with (
            ours(Export(disk, 1, 0), tmp_path, lab=lab) as target,
            LinuxGuest(
                tmp_path, kernel(), with_door(), *tap_card("tap0", 9000), lab=lab, memory_mib=256
            ) as guest,
        ):
            yield Site(target, guest)


def with_door() -> GuestFiles:
    """The door has a root of its own, as after the initramfs is gone."""
    files = guest_files()
    files.copy_program(DOOR, "sbin/aoe-door")
    files.copy_program(Path(which("nbdkit") or ""), "sbin/nbdkit")
    files.copy_program(PLUGIN, "lib/aoe_nbd_plugin.so")
    return files


def log(guest: LinuxGuest) -> str:
    return guest.check("dmesg | grep aoe-door: || true")


def process(guest: LinuxGuest, name: str) -> int:
    """The one that is called so; 0: there is none."""
    look = f"for p in /proc/[0-9]*; do grep -q ^{name} $p/cmdline && basename $p; done; true"
    return int((guest.check(f"({look}) 2>/dev/null").split() or ["0"])[0])


def door(guest: LinuxGuest) -> int:
    """The process that serves."""
    wait_for(lambda: process(guest, "@/sbin/nbdkit") > 0, PATIENCE_S, lambda: log(guest), every_s=0.3)
    return process(guest, "@/sbin/nbdkit")


def back(guest: LinuxGuest, times: int) -> None:
    wait_for(
        lambda: log(guest).count("I/O goes on") >= times,
        PATIENCE_S,
        lambda: log(guest),
        every_s=0.3,
    )


def attach(guest: LinuxGuest) -> None:
    """With a tmpfs of its own as its root."""
    guest.check("ip link set eth0 mtu 9000 up && mkdir /door && mount -t tmpfs door /door")
    guest.check("cp -r /sbin /lib /lib64 /usr /door/ 2>/dev/null; true")
    guest.check(f"{ATTACH} 2>&1")


def resident_kib(guest: LinuxGuest, pid: int) -> int:
    return int(guest.check(f"awk '/VmRSS/ {{print $2}}' /proc/{pid}/status"))


def test_a_door_that_is_killed(site: Site) -> None:
    """Under two writers; the data is what was written, and the pauses are short."""
    guest, rng = site.guest, random.Random(SEED)
    attach(guest)
    assert int(guest.check("cat /sys/block/nbd0/size")) == SECTORS
    assert guest.check("cat /sys/block/nbd0/queue/io_timeout").strip() == "5000"
    guest.check("/sbin/mke2fs -q -F -t ext4 /dev/nbd0 && mount /dev/nbd0 /mnt")
    guest.check(f"({WRITERS}) >/tmp/wrote 2>&1 &")
    for number in range(KILLS):
        time.sleep(rng.uniform(0.5, 2.5))
        guest.check(f"kill -9 {door(guest)}")
        back(guest, number + 1)
    resident = resident_kib(guest, door(guest))
    time.sleep(1)
    guest.check("touch /tmp/stop")
    wait_for(
        lambda: guest.check("cat /tmp/wrote").strip().isdigit(), PATIENCE_S, lambda: log(guest), every_s=0.5
    )
    pauses = [float(it) for it in re.findall(r"I/O goes on after ([0-9.]+) s", log(guest))]
    assert int(guest.check("cat /tmp/wrote")) > KILLS
    assert guest.run("test -e /tmp/failed").status
    guest.check(f"kill {process(guest, '@aoe-door')}")
    wait_for(lambda: "in use" in log(guest), PATIENCE_S, lambda: log(guest), every_s=0.3)
    guest.check(f"umount /mnt && kill {process(guest, '@aoe-door')}")
    wait_for(lambda: "is detached" in log(guest), PATIENCE_S, lambda: log(guest), every_s=0.3)
    assert guest.check("cat /sys/block/nbd0/size").strip() == "0"

    guest.check(ATTACH)
    guest.check("/sbin/e2fsck -f -n /dev/nbd0")
    guest.check("mount -o ro /dev/nbd0 /mnt && cat /tmp/sum.*[0-9] >/tmp/sums && cd /mnt")
    guest.run("sha256sum -c /tmp/sums >/tmp/compared 2>&1; cd /")
    assert guest.check("grep -c OK /tmp/compared").strip() == guest.check("wc -l </tmp/sums").strip()
    assert guest.run("grep -v OK /tmp/compared").output == ""
    assert trouble(guest) == ""
    assert resident <= RESIDENT_MAX_KIB, f"{resident} KiB"
    assert max(pauses) < PAUSE_MAX_S * SLOW, pauses
    print(f"{KILLS} kills, pauses {pauses} s, {resident} KiB resident")
