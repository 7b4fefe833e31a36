"""Looking at the disks' sizes again, while some disk does not answer."""

import asyncio
import logging
import threading
import time
from pathlib import Path

import pytest

import aoe
from aoe.disk.faulty import FaultyDisk
from aoe.disk.file import FileDisk
from aoe.disk.memory import MemoryDisk
from aoe.disk.open import open_disk
from aoe.errors import DiskError
from aoe.link.memory import Network
from aoe.target.measure import Measure
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import noise, sparse
from tests.serve.initiator import Initiator, mac
from tests.serve.test_serve import servers
from tests.support.waiting import PROMPT_S

SECTORS = 64
LATE = "e0.0: size: no answer within 4 s; send SIGHUP again when the disk answers"


class Hung:
    """A file whose size is not told until `answers` is set, as on a network filesystem without its server."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, victim: FileDisk) -> None:
        self.answers = threading.Event()
        self.asked = 0
        real = FileDisk._rest

        def rest(disk: FileDisk) -> int:
            if disk is victim:
                self.asked += 1
                self.answers.wait(60)
            return real(disk)

        monkeypatch.setattr(FileDisk, "_rest", rest)


def test_a_file_that_hangs_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a look at the size on the loop that serves: everything stood still until the disk answered."""
    bad, good = (open_disk(sparse(tmp_path / name, SECTORS)) for name in ("bad", "good"))
    hung = Hung(monkeypatch, bad)

    async def scenario() -> None:
        network = Network()
        async with servers(network, bad, good) as (server, (first, second)):
            initiator = Initiator(network.attach(mac(9)), slot=1)
            with (tmp_path / "good").open("ab") as file:
                file.truncate(2 * SECTORS * SECTOR)
            began = time.monotonic()
            refreshing = asyncio.ensure_future(server.refresh(4))
            await initiator.write(0, noise(1))
            assert not refreshing.done()
            assert await refreshing == [second]
            assert time.monotonic() - began < PROMPT_S
            for _ in range(3):
                assert await server.refresh(0.01) == []
            assert hung.asked == 1, "questions pile up"
            with (tmp_path / "bad").open("ab") as file:
                file.truncate(3 * SECTORS * SECTOR)
            hung.answers.set()
            await asyncio.sleep(0.05)
            assert await server.refresh(30) == [first]
            assert first.drive.sectors == 3 * SECTORS

    with caplog.at_level(logging.WARNING, "aoe"):
        asyncio.run(scenario())
    said = [message for message in caplog.messages if message.startswith("e0.0")]  # e0.1 may be late as well
    assert said[0] == LATE
    assert len(said) == 2  # at once, and at the end with a count
    assert "more like it" in said[1]


def test_a_disk_that_hangs_when_the_target_stops_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = open_disk(sparse(tmp_path / "disk", SECTORS))
    hung = Hung(monkeypatch, disk)

    async def scenario() -> None:
        async with aoe.serve(disk, Network().attach(mac(1)), check=False) as server:
            assert await server.refresh(0.05) == []
            began = time.monotonic()
        assert time.monotonic() - began < PROMPT_S

    asyncio.run(scenario())
    hung.answers.set()


def test_a_disk_that_is_removed_meanwhile_is_not_changed() -> None:
    async def scenario() -> None:
        store = MemoryDisk(SECTORS * SECTOR)
        disk = FaultyDisk(store)
        async with aoe.serve(disk, Network().attach(mac(1)), check=False) as server:
            (export,) = server.exports
            disk.hang.clear()
            refreshing = asyncio.ensure_future(server.refresh(5))
            await asyncio.sleep(0.02)
            await server.remove(0, 0)
            store.data += bytes(SECTOR)
            disk.hang.set()
            assert await refreshing == []
            assert export.drive.sectors == SECTORS

    asyncio.run(scenario())


def test_why_a_disk_does_not_say_it() -> None:
    async def scenario() -> None:
        fails, hangs, good = (FaultyDisk(MemoryDisk(SECTOR)) for _ in range(3))
        hangs.hang.clear()

        async def bad_size() -> None:
            raise DiskError("size: Input/output error", 0, 5)

        fails.measure = bad_size  # type: ignore[method-assign]
        measure = Measure()
        assert await measure.ask([], 1) == {}
        found = await measure.ask([fails, hangs, good], 0.1)
        assert [found[it] and str(found[it]) for it in (fails, hangs, good)] == [
            "size: Input/output error",
            "size: no answer within 0.1 s; send SIGHUP again when the disk answers",
            None,
        ]
        measure.close()

    asyncio.run(scenario())
