"""A disk whose sync failed serves again once the operator says so, and not before (order rule T6)."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from aoe.drive.identify import vendor_of
from tests.disk.helpers import noise
from tests.engine import reopening_target
from tests.engine.test_faults import FAULT, GOOD, SECTORS, impatient, result
from tests.support.labs.fault_disk import FuseDisk, loop_device
from tests.support.labs.load import DATA, PIECE
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import FLUSH_EXT, WRITE_EXT, Client
from tests.support.tools import need_engine

PAGE = 8
WAYS = [
    (engine, direct, back)
    for engine in ("c", "python")
    for direct, back in (("direct", "write-through"), ("direct", "write-back"), ("buffered", "write-back"))
]


class Reopening:
    """A target that serves a sick disk, and what it said."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", disk: FuseDisk, client: Client, errors: Path
    ) -> None:
        self.process = process
        self.disk = disk
        self.client = client
        self.errors = errors

    def line(self) -> str:
        """The next one."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def reopen(self) -> str:
        """What becomes of it."""
        self.process.send_signal(signal.SIGUSR1)
        return self.line()

    def ended(self) -> Counter[str]:
        """What it counted."""
        self.process.send_signal(signal.SIGTERM)
        return Counter(json.loads(self.line()))

    def writes(self, lba: int) -> bool:
        """Whether a write is acknowledged, and a flush; all or nothing is."""
        return not [
            it
            for it in (self.client.ata(WRITE_EXT, lba, PIECE, DATA), self.client.ata(FLUSH_EXT))
            if result(it) == FAULT
        ]


@contextmanager
def reopening(lab: Lab, work: Path, way: tuple[str, str, str]) -> Iterator[Reopening]:
    engine, direct, back = way
    if engine == "c":
        need_engine()
    with ExitStack() as stack:
        disk = stack.enter_context(FuseDisk(work / "sick", SECTORS))
        disk.store.write_bytes(noise(SECTORS))
        path = stack.enter_context(loop_device(disk.path)) if direct == "device" else disk.path
        errors = stack.enter_context((work / "errors").open("w"))
        words = (engine, path, direct, back)
        program = Path(reopening_target.__file__)
        process = lab.popen("target", sys.executable, program, *words, stdout=subprocess.PIPE, stderr=errors)
        try:
            it = Reopening(process, disk, impatient(lab), work / "errors")
            assert it.line() == "ready", it.errors.read_text()
            yield it
            it.process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, it.errors.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def fail(it: Reopening) -> None:
    """From here on a sync has failed, and the disk is well again."""
    it.disk.fail("flush")
    it.client.ata(WRITE_EXT, PAGE, PIECE, DATA)
    it.client.ata(FLUSH_EXT)
    it.disk.heal("flush")
    assert not it.writes(2 * PAGE)


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_it_serves_again_when_the_operator_says_so(
    way: tuple[str, str, str], lab: Lab, tmp_path: Path
) -> None:
    with reopening(lab, tmp_path, way) as it:
        assert it.reopen() == "well"
        assert it.writes(0)
        instance = vendor_of(it.client.identify())
        for lba in (3 * PAGE, 4 * PAGE):
            fail(it)
            assert it.reopen() == "reopened"
            assert it.writes(lba)
            assert it.client.read(lba, PIECE) == DATA
            assert it.disk.store.read_bytes()[lba * 512 : lba * 512 + len(DATA)] == DATA
        now = vendor_of(it.client.identify())
        assert it.ended()["engine_writes"] >= 3 or way[0] == "python"
        assert instance is not None
        assert now is not None
        assert now.instance != instance.instance, "what was acknowledged may be lost: clients ask anew"


@pytest.mark.parametrize("way", [WAYS[0], WAYS[3]], ids="-".join)
def test_one_that_still_fails_stays_failed(way: tuple[str, str, str], lab: Lab, tmp_path: Path) -> None:
    with reopening(lab, tmp_path, way) as it:
        fail(it)
        it.disk.fail("flush")
        assert it.reopen() == "failed: sync: Input/output error"
        it.disk.heal("flush")
        assert not it.writes(5 * PAGE)
        assert it.reopen() == "reopened"
        assert it.writes(5 * PAGE)


def test_reads_give_what_is_stored_and_not_what_was_lost(lab: Lab, tmp_path: Path) -> None:
    """The page cache has what the store did not take, and the kernel takes it for written."""
    with reopening(lab, tmp_path, ("c", "device", "write-back")) as it:
        it.disk.fail("write")
        assert result(it.client.ata(WRITE_EXT, 0, PIECE, DATA)) == GOOD
        assert result(it.client.ata(FLUSH_EXT)) == FAULT
        it.disk.heal("write")
        assert it.reopen() == "reopened"
        assert (
            it.client.read(0, PIECE) == noise(SECTORS)[: len(DATA)] == it.disk.store.read_bytes()[: len(DATA)]
        )
