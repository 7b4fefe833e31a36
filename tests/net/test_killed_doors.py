"""A door that is killed, and what the primaries carry out of what it had sent: none of it late."""

import ctypes
import os
import signal
import time
from pathlib import Path

from tests.nbd.test_left import Estate
from tests.net.killed_doors import Doors, doors, run
from tests.support.waiting import wait_for

ENGINES = ("c",)
KILLS, SEED = 3, 1
OWNER_KNOWN = 1 << 32


def test_nothing_that_a_dead_door_sent_lands_late(tmp_path: Path) -> None:
    said = run(tmp_path, SEED, KILLS)
    assert not said["faults"], said
    assert said["calls"] > 100


def test_without_its_fence_it_does(tmp_path: Path) -> None:
    """So what the other test sees is the fence's doing, and it looks for it: the owner stands still, with a
    write of the door under way, and the next door is not told of it."""
    with doors(tmp_path) as there:
        there.device.goes_on()
        there.hold_write()
        forgetful(there)
        there.go_on_after(1)
        there.device.goes_on()
        there.device.end()
        now_s = time.monotonic()
        there.disk.let_write_go()
        wait_for(lambda: any(it.ended_s > now_s for it in there.disk.writes()))
        assert any("was read from" in it for it in there.faults())


def forgetful(there: Doors) -> None:
    """Kill the door; what it had under way is not known to the next one, and its server stands still."""
    supervisor = there.supervisor.process.pid
    with there.supervisor.estate() as memory:
        owner = Estate.from_buffer_copy(os.read(memory, ctypes.sizeof(Estate))).owner
        assert owner & OWNER_KNOWN
        first = (owner & ~OWNER_KNOWN) == 1 << 8
        os.kill(there.primaries.both[not first].pid, signal.SIGSTOP)
        os.kill(supervisor, signal.SIGSTOP)
        (door,) = there.device.doors()
        os.kill(door, signal.SIGKILL)
        wait_for(lambda: state(door) == "Z")
        os.pwrite(memory, bytes(Estate.slots.size), Estate.slots.offset)
    os.kill(supervisor, signal.SIGCONT)
    there.device.until_true(lambda: there.device.doors() not in ([], [door]))


def state(pid: int) -> str:
    """As proc(5) has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
