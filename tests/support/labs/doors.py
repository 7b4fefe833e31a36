"""A guest whose disk stands on a door of two primaries, and what becomes of it when the door is killed."""

import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from aoe.nbd.nbdkit import DOOR, PLUGIN
from tests.support.labs.guests import versions
from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.filesystem import guest_files, trouble
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import PATIENCE_S, LinuxGuest, add_tap, host, tap_card
from tests.support.labs.guests.target import Export, TargetProcess, ours
from tests.support.labs.peers import image
from tests.support.tools import which
from tests.support.waiting import wait_for

SECTORS = (64 << 20) // 512
MEMORY_MIB = 256
STOPPED_S = 2.0
"""Longer than a frame may wait at a target."""
DEVICE = "/dev/nbd0"
ROOT = "/door"
"""What the door has as its root: a tmpfs of its own."""
PLUGIN_THERE = "/lib/aoe_nbd_plugin.so"
_FILE = "$w.$((n%20))"
_WRITES = (
    "head -c 300000 /dev/urandom >/tmp/$w && cp /tmp/$w /mnt/FILE &&"
    " (cd /mnt && sha256sum FILE >/tmp/sum.FILE.new && sync FILE) && mv /tmp/sum.FILE.new /tmp/sum.FILE"
).replace("FILE", _FILE)
EXPECTED = (
    "(Receive|Send) (control|data) failed|Request send failed, requeueing|Dead connection, failed to find"
    "|reconnected socket|Possible stuck request"
)
"""What nbd.ko says as a door dies and another one comes. What the dead one had under way is called stuck as
its timer repeats it, and so is what a primary takes long for."""
WRITERS = (
    f"n=0; while [ ! -e /tmp/stop ]; do for w in 1 2; do ({_WRITES} || touch /tmp/failed) & done; wait;"
    " n=$((n+1)); echo . >>/tmp/rounds; done; echo $n"
)
"""Two at a time; a file's checksum is kept where the disk is not."""
BEATS = (
    "while [ ! -e /tmp/stop ]; do read a _ </proc/uptime;"
    " dd if=/dev/zero of=/mnt/beat bs=4k count=20 conv=notrunc oflag=direct 2>/dev/null || touch /tmp/failed;"
    " read b _ </proc/uptime; t=$((${b%.*}${b#*.}-${a%.*}${a#*.})); echo $t >>/tmp/beats; done"
)
"""Twenty writes past the page cache, one after the other, again and again: how long they took, in 10 ms."""


def with_door() -> GuestFiles:
    """A guest with all that a door needs, and no Python."""
    files = guest_files()
    files.copy_program(DOOR, "sbin/aoe-door")
    files.copy_program(Path(which("nbdkit") or ""), "sbin/nbdkit")
    files.copy_program(PLUGIN, PLUGIN_THERE.lstrip("/"))
    if strace := which("strace"):
        files.copy_program(Path(strace), "bin/strace")
    return files


class DoorGuest:
    """The guest and its primaries of the disk `image`, e1.0 on eth0 and e2.0 on eth1."""

    def __init__(self, guest: LinuxGuest, primaries: list[TargetProcess], image: Path) -> None:
        self.guest = guest
        self.primaries = primaries
        self.image = image

    def words(self, *options: str) -> str:
        """How a door is called, by the script of an initramfs, too."""
        words = "timeout=none address=1.0 address=2.0 interface=eth0 interface=eth1"
        nbdkit = f"/sbin/nbdkit --threads=16 {PLUGIN_THERE} {words}"
        return f"aoe-door -k -r {ROOT} -b 4096 {' '.join(options)} {DEVICE} {nbdkit}"

    def attach(self) -> None:
        """And it stays."""
        self.guest.check(f"{self.words()} 2>&1")

    def detach(self) -> None:
        """And no door is left."""
        self.guest.check(f"kill {self.supervisor()}")
        self.says("is detached")
        assert not self.doors(), self.log()

    def prepare(self) -> None:
        """Cables, and the door's root."""
        self.guest.check(
            "for i in eth0 eth1; do ip link set $i up; done; mkdir /door; mount -t tmpfs door /door"
        )
        self.guest.run(f"cp -r /sbin /lib /lib64 /usr {ROOT}/ 2>/dev/null")

    def log(self) -> str:
        """What the supervisor has said."""
        return self.guest.check("dmesg | grep aoe-door: || true")

    def says(self, words: str, times: int = 1) -> None:
        """Wait until it has said that so often."""
        wait_for(lambda: self.log().count(words) >= times, PATIENCE_S, self.log, every_s=0.3)

    def noise(self) -> list[str]:
        """What the kernel has said of the device besides what the death of a door leaves."""
        look = f"dmesg | grep 'block {Path(DEVICE).name}:' | grep -vE '{EXPECTED}' || true"
        return self.guest.check(look).splitlines()

    def writes(self) -> None:
        """Wait until both writers have written once more."""
        before = self._rounds()
        wait_for(lambda: self._rounds() > before, PATIENCE_S, self.log, every_s=0.3)

    def _rounds(self) -> int:
        return len(self.guest.run("cat /tmp/rounds 2>/dev/null").output.split())

    def beats(self) -> list[float]:
        """Of the writer past the page cache, so far (s)."""
        return [int(it) / 100 for it in self.guest.run("cat /tmp/beats 2>/dev/null").output.split()]

    def processes(self, name: str) -> list[int]:
        """Those that are called so."""
        look = f"for p in /proc/[0-9]*; do grep -q ^{name} $p/cmdline && basename $p; done; true"
        return [int(it) for it in self.guest.check(f"({look}) 2>/dev/null").split()]

    def process(self, name: str) -> int:
        """The first one; 0: there is none."""
        return (self.processes(name) or [0])[0]

    def stat(self, pid: int) -> list[int]:
        """Of a process, from its parent on, without its state (proc(5))."""
        return [int(it) for it in self.guest.check(f"cat /proc/{pid}/stat").rpartition(") ")[2].split()[1:]]

    def supervisor(self) -> int:
        """Its number."""
        return self.process("@aoe-door")

    def doors(self) -> list[int]:
        """The processes that serve."""
        return self.processes("@/sbin/nbdkit")

    def door(self) -> int:
        """The first one, as soon as there is one."""
        wait_for(lambda: bool(self.doors()), PATIENCE_S, self.log, every_s=0.3)
        return self.doors()[0]

    def kill_door(self) -> None:
        """SIGKILL."""
        self.guest.check(f"kill -9 {self.door()}")

    def stop(self, seconds: float) -> None:
        """Supervisor and door do not run for so long, as while a system shuts down."""
        both = f"{self.supervisor()} {self.door()}"
        self.guest.check(f"kill -STOP {both} && sleep {seconds} && kill -CONT {both}")

    def grow(self, sectors: int) -> None:
        """Both primaries are down meanwhile."""
        for primary in self.primaries:
            primary.kill()
        os.truncate(self.image, sectors * 512)
        for primary in self.primaries:
            primary.restart()

    def opened(self) -> list[str]:
        """What is opened and executed as another door is started, when the initramfs was emptied as by what
        goes on to a root file system: one system call a line, behind its process."""
        supervisor, before = self.supervisor(), self.log().count("I/O goes on")
        self.guest.check(f"(strace -f -qq -e trace=file -o /tmp/opened -p {supervisor}) >/tmp/strace 2>&1 &")
        traced = f"grep -q 'TracerPid:.[1-9]' /proc/{supervisor}/task/*/status"
        wait_for(lambda: not self.guest.run(traced).status, PATIENCE_S, every_s=0.3)
        self.guest.check("rm -rf /sbin /lib /lib64 /usr /modules /tree")
        self.kill_door()
        self.says("I/O goes on", before + 1)
        self.guest.check(f"kill {self.process('strace')}")
        wait_for(lambda: not self.process("strace"), PATIENCE_S, every_s=0.3)
        return self.guest.check("cat /tmp/opened").splitlines()

    def peak_kib(self) -> int:
        """The most memory that the door that serves had at a time."""
        return int(self.guest.check(f"awk '/VmHWM/ {{print $2}}' /proc/{self.door()}/status"))


@contextmanager
def door_guest(
    work: Path,
    *arguments: str,
    mtu: int = 9000,
    files: GuestFiles | None = None,
    disk: Path | None = None,
) -> Iterator[DoorGuest]:
    """Booted, with nothing attached. `arguments` are the emulator's; `disk` has `SECTORS`."""
    disk = disk or image(work / "image", SECTORS)
    with ExitStack() as stack:
        lab = stack.enter_context(host())
        primaries = []
        for number, tap in enumerate(("tap0", "tap1")):
            add_tap(lab, tap, mtu)
            directory = work / tap
            directory.mkdir()
            export = Export(disk, number + 1, 0, tap)
            served = ours(export, directory, "--serial", "ONE", "--shared", lab=lab)
            primaries.append(stack.enter_context(served))
        machine = [*tap_card("tap0", mtu), *tap_card("tap1", mtu), *arguments]
        guest = LinuxGuest(work, kernel(), files or with_door(), *machine, lab=lab, memory_mib=MEMORY_MIB)
        yield DoorGuest(stack.enter_context(guest), primaries, disk)


def run(work: Path, seed: int, times: int, disk: Path | None = None) -> dict[str, Any]:
    """Kill the door so often under three writers, every other time while a primary dies, too; look at all
    that was written. What a ledger wants: calls, faults, and the longest that twenty writes took, one after
    the other, with all primaries present and with one absent; also how long the `doors` were away, and the
    `newest` version at each place (`versions`)."""
    rng, faults = random.Random(seed), list[str]()
    with door_guest(work, disk=disk) as there:
        guest = there.guest
        there.prepare()
        there.attach()
        mke2fs = "/sbin/mke2fs -q -F -b 4096 -t ext4"
        guest.check(f"{mke2fs} {DEVICE} && mount {DEVICE} /mnt")
        guest.check(f"({WRITERS}) >/tmp/wrote 2>&1 &")
        guest.check(f"dd if=/dev/zero of=/mnt/{versions.FILE} bs=4k count=2 conv=fsync 2>/dev/null")
        for place in versions.PLACES:
            guest.check(f"({versions.writer(place, '/mnt', '/tmp')}) >/dev/null 2>&1 &")
        guest.check(f"({BEATS}) >/dev/null 2>&1 &")
        killed = [_kill(there, rng, number) for number in range(times)]
        there.stop(STOPPED_S)
        there.writes()
        peak_kib = there.peak_kib()
        guest.check("touch /tmp/stop")
        ended = " ".join(f"/tmp/over.{place}" for place in versions.PLACES)
        over = f"cat {ended} /tmp/wrote"
        wait_for(lambda: guest.run(over).output.strip().isdigit(), PATIENCE_S, there.log, every_s=0.5)
        away = [float(it) for it in re.findall(r"I/O goes on after ([0-9.]+) s", there.log())]
        wrote = int(guest.check("cat /tmp/wrote"))
        faults += [] if guest.run("test -e /tmp/failed").status else ["a write failed"]
        faults += [] if (stale := guest.run("cat /tmp/stale")).status else [f"stale: {stale.output}"]
        newest = {it: int(guest.check(f"cat /tmp/p.{it}").split()[1]) for it in versions.PLACES}
        faults += there.noise()
        faults += _compared(there)
    return {
        "calls": 2 * wrote,
        "pause_s": max(killed[::2], default=0.0),
        "pause_absent_s": max(killed[1::2], default=0.0),
        "doors_s": away,
        "peak_kib": peak_kib,
        "newest": newest,
        "faults": faults,
    }


def _kill(there: DoorGuest, rng: random.Random, number: int) -> float:
    """The longest that twenty writes took meanwhile (s). Each second time one primary is not there."""
    there.writes()
    before = len(there.beats())
    time.sleep(rng.uniform(0.3, 2.0))
    alone = number % 2 == 0
    primary = rng.choice(there.primaries)
    if not alone:
        primary.kill()
    there.kill_door()
    there.says("I/O goes on", number + 1)
    if not alone:
        primary.restart()
        time.sleep(1.0)
    wait_for(lambda: len(there.beats()) > before + 2, PATIENCE_S, there.log, every_s=0.3)
    return max(there.beats()[before:])


def _compared(there: DoorGuest) -> list[str]:
    """What is wrong with the disk, once it was unmounted, detached and attached again."""
    guest, faults = there.guest, list[str]()
    guest.check(f"kill {there.supervisor()}")
    there.says("is in use")
    guest.check(f"umount /mnt && kill {there.supervisor()}")
    there.says("is detached")
    there.attach()
    checked = guest.run(f"/sbin/e2fsck -f -n {DEVICE}")
    faults += [checked.output] if checked.status else []
    guest.check(f"mount -o ro {DEVICE} /mnt && cat /tmp/sum.*[0-9] >/tmp/sums && cd /mnt")
    faults += (
        [] if not guest.run(f"cat /tmp/p.[0-9] | cmp - {versions.FILE}").status else ["a version was lost"]
    )
    compared = guest.run("sha256sum -c /tmp/sums 2>&1; cd /").output.splitlines()
    wanted = int(guest.check("wc -l </tmp/sums"))
    faults += [it for it in compared if not it.endswith(": OK")]
    faults += [] if len(compared) == wanted > 0 else [f"{len(compared)} of {wanted} files"]
    return faults + trouble(guest).splitlines()
