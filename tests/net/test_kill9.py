"""kill -9 of the target: what it acknowledged is there afterwards, data and state."""

import random
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aoe.wire.config import ConfigCommand
from aoe.wire.mask import Directive, DirectiveCommand
from aoe.wire.protocol import SECTOR
from aoe.wire.reserve import ReserveCommand
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.raw_client import AtaFailed, Client, NoAnswer
from tests.support.waiting import wait_for

WRITERS = 8
REGION = 64
SECTORS = WRITERS * REGION
RUN_S = 0.5
EARLY_S = 30.0
"""Longer than any target here lives: of what it acknowledges, nothing is done."""
LAUNCHER = f'''
"""The target with a planted fault: a write is acknowledged before it is done."""
import asyncio, sys
from aoe.disk.file import FileDisk
from aoe.cli.target import main

honest = FileDisk.write
late = set()

async def write(self, offset, data, fua=False):
    async def afterwards():
        await asyncio.sleep({EARLY_S})
        await honest(self, offset, data, fua)
    task = asyncio.ensure_future(afterwards())
    late.add(task)
    task.add_done_callback(late.discard)

FileDisk.write = write
sys.exit(main())
'''

_STAMP = struct.Struct("<IQQ")


def stamp(writer: int, sequence: int, lba: int) -> bytes:
    """A sector that says who wrote it, when, and where, and proves it."""
    rng = random.Random(writer << 40 | sequence << 16 | lba)
    body = _STAMP.pack(writer, sequence, lba) + rng.randbytes(SECTOR - _STAMP.size - 4)
    return body + zlib.crc32(body).to_bytes(4, "little")


def read_stamp(sector: bytes) -> tuple[int, int, int] | None:
    """(writer, sequence, lba), or None for a sector never written; ValueError for a torn one."""
    if not any(sector):
        return None
    if zlib.crc32(sector[:-4]).to_bytes(4, "little") != sector[-4:]:
        raise ValueError("torn sector")
    return _STAMP.unpack_from(sector)


@dataclass
class Writer:
    """Writes stamped sectors in its own region, and notes what was acknowledged."""

    number: int
    client: Client
    goes_on: bool = False
    """Also after a write that was not answered; else it ends then."""
    sent: dict[int, int] = field(default_factory=dict)
    acknowledged: dict[int, int] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        rng = random.Random(self.number)
        sequence = 0
        while not stop.is_set():
            sequence += 1
            count = rng.randint(1, 2)
            lba = self.number * REGION + rng.randrange(REGION - count + 1)
            data = b"".join(stamp(self.number, sequence, at) for at in range(lba, lba + count))
            self.sent |= dict.fromkeys(range(lba, lba + count), sequence)
            try:
                self.client.write(lba, data)
            except AtaFailed:
                return
            except NoAnswer:
                if self.goes_on:
                    continue
                return
            self.acknowledged |= dict.fromkeys(range(lba, lba + count), sequence)

    def problems(self, content: bytes) -> Iterator[str]:
        for lba in range(self.number * REGION, (self.number + 1) * REGION):
            acknowledged, sent = self.acknowledged.get(lba, 0), self.sent.get(lba, 0)
            try:
                found = read_stamp(content[lba * SECTOR : (lba + 1) * SECTOR])
            except ValueError as error:
                yield f"sector {lba}: {error}"
                continue
            if found is None:
                found = (self.number, 0, lba)
            if (found[0], found[2]) != (self.number, lba):
                yield f"sector {lba}: holds sector {found[2]} of writer {found[0]}"
            elif not acknowledged <= found[1] <= sent:
                yield f"sector {lba}: holds write {found[1]}, acknowledged {acknowledged}, sent {sent}"


def write_until_killed(lab: Lab, target: AoeTarget) -> list[Writer]:
    """Let eight hosts write for a while, then kill the target under them."""
    mac = bytes((2, 0, 0, 0, 0x88))
    writers = [
        Writer(n, lab.client(mac=mac + bytes([n]), timeout=0.3, retries=0, dst=lab.cables[0].a.mac), True)
        for n in range(WRITERS)
    ]
    stop = threading.Event()
    threads = [threading.Thread(target=writer.run, args=(stop,)) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        time.sleep(RUN_S)
        wait_for(lambda: min(len(it.acknowledged) for it in writers) > 3, what="too little is written")
        target.kill()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return writers


def problems(writers: Sequence[Writer], path: Path) -> list[str]:
    content = path.read_bytes()
    return [problem for writer in writers for problem in writer.problems(content)]


DURABILITIES = pytest.mark.parametrize(
    "options", [(), ("--direct",), ("--durability", "write-back")], ids=["buffered", "direct", "write-back"]
)


@DURABILITIES
def test_no_acknowledged_write_is_lost(options: Sequence[str], lab: Lab, tmp_path: Path) -> None:
    path = image(tmp_path / "disk", SECTORS)
    with AoeTarget(lab, tmp_path, f"{path}=1.1", *options) as target:
        writers = write_until_killed(lab, target)
        assert problems(writers, path) == []
        target.start()
        client = lab.client()
        served = b"".join(client.read(lba, 2) for lba in range(0, SECTORS, 2))
        assert served == path.read_bytes()


def test_an_acknowledge_before_the_write_is_caught(lab: Lab, tmp_path: Path) -> None:
    path, launcher = image(tmp_path / "disk", SECTORS), tmp_path / "early.py"
    launcher.write_text(LAUNCHER)
    with AoeTarget(lab, tmp_path, f"{path}=1.1", "--engine", "python", launcher=[launcher]) as target:
        writers = write_until_killed(lab, target)
    found = problems(writers, path)
    assert any("acknowledged" in problem for problem in found)


def test_the_checker_sees_torn_and_misplaced_sectors(tmp_path: Path) -> None:
    path = image(tmp_path / "disk", SECTORS)
    with Client(_Nowhere()) as client:
        writer = Writer(0, client, sent={0: 1, 1: 1, 2: 1}, acknowledged={0: 1, 1: 1, 2: 1})
        good = [stamp(0, 1, lba) for lba in range(3)]
        path.write_bytes(b"".join(good).ljust(SECTORS * SECTOR, b"\0"))
        assert problems([writer], path) == []
        torn, misplaced, foreign = good[0][:256] + good[1][256:], good[0], stamp(3, 1, 2)
        path.write_bytes((torn + misplaced + foreign).ljust(SECTORS * SECTOR, b"\0"))
        assert [problem.split(":")[0] for problem in problems([writer], path)] == [
            "sector 0",
            "sector 1",
            "sector 2",
        ]


class _Nowhere:
    """A port that leads nowhere."""

    mac = bytes(6)

    def send(self, data: bytes) -> None:
        raise AssertionError("not to be used")

    def receive(self, timeout: float) -> bytes | None:
        return None

    def close(self) -> None:
        pass


def test_acknowledged_state_is_back_after_kill_9(lab: Lab, tmp_path: Path) -> None:
    """Each change is acknowledged, then the target is killed at once."""
    path = image(tmp_path / "disk")
    target = AoeTarget(lab, tmp_path, f"{path}=1.1")
    client = lab.client()
    others = [bytes((2, 0, 0, 0, 7, n)) for n in range(5)]
    target.probe_mac = client.mac
    with target:
        client.config(ConfigCommand.FORCE_SET, b"before the first kill \x00\xff")
        target.kill()
        target.start()
        assert client.config().text == b"before the first kill \x00\xff"
        client.reserve(ReserveCommand.SET, client.mac, *others[:2])
        target.kill()
        target.start()
        assert client.reserve().macs == (client.mac, *others[:2])
        client.mask(*(Directive(DirectiveCommand.ADD, mac) for mac in (client.mac, *others)))
        target.kill()
        target.start()
        listed = [entry.mac for entry in client.mask().directives]
        assert listed == [client.mac, *others]
        assert client.config().text == b"before the first kill \x00\xff"
        assert lab.client(mac=bytes((2, 9, 9, 9, 9, 9)), timeout=0.2, retries=0).ask(1, bytes(8)) is None
