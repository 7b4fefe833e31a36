"""A virtual machine with its disk on `aoe nbd` over two primaries, of which it loses one after the other."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.labs.guests.filesystem import checksums, guest_files, trouble
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import PATIENCE_S, LinuxGuest, needs_qemu
from tests.support.labs.nbdkit import child_of, nbd_door, owner_address, socket_path
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.primaries import ADDRESSES, Primaries, primaries
from tests.support.tools import need
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

SECTORS = (64 << 20) // 512
DISK = "/dev/vda"
MKFS = "/sbin/mke2fs -q -F -t ext4 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0"
"""Everything is written at once: nothing is left for the kernel to do later."""


class Site(NamedTuple):
    """What the guest's disk stands on: `store` is the file that both primaries serve."""

    store: Path
    there: Primaries
    socket: Path
    door: "subprocess.Popen[Any]"
    guest: LinuxGuest

    def owner(self) -> AoeTarget:
        """The primary that carries what the guest asks for. Reads do not tell: while servers are compared,
        both are read."""
        return self.there.first if owner_address(self.socket) == ADDRESSES[0] else self.there.second


def served(target: AoeTarget) -> int:
    """How many reads and writes a primary has answered since its start; 0 if it is away."""
    said = target.counters() if target.alive else ""
    return sum(map(int, re.findall(r"\b(?:engine_)?(?:reads|writes)=(\d+)", said)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    needs_qemu()
    need("mkfs.ext4")
    directory = tmp_path_factory.mktemp("site")
    store = image(directory / "disk", SECTORS)
    with (
        primaries(directory, (store, store), "--shared") as there,
        socket_path() as socket,
        nbd_door(there.lab, "client", socket, *ADDRESSES) as door,
        LinuxGuest(directory, kernel(), guest_files(), *drive(socket)) as guest,
    ):
        yield Site(store, there, socket, door, guest)


def drive(socket: Path) -> list[str]:
    """QEMU arguments for a disk behind a socket; errors of the disk become the guest's. To write takes longer
    than this process may be kept from running."""
    disk = f"file=nbd+unix:///?socket={socket},format=raw,if=virtio,cache=none"
    return ["-drive", f"{disk},werror=report,rerror=report,throttling.bps-write={1 << 20}"]


def lose_while_written(site: Site) -> AoeTarget:
    """Kill the owner once some of what the guest writes has arrived."""
    with lost_by(site) as lost:
        before = blocks(site.store)
        site.guest.start(f"{MKFS} {DISK}")
        wait_for(lambda: blocks(site.store) > before, PATIENCE_S, "nothing is written")
        lost.kill()
    return lost


def lose_before_read(site: Site) -> None:
    """Kill the owner when all that is read is still to be asked for."""
    with lost_by(site) as lost:
        lost.kill()
        site.guest.start(f"/sbin/e2fsck -f -n {DISK}")


@contextmanager
def lost_by(site: Site) -> Iterator[AoeTarget]:
    """The owner. The command that runs in the end succeeds; some of its work has the other primary done."""
    lost = site.owner()
    other = site.there.other(lost)
    before = served(other)
    yield lost
    done = site.guest.finish()
    assert done.status == 0, done.output
    assert served(other) > before


def blocks(path: Path) -> int:
    """How much of a sparse file is there."""
    return path.stat().st_blocks


def test_mkfs_and_fsck_survive_the_loss_of_a_primary(site: Site) -> None:
    guest = site.guest
    guest.check("dmesg -c >/dev/null")
    lost = lose_while_written(site)
    lost.start()
    guest.check(f"mount -t ext4 {DISK} /mnt && cp -r /tree /mnt && umount /mnt")
    lose_before_read(site)  # the other one, unless that was silent for a second
    guest.check(f"mount -t ext4 -o ro {DISK} /mnt")
    done = checksums(guest)
    assert done.status == 0, done.output
    assert trouble(guest) == ""
    guest.check("umount /mnt")


def test_the_loss_of_the_door_is_noticed(site: Site) -> None:
    """The checks above can fail: an error that QEMU gets is the guest's, and in its kernel's log."""
    nbdkit = Path("/proc", str(child_of(site.door)))
    site.door.kill()
    wait_for(lambda: not nbdkit.exists(), what="it outlives its parent")
    assert site.guest.run(f"dd if={DISK} of=/dev/null bs=4k count=1 iflag=direct").status
    assert "I/O error" in trouble(site.guest)
