"""A door that dies under a mounted filesystem, in a guest: another one is started, and nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.labs.doors import DoorGuest, door_guest, run
from tests.support.labs.guests.machine import PATIENCE_S, needs_qemu
from tests.support.labs.guests.target import need_engine
from tests.support.labs.nbdkit import need_nbdkit
from tests.support.tools import need, need_namespaces
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

KILLS, SEED = 2, 1
RESIDENT_MAX_KIB = 32 << 10
PAUSE_MAX_S = 4.0
SLOW = 4.0
"""How much longer things take under emulation on a busy machine."""


@pytest.fixture(autouse=True)
def possible() -> None:
    needs_qemu()
    need_namespaces()
    need("mkfs.ext4")
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
    assert len(said["pauses_s"]) == KILLS
    assert said["peak_kib"] <= RESIDENT_MAX_KIB
    assert said["pause_s"] < PAUSE_MAX_S * SLOW


def test_what_is_attached_already_keeps_no_other_door(there: DoorGuest) -> None:
    there.attach()
    door = there.door()
    assert there.guest.run(there.words("-f")).status == 1
    there.says("the device is attached already")
    assert there.doors() == [door]
    there.detach()


def test_readiness_is_told_at_any_descriptor(there: DoorGuest) -> None:
    """Also at 3, where a door has its socket."""
    ready = there.words("-f", "--ready", "3")
    there.guest.check(f"({ready} 3>/tmp/ready; echo $? >/tmp/ended) >/dev/null 2>&1 &")
    over = "[ -s /tmp/ready -o -s /tmp/ended ]"
    wait_for(lambda: not there.guest.run(over).status, PATIENCE_S, there.log, every_s=0.3)
    assert not there.guest.run("[ -s /tmp/ready ]").status, there.log()
    there.detach()
