"""A block device without the AoE driver: in a guest, `aoe nbd` and nbd-client as the manual shows them."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.nbd.nbdkit import DOOR, PLUGIN
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
KILL_DOOR = "for p in /proc/[0-9]*; do grep -q ^@/sbin/nbdkit $p/cmdline && kill -9 ${p#/proc/}; done; true"


class Site(NamedTuple):
    target: TargetProcess
    guest: LinuxGuest
    disk: Path


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
            yield Site(target, guest, disk)


def with_door() -> GuestFiles:
    files = guest_files()
    python = add_python(files, *COMMAND, "aoe.engine", "asyncio.subprocess", "uvloop")
    files.add("bin/aoe", f'#!/bin/sh\nexec {python} -m aoe.cli.client "$@"\n'.encode(), 0o755)
    for program in ("nbdkit", "nbd-client"):
        files.copy_program(Path(which(program) or ""), f"sbin/{program}")
    files.copy_program(PLUGIN)
    files.copy_program(DOOR)
    return files


def start(guest: LinuxGuest, words: str) -> None:
    """`aoe nbd` in the background. What an earlier one has said is forgotten before."""
    guest.check(f": >/tmp/said; aoe nbd e1.0 --interface eth0 {words} >>/tmp/said 2>&1 & echo $! >/tmp/aoe")


def connect(guest: LinuxGuest) -> None:
    start(guest, f"--socket {SOCKET}")
    said_soon(guest, f"nbd: {SOCKET} serves")
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


def test_a_device_that_is_attached(site: Site) -> None:
    """By `aoe nbd` itself: it outlives nbdkit, grows, and SIGTERM has no effect while it is mounted."""
    guest = site.guest
    guest.check("ip link set eth0 up && mkdir -p /run")
    start(guest, f"--attach {DEVICE}")
    said_soon(guest, f"nbd: {DEVICE} serves e1.0, {SECTORS * 512} bytes")
    assert "usable" in guest.check(f"aoe nbd --status {DEVICE}")
    guest.check(f"/sbin/mke2fs -q -F -t ext4 {DEVICE} && mount {DEVICE} /mnt && cp -r /tree /mnt")
    guest.check(KILL_DOOR)
    said_soon(guest, "I/O goes on")
    guest.check("sync")
    with site.disk.open("r+b") as file:
        file.truncate(2 * SECTORS * 512)
    site.target.process.send_signal(signal.SIGHUP)
    wait_for(lambda: size_of(guest) == 2 * SECTORS, PATIENCE_S, lambda: guest.check("cat /tmp/said"))
    guest.check("kill $(cat /tmp/aoe)")
    said_soon(guest, "in use")
    done = checksums(guest)
    assert done.status == 0, done.output
    guest.check("umount /mnt && kill $(cat /tmp/aoe) && wait $(cat /tmp/aoe)")
    assert size_of(guest) == 0
    assert trouble(guest) == ""


def said_soon(guest: LinuxGuest, words: str) -> None:
    """Wait until `aoe nbd` has."""
    wait_for(lambda: words in guest.check("cat /tmp/said"), PATIENCE_S, lambda: guest.check("cat /tmp/said"))


def size_of(guest: LinuxGuest) -> int:
    """In sectors, as the kernel knows it."""
    return int(guest.check("cat /sys/block/nbd0/size"))
