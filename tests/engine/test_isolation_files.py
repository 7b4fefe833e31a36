"""Files on a disk that hangs cost nobody else anything: filesystems wait where they were asked not to."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.wire.protocol import SECTOR
from tests.engine.setups import BUFFERED, DIRECT, NO_URING, WRITTEN_BACK, Setup
from tests.support.labs.engine_target import LAUNCH, counted
from tests.support.labs.fault_disk import FuseDisk, few_slots, loop_device, mounted_file
from tests.support.labs.load import DATA, PIECE, read_request, replies, write_request
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget
from tests.support.labs.raw_client import Client
from tests.support.tools import need_engine

SLOTS = 32
"""Of a disk with one queue (SATA): fewer than an export may have outstanding."""
SIZE = 48 << 20
ANSWER_S = 30.0
HUNG_S = 0.3


class Asked(NamedTuple):
    """How the file is served, and what it is asked for after its disk hung; `warm`: it was read before."""

    setup: Setup
    reads: int = 300
    writes: int = 0
    warm: bool = False


PYTHON = Setup("python", engine="python")
ASKED = {
    "buffered": Asked(BUFFERED),
    "buffered-writes": Asked(BUFFERED, 100, 100),
    "write-back": Asked(WRITTEN_BACK, 100, 100, warm=True),
    "direct": Asked(DIRECT),
    "direct-writes": Asked(DIRECT, 100, 100),
    "no-uring": Asked(BUFFERED._replace(launcher=NO_URING), 100, 100),
    "python": Asked(PYTHON),
    "python-writes": Asked(PYTHON, 100, 100, warm=True),
}


class Neighbours(NamedTuple):
    """A target, the disk under one of its files, that file's client, and the client of another disk."""

    target: AoeTarget
    disk: FuseDisk
    victim: Client
    healthy: Client


@contextmanager
def neighbours(lab: Lab, work: Path, setup: Setup) -> Iterator[Neighbours]:
    with ExitStack() as stack:
        disk = stack.enter_context(FuseDisk(work / "sick", plugin=("memory", "96M")))
        device = stack.enter_context(loop_device(disk.path))
        file = stack.enter_context(mounted_file(device, work / "mount", SIZE))
        stack.enter_context(few_slots(device, SLOTS))
        stack.callback(disk.resume)
        healthy = stack.enter_context(FuseDisk(work / "healthy", plugin=("memory", "16M"))).path
        if setup.engine == "c":
            need_engine()
        exports = (f"{file}=1.0", f"{healthy}=2.1", "--engine", setup.engine, *setup.options)
        launcher = [LAUNCH, *setup.launcher, "--"]
        target = stack.enter_context(AoeTarget(lab, work, *exports, launcher=launcher))
        stack.callback(disk.resume)
        victim = lab.client(1, 0, mac=bytes((2, 0, 0, 0, 0, 9)), retries=0)
        yield Neighbours(target, disk, victim, lab.client(2, 1, timeout=ANSWER_S, retries=1))


def scattered(number: int) -> list[int]:
    """Places that the block layer cannot join to one request."""
    return random.Random(number).sample(range(4096, SIZE // SECTOR - PIECE, 32), number)


def leave_waiting(victim: Client, asked: Asked) -> None:
    places = scattered(asked.reads + asked.writes)
    for lba in places[: asked.reads]:
        victim.send(read_request(victim, lba))
    for lba in places[asked.reads :]:
        victim.send(write_request(victim, lba))


@pytest.mark.parametrize("name", ASKED)
def test_a_file_on_a_disk_that_hangs_does_not_stop_another(name: str, lab: Lab, tmp_path: Path) -> None:
    asked = ASKED[name]
    with neighbours(lab, tmp_path, asked.setup) as it:
        if asked.warm:
            it.victim.read(0)
        it.disk.hang()
        leave_waiting(it.victim, asked)
        list(replies(it.victim, HUNG_S))  # writes into the page cache may have been answered
        for lba in range(0, 4 * PIECE, PIECE):
            it.healthy.write(lba, DATA)
            assert it.healthy.read(lba, PIECE) == DATA
        it.healthy.flush()
        assert not list(replies(it.victim, 0)), "it did not hang"
        numbers = counted(it.target)
        assert numbers["writes"] >= 4
        assert numbers["reads"] >= 4
        assert bool(numbers["engine_writes"]) == (asked.setup.engine == "c")


def test_a_disk_that_answers_again_is_asked_by_the_loop_again(lab: Lab, tmp_path: Path) -> None:
    """All that hung is answered, none of it twice, and what it holds is right."""
    asked = ASKED["buffered"]
    with neighbours(lab, tmp_path, asked.setup) as it:
        expected = {lba: it.victim.read(lba, PIECE) for lba in (0, 64)}
        it.disk.hang()
        leave_waiting(it.victim, asked)
        time.sleep(HUNG_S)
        it.disk.resume()
        answered = [header.tag for header in replies(it.victim, 3.0)]
        assert len(answered) == len(set(answered))
        assert (
            len(answered) + counted(it.target)["queue_full"] + counted(it.target)["ring_full"] == asked.reads
        )
        assert {lba: it.victim.read(lba, PIECE) for lba in expected} == expected
