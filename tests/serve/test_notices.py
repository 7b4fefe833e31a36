"""What a server tells people, and how often."""

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import aoe
from aoe.disk.faulty import FaultyDisk
from aoe.disk.file import FileDisk
from aoe.disk.memory import MemoryDisk
from aoe.disk.open import open_disk
from aoe.errors import DiskError
from aoe.link.memory import Network
from aoe.wire.config import ConfigCommand
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import sparse
from tests.serve.initiator import AtaFailed, Initiator, Refused, mac

SIZE = 64 * SECTOR


def lines(caplog: pytest.LogCaptureFixture, scenario: Callable[[], Awaitable[Any]]) -> list[str]:
    with caplog.at_level(logging.INFO, "aoe"):
        asyncio.run(scenario())  # type: ignore[arg-type]
    return [record.getMessage() for record in caplog.records]


async def fails(call: Awaitable[Any], how: type[Exception]) -> None:
    with pytest.raises(how):
        await call


def test_bad_sectors_are_a_line_for_each_kind_of_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        network, disk = Network(), FaultyDisk(MemoryDisk(SIZE), bad_offsets=range(0, SIZE, SECTOR))
        async with aoe.serve(disk, network.attach(mac(1))):
            initiator = Initiator(network.attach(mac(9)))
            for _ in range(50):
                await fails(initiator.read(3), AtaFailed)
            for lba in range(20):
                await fails(initiator.write(lba, bytes(SECTOR)), AtaFailed)
            disk.code = errno.ENOSPC
            await fails(initiator.write(0, bytes(SECTOR)), AtaFailed)

    said = lines(caplog, scenario)
    assert said == [
        "e0.0: Input/output error at sector 3",
        "e0.0: Input/output error at sector 0",
        "e0.0: No space left on device at sector 0",
        "e0.0: Input/output error at sector 3 (and 48 more like it)",
        "e0.0: Input/output error at sector 19 (and 18 more like it)",
    ]


def test_state_that_cannot_be_saved_is_a_line(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def scenario() -> None:
        network = Network()
        async with aoe.serve(MemoryDisk(SIZE), network.attach(mac(1)), state_dir=tmp_path / "s"):
            initiator = Initiator(network.attach(mac(9)))
            monkeypatch.setattr(Path, "replace", full)
            for number in range(10):
                text = str(number).encode()
                await fails(initiator.config(ConfigCommand.FORCE_SET, text), Refused)

    said = lines(caplog, scenario)
    assert len(said) == 2
    assert "state not saved" in said[0]
    assert said[1].endswith("(and 8 more like it)")


def test_an_interface_that_is_lost_and_comes_back_is_a_line_each(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        link = Network().attach(mac(1))
        async with aoe.serve(MemoryDisk(SIZE), link, check=False):
            link.plug(False)
            link.plug(False)

    (line,) = lines(caplog, scenario)
    assert line.startswith(f"memory:{mac(1).hex(':')}: the interface is down, gone")

    async def returns() -> None:
        link = Network().attach(mac(1))
        link.plug(False)
        async with aoe.serve(MemoryDisk(SIZE), link, check=False):
            link.plug()

    caplog.clear()
    assert [line.split(": ")[1] for line in lines(caplog, returns)] == [
        "the interface is down, gone or part of a bridge; it is served again once it is back",
        "the interface is there again",
    ]


def test_an_interface_that_flaps_is_no_flood(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        link = Network().attach(mac(1))
        async with aoe.serve(MemoryDisk(SIZE), link, check=False):
            for _ in range(100):
                link.plug(False)
                link.plug()

    said = lines(caplog, scenario)
    assert len(said) == 2
    assert said[1].endswith("the interface is there again (and 198 more like it)")


def test_a_client_is_named_when_it_comes_for_the_first_time(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        network = Network()
        async with aoe.serve(MemoryDisk(SIZE), network.attach(mac(1))):
            initiator = Initiator(network.attach(mac(9)))
            await initiator.config()
            for _ in range(3):
                await initiator.identify()
                await initiator.read(0)

    assert lines(caplog, scenario) == [
        f"e0.0: first contact of {mac(9).hex(':')} on memory:{mac(1).hex(':')}"
    ]


def test_a_flood_of_invented_clients_is_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        network = Network()
        async with aoe.serve(MemoryDisk(SIZE), network.attach(mac(1))):
            for number in range(300):
                await Initiator(network.attach(mac(2000 + number))).identify()

    said = lines(caplog, scenario)
    assert len(said) == 2
    assert said[1].endswith("(and 254 more like it)")


# Files and devices that go


def test_a_served_file_that_is_removed_is_one_line(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 8)

    async def scenario() -> None:
        network = Network()
        async with aoe.serve(open_disk(path), network.attach(mac(1))):
            path.unlink()
            await asyncio.sleep(0.02)
            await Initiator(network.attach(mac(9))).write(0, bytes(SECTOR))

    (line,) = lines(caplog, scenario)
    assert line.startswith(f"e0.0: {path} was removed or replaced")
    assert line.endswith("aoe copy e0.0 FILE")


def test_of_all_files_served_each_that_goes_is_a_line(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    paths = [sparse(tmp_path / name, 8) for name in ("a", "b", "c")]

    async def scenario() -> None:
        from tests.serve.test_serve import servers

        async with servers(Network(), *map(open_disk, paths)):
            for path in paths:
                path.unlink()
                await asyncio.sleep(0.02)

    said = lines(caplog, scenario)
    assert len(said) == len(paths)
    for number, path in enumerate(paths):
        assert said[number].startswith(f"e0.{number}: {path} was removed or replaced")


class Detached:
    """As on a file system whose server has died: the last call to a descriptor fails, and it is closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, victim: str) -> None:
        self._close, self._victim = os.close, victim
        monkeypatch.setattr(os, "close", self.close)

    def close(self, fd: int) -> None:
        name = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
        self._close(fd)
        if name == self._victim:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))


def test_a_disk_that_fails_as_it_is_closed_is_a_line_and_keeps_no_other_open(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = open_disk(sparse(tmp_path / "bad", 8)), open_disk(sparse(tmp_path / "good", 8))
    Detached(monkeypatch, str(tmp_path / "bad"))

    async def scenario() -> None:
        network = Network()
        async with (
            aoe.serve(good, network.attach(mac(2)), slot=1, check=False),
            aoe.serve(FaultyDisk(bad), network.attach(mac(1)), check=False),
        ):
            pass

    (line,) = lines(caplog, scenario)
    assert line == "e0.0: close: Transport endpoint is not connected; what was not flushed may be lost"
    for disk in (bad, good):
        with pytest.raises(DiskError, match="Bad file"):
            disk.refresh()


def test_a_disk_that_fails_as_it_is_closed_after_all_still_gives_its_last_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that was inside a call closes it then."""
    disk = open_disk(sparse(tmp_path / "bad", 8))
    Detached(monkeypatch, str(tmp_path / "bad"))
    flush = FileDisk._sync

    def closed_meanwhile(self: FileDisk) -> None:
        flush(self)
        self.close()

    monkeypatch.setattr(FileDisk, "_sync", closed_meanwhile)
    asyncio.run(disk.flush())
    with pytest.raises(DiskError, match="Bad file"):
        disk.refresh()


def test_a_disk_whose_size_cannot_be_asked_does_not_hide_another_that_grew(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = open_disk(sparse(tmp_path / "bad", 8)), open_disk(sparse(tmp_path / "good", 8))

    def gone(self: FileDisk) -> int:
        if self is bad:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return 16 * SECTOR

    async def scenario() -> None:
        from tests.serve.test_serve import servers

        async with servers(Network(), bad, good) as (server, (first, second)):
            monkeypatch.setattr(FileDisk, "_rest", gone)
            assert await server.refresh() == [second]
            assert first.drive.sectors == 8

    assert lines(caplog, scenario) == ["e0.0: size: Transport endpoint is not connected"]
