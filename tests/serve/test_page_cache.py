"""A read asks the page cache once, and the disk once where the page cache does not have it."""

import asyncio
import os
from pathlib import Path

import pytest

import aoe
from aoe.disk import file
from aoe.disk.open import Opening, open_disk
from aoe.link.memory import Network
from tests.disk.helpers import noise, sparse
from tests.serve.initiator import Initiator, mac

SECTORS = 64


class Calls:
    """Counts the reads of a file; `cached` is whether the page cache has what is looked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.cached = False
        self._read = os.preadv
        monkeypatch.setattr(os, "preadv", self.preadv)
        monkeypatch.setattr(file.syscalls, "is_memory", lambda _: False)

    def preadv(self, fd: int, buffers: list[bytearray], offset: int, flags: int = 0) -> int:
        self.made.append("look" if flags & os.RWF_NOWAIT else "read")
        if flags & os.RWF_NOWAIT and not self.cached:
            raise BlockingIOError
        return self._read(fd, buffers, offset)


def made(work: Path, calls: Calls, before: int = 0) -> list[str]:
    """What reads were made for one READ of a client, with so many overlapping writes sent before it."""

    async def scenario() -> None:
        network, disk = Network(), open_disk(sparse(work / "disk", SECTORS), Opening())
        async with aoe.serve(disk, network.attach(mac(1)), check=False):
            client = Initiator(network.attach(mac(9)), retransmit_s=5, patience_s=30)
            calls.made.clear()
            writes = [asyncio.ensure_future(client.write(0, noise(1))) for _ in range(before)]
            await asyncio.sleep(0)
            assert len(await client.read(0, 2)) == 1024
            await asyncio.gather(*writes)

    asyncio.run(scenario())
    return calls.made


def test_a_miss_goes_to_the_disk_after_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(tmp_path, Calls(monkeypatch)) == ["look", "read"]


def test_a_hit_needs_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    calls.cached = True
    assert made(tmp_path, calls) == ["look"]


@pytest.mark.parametrize("cached", [True, False])
def test_a_read_that_had_to_wait_for_its_turn_looks_once(
    cached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    calls.cached = cached
    assert made(tmp_path, calls, before=2) == (["look"] if cached else ["look", "read"])
