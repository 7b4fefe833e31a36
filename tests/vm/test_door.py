"""A door that dies under a mounted filesystem, in a guest: another one is started, and nothing is lost."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.labs.doors import DEVICE, SECTORS, DoorGuest, door_guest, run
from tests.support.labs.guests.filesystem import trouble
from tests.support.labs.guests.machine import PATIENCE_S, needs_qemu
from tests.support.labs.guests.target import need_engine
from tests.support.labs.nbdkit import need_nbdkit
from tests.support.tools import need, need_namespaces
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

KILLS, SEED = 2, 1
IO_FLUSHER = 0x80000 | 0x100000
"""What PR_SET_IO_FLUSHER sets among a process's flags: PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE."""
IO_TIMEOUT_MS = 2000
RESIDENT_MAX_KIB = 32 << 10
PAUSE_MAX_S = 4.0
SLOW = 15.0
"""How much longer things take under emulation on a machine that has a lot more to do."""


@pytest.fixture(autouse=True)
def possible() -> None:
    needs_qemu()
    need_namespaces()
    need("mkfs.ext4", "strace")
    need_engine("c")
    need_nbdkit()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[DoorGuest]:
    with door_guest(tmp_path) as there:
        there.prepare()
        yield there


def test_a_door_that_is_killed(tmp_path: Path) -> None:
    """Under two writers, once while a primary is killed, too."""
    said = run(tmp_path, SEED, KILLS)
    assert not said["faults"], said
    assert said["calls"] > 2 * KILLS
    assert len(said["doors_s"]) == KILLS
    assert said["peak_kib"] <= RESIDENT_MAX_KIB
    assert said["pause_s"] < PAUSE_MAX_S * SLOW


def test_a_door_of_a_root(there: DoorGuest) -> None:
    """What it is to the system around it, one after the other in one guest."""
    _is_told_of_at_any_descriptor(there)
    noise = there.noise()
    assert noise, "a device that is detached is told of"
    there.attach()
    _is_alone(there)
    _is_a_part_of_io(there)
    _hears_no_signal(there)
    _repeats_after(there, IO_TIMEOUT_MS)
    _stays_small(there)
    _needs_nothing_outside(there)
    _repeats_after(there, IO_TIMEOUT_MS)
    _has_not_the_device(there)
    assert there.noise() == noise
    _grows_while_it_is_mounted(there)
    there.detach()
    _says_whole_lines(there)


def _is_told_of_at_any_descriptor(there: DoorGuest) -> None:
    """Also at 3, where a door has its socket."""
    ready = there.words("-f", "--ready", "3")
    there.guest.check(f"({ready} 3>/tmp/ready; echo $? >/tmp/ended) >/dev/null 2>&1 &")
    over = "[ -s /tmp/ready -o -s /tmp/ended ]"
    wait_for(lambda: not there.guest.run(over).status, PATIENCE_S, there.log, every_s=0.3)
    assert not there.guest.run("[ -s /tmp/ready ]").status, there.log()
    there.detach()


def _is_alone(there: DoorGuest) -> None:
    """Another one finds the device attached, and leaves it as it is."""
    door = there.door()
    assert there.guest.run(there.words("-f")).status == 1
    there.says("the device is attached already")
    assert there.doors() == [door]


def _is_a_part_of_io(there: DoorGuest) -> None:
    """No shutdown, no memory that is short, and no script that ends takes it away."""
    supervisor = there.supervisor()
    for pid in (supervisor, there.door()):
        parent, _, session, _, _, flags = there.stat(pid)[:6]
        assert session == supervisor
        assert parent == (1 if pid == supervisor else supervisor)
        assert flags & IO_FLUSHER == IO_FLUSHER
        assert there.guest.check(f"cat /proc/{pid}/oom_score_adj").strip() == "-1000"
        (locked,) = re.findall(r"VmLck:\s+(\d+) kB", there.guest.check(f"cat /proc/{pid}/status"))
        assert int(locked) > 0, "its memory is locked as it is used"
    there.guest.check(f"/sbin/mke2fs -q -F -b 4096 -t ext4 {DEVICE} && mount {DEVICE} /mnt")
    there.guest.check(f"kill {supervisor}")
    there.says("the signal has no effect")


def _hears_no_signal(there: DoorGuest) -> None:
    """The door itself: it waits in vain, whichever thread it might reach."""
    door = there.door()
    there.guest.check(f"kill {door} && dd if={DEVICE} of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null")
    (pending,) = re.findall(r"ShdPnd:\s+(\w+)", there.guest.check(f"cat /proc/{door}/status"))
    assert int(pending, 16) == 1 << (signal.SIGTERM - 1)
    assert there.doors() == [door]


def _repeats_after(there: DoorGuest, patience_ms: int) -> None:
    """What was under way as a door died: no connection that follows sets that back."""
    assert int(there.guest.check(f"cat /sys/block/{Path(DEVICE).name}/queue/io_timeout")) == patience_ms


def _has_not_the_device(there: DoorGuest) -> None:
    """A door that was started while its supervisor had it open."""
    both = (there.supervisor(), there.door())
    supervisor, door = (there.guest.check(f"ls -l /proc/{pid}/fd") for pid in both)
    assert f"-> {DEVICE}\n" in supervisor
    assert DEVICE not in door


def _stays_small(there: DoorGuest) -> None:
    """Also when each of its threads has had the largest request of the kernel. The last quarter is for what a
    primary takes that goes under full load: 5 MiB."""
    read = f"dd if={DEVICE} of=/dev/null bs=4M count=4 iflag=direct"
    there.guest.check(f"for i in 1 2 3 4 5 6 7 8; do {read} 2>/dev/null & done; wait")
    assert there.peak_kib() <= RESIDENT_MAX_KIB * 3 // 4


def _needs_nothing_outside(there: DoorGuest) -> None:
    tasks = {int(it) for it in there.guest.check(f"ls /proc/{there.supervisor()}/task").split()}
    first, *others = there.opened()
    calls = [(int(line.split()[0]), line) for line in (first, *others)]
    assert not [line for pid, line in calls if pid in tasks], "its supervisor opens nothing"
    assert 'chroot(".")' in first, "a door opens nothing before that is its root"
    assert [line for line in others if 'execve("/sbin/nbdkit"' in line]


def _says_whole_lines(there: DoorGuest) -> None:
    """To the kernel's log. What nbdkit says comes in pieces."""
    said = there.guest.check(r"dmesg | grep -e nbdkit -e 'e[12]\.0 at ' -e 'nbd0 is '").splitlines()
    assert said
    assert not [line for line in said if "] aoe-door: " not in line]


def _grows_while_it_is_mounted(there: DoorGuest) -> None:
    there.grow(2 * SECTORS)
    there.says(f"the disk has grown to {2 * SECTORS * 512} bytes")
    size = f"cat /sys/block/{Path(DEVICE).name}/size"
    wait_for(lambda: int(there.guest.check(size)) == 2 * SECTORS, PATIENCE_S, there.log, every_s=0.3)
    there.guest.check("echo more >/mnt/file && sync && umount /mnt")
    assert not trouble(there.guest)
