"""A disk whose sync failed stays failed over restart and crash: a descriptor that is opened anew does
not report what the last one has reported. `reopen`, or a stop of the service, ends it (order rule T6)."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from aoe.wire.protocol import SECTOR
from tests.disk.helpers import noise
from tests.engine.test_faults import FAULT, GOOD, impatient, result
from tests.net.service import ask, export
from tests.node.manager import Manager
from tests.support.labs.fault_disk import FuseDisk, small_tmpfs
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import FLUSH_EXT, WRITE_EXT
from tests.support.waiting import wait_for, wait_for_words

SECTORS = 2048
FAILED = re.compile(
    r"a sync failed on \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; repair the disk, then aoe-target reopen e1\.1"
)


class Node:
    """A service under a manager, its sick disk at e1.1 beside a well one at e1.2, and a client. With `parts`
    the disk ends in its middle, and e1.3 has the rest."""

    def __init__(
        self, lab: Lab, work: Path, disk: FuseDisk, path: Path, engine: str, state: Path, *, parts: bool
    ) -> None:
        self.lab = lab
        self.disk = disk
        self.work = work
        disk.store.write_bytes(noise(SECTORS))
        head = f'[target]\ninterfaces = ["v0"]\nstate-dir = "{state}"\nengine = "{engine}"\n'
        half = SECTORS // 2
        how: dict[str, Any] = {"durability": "write-back", "direct": False}
        sick = export(path, "1.1", **how, **{"length": half} if parts else {})
        if parts:
            sick += export(path, "1.3", **how, offset=half, serial="REST")
        (work / "target.toml").write_text(head + sick + export(work / "well", "1.2"))
        self.errors = work / "errors"
        said = f'exec "$@" 2>>{self.errors}'
        words = ("run", "--config", work / "target.toml", "--socket", work / "control")
        command = lab.command("target", sys.executable, "-m", "aoe.cli.target", *words)
        self.manager = Manager(["sh", "-c", said, "sh", *command], work)

    def status(self, address: str = "e1.1") -> tuple[str, str]:
        found: list[dict[str, Any]] = ask(self.work / "control", "status")["exports"]
        one = next(it for it in found if it["address"] == address)
        return one["state"], one["reason"]

    def results(self, slot: int = 1) -> set[tuple[int, int]]:
        """What a write and a flush of the sick disk come to."""
        client = impatient(self.lab, slot=slot)
        return {result(client.ata(WRITE_EXT, 0, 2, bytes(2 * SECTOR))), result(client.ata(FLUSH_EXT))}

    def fail(self) -> None:
        """A sync fails, and the disk is well again: what follows is about what is known of it."""
        assert self.results() == {GOOD}
        self.disk.fail("flush")
        assert result(impatient(self.lab).ata(FLUSH_EXT)) == FAULT
        self.disk.heal("flush")

    def assert_failed(self) -> None:
        assert self.results() == {FAULT}
        state, reason = self.status()
        assert state == "failed"
        assert FAILED.match(reason), reason
        assert self.status("e1.2") == ("serving", "")

    def assert_well(self) -> None:
        assert self.results() == {GOOD}
        assert self.status() == ("serving", "")

    def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        assert self.manager.kill(how) == (0 if how == signal.SIGTERM else -how)
        self.manager.start()

    def reopen(self, address: str = "e1.1") -> None:
        words = ("reopen", address, "--socket", self.work / "control")
        subprocess.run([sys.executable, "-m", "aoe.cli.target", *words], check=True, timeout=30)


@contextmanager
def node(
    lab: Lab, work: Path, engine: str, state: Path | None = None, *, parts: bool = False
) -> Iterator[Node]:
    with FuseDisk(work / "sick", SECTORS) as disk:
        made = Node(lab, work, disk, disk.path, engine, state or work / "state", parts=parts)
        with made.manager:
            made.manager.start()
            yield made


def marks(directory: Path) -> list[Path]:
    return list(directory.glob("*.failed"))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["restart", "kill"])
def test_it_stays_failed_over_restarts_until_the_operator_reopens_it(
    lab: Lab, tmp_path: Path, engine: str, how: signal.Signals
) -> None:
    with node(lab, tmp_path, engine) as it:
        it.fail()
        since = it.status()
        for _ in range(2):
            it.assert_failed()
            it.restart(how)
        it.assert_failed()
        assert it.status() == since
        it.reopen()
        it.assert_well()
        assert not marks(tmp_path / "state")
        it.restart(how)
        it.assert_well()


def test_a_stop_of_the_service_ends_it(lab: Lab, tmp_path: Path, engine: str) -> None:
    with node(lab, tmp_path, engine) as it:
        it.fail()
        it.manager.stop()
        it.manager.start()
        it.assert_well()
        assert not marks(tmp_path / "state")


def test_it_fails_again_after_a_reopen(lab: Lab, tmp_path: Path, engine: str) -> None:
    with node(lab, tmp_path, engine) as it:
        it.fail()
        it.reopen()
        it.fail()
        it.restart(signal.SIGKILL)
        it.assert_failed()


def test_neither_another_address_nor_another_serial_ends_it(lab: Lab, tmp_path: Path, engine: str) -> None:
    with node(lab, tmp_path, engine) as it:
        it.fail()
        file = tmp_path / "target.toml"
        file.write_text(file.read_text().replace("slot = 1\n", 'slot = 1\nserial = "OTHER"\n'))
        it.restart()
        it.assert_failed()


def test_an_error_is_answered_where_no_room_is_left_for_the_mark(
    lab: Lab, tmp_path: Path, engine: str
) -> None:
    with small_tmpfs(tmp_path / "state", 1 << 18) as state, node(lab, tmp_path, engine, state) as it:
        full = state / "full"
        with full.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        it.fail()
        state_now, reason = it.status()
        assert state_now == "failed"
        assert reason.endswith("(a restart would forget it: No space left on device)")
        wait_for_words(it.errors.read_text, "e1.1: a sync failed, which a restart would forget")
        full.unlink()
        wait_for(lambda: it.results() == {FAULT} and bool(marks(state)))
        it.restart(signal.SIGKILL)
        it.assert_failed()


def test_all_parts_of_a_store_fail_together_and_are_reopened_each(
    lab: Lab, tmp_path: Path, engine: str
) -> None:
    """The sync was of the store: what it lost may be of any part."""
    with node(lab, tmp_path, engine, parts=True) as it:
        assert it.results(3) == {GOOD}
        it.fail()
        assert it.results(3) == {FAULT}
        it.assert_failed()
        assert it.status("e1.3")[0] == "failed"
        assert len(marks(tmp_path / "state")) == 2
        it.restart(signal.SIGKILL)
        assert it.results(3) == {FAULT}
        it.reopen()
        assert (it.results(1), it.results(3)) == ({GOOD}, {FAULT})
        it.restart()
        assert (it.results(1), it.results(3)) == ({GOOD}, {FAULT})
        it.reopen("e1.3")
        assert (it.results(3), marks(tmp_path / "state")) == ({GOOD}, [])
