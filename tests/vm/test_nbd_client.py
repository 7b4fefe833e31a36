"""A block device without the AoE driver: in a guest, `aoe nbd` and nbd-client as the manual shows them."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.nbd.nbdkit import PLUGIN
from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.filesystem import checksums, guest_files, trouble
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import PATIENCE_S, LinuxGuest, add_tap, host, needs_qemu, tap_card
from tests.support.labs.guests.python import add_python
from tests.support.labs.guests.target import Export, TargetProcess, need_engine, ours
from tests.support.labs.nbdkit import need_nbdkit
from tests.support.labs.peers import image
from tests.support.tools import need, need_namespaces, which
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

SECTORS = (64 << 20) // 512
SOCKET = "/tmp/disk.sock"
DEVICE = "/dev/nbd0"
COMMAND = ("aoe.cli.client", "aoe.cli.running", "aoe.cli.nbd", "aoe.cli.where", "aoe.disk.threads")
"""What `aoe nbd` loads, and when."""
AWAY_S = 2.0


class Site(NamedTuple):
    target: TargetProcess
    guest: LinuxGuest


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A target on this side of a tap; on the other a guest with `aoe`, nbdkit and nbd-client."""
    needs_qemu()
    need_namespaces()
    need("mkfs.ext4", "nbd-client")
    need_engine("c")
    need_nbdkit()
    disk = image(tmp_path / "image", SECTORS)
    with host() as lab:
        add_tap(lab, "tap0", 9000)
        with (
            ours(Export(disk, 1, 0), tmp_path, lab=lab) as target,
            LinuxGuest(
                tmp_path, kernel(), with_door(), *tap_card("tap0", 9000), lab=lab, memory_mib=512
            ) as guest,
        ):
            yield Site(target, guest)


def with_door() -> GuestFiles:
    files = guest_files()
    python = add_python(files, *COMMAND, "aoe.engine", "asyncio.subprocess", "uvloop")
    files.add("bin/aoe", f'#!/bin/sh\nexec {python} -m aoe.cli.client "$@"\n'.encode(), 0o755)
    for program in ("nbdkit", "nbd-client"):
        files.copy_program(Path(which(program) or ""), f"sbin/{program}")
    files.copy_program(PLUGIN)
    return files


def connect(guest: LinuxGuest) -> None:
    guest.check(f"aoe nbd e1.0 --interface eth0 --socket {SOCKET} >/tmp/said 2>&1 & echo $! >/tmp/aoe")
    wait_for(lambda: f"nbd: {SOCKET} serves" in guest.check("cat /tmp/said"), PATIENCE_S, "not served")
    guest.check(f"nbd-client -unix {SOCKET} {DEVICE}")


def disconnect(guest: LinuxGuest) -> None:
    guest.check(f"nbd-client -d {DEVICE}")
    guest.check("kill $(cat /tmp/aoe) && wait $(cat /tmp/aoe)")


def test_a_mounted_filesystem(site: Site) -> None:
    """It outlives a target that is away for two seconds, and is there after everything is closed."""
    guest = site.guest
    guest.check("ip link set eth0 up")
    connect(guest)
    assert int(guest.check("cat /sys/block/nbd0/size")) == SECTORS
    guest.check(f"/sbin/mke2fs -q -F -t ext4 {DEVICE} && mount {DEVICE} /mnt")
    site.target.kill()
    guest.start("cp -r /tree /mnt && sync && echo copied")
    time.sleep(AWAY_S)
    assert "copied" not in guest.pending(), "the target was not missed"
    site.target.restart()
    done = guest.finish()
    assert (done.status, done.output) == (0, "copied\n")
    guest.check("umount /mnt")
    disconnect(guest)

    connect(guest)
    guest.check(f"/sbin/e2fsck -f -n {DEVICE}")
    guest.check(f"mount -o ro {DEVICE} /mnt")
    done = checksums(guest)
    assert done.status == 0, done.output
    guest.check("umount /mnt")
    disconnect(guest)
    assert trouble(guest) == ""
