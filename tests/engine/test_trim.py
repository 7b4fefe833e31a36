"""A TRIM takes its place by range: it keeps nobody waiting but those who touch what it touches (rule T1)."""

import statistics
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.limits import SPANS_MAX
from aoe.wire import ata, frame
from aoe.wire.config import ConfigCommand
from aoe.wire.frame import Command
from aoe.wire.protocol import SECTOR
from tests.support.labs.engine_target import LAUNCH, counted
from tests.support.labs.load import DATA, PIECE
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.raw_client import FLUSH_EXT, READ_EXT, WRITE_EXT, Client, ata_request
from tests.support.programs.fault_launch import SLOW_TRIM_S
from tests.support.tools import need_engine, need_namespaces

DSM, VERIFY_EXT = 0x06, 0x42
SLOW_S = SLOW_TRIM_S
"""How long a TRIM takes."""
SOON_S = SLOW_S * 0.9
"""By then what does not wait for a TRIM is answered, on a busy machine too."""
FAR = 4096


class Rig(NamedTuple):
    """A target on a disk whose TRIMs take long, the client that trims, and another."""

    target: AoeTarget
    trims: Client
    other: Client


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    need_namespaces()
    with Lab(mtu=9000) as made:
        yield made


@contextmanager
def rig(lab: Lab, work: Path, engine: str, *options: str) -> Iterator[Rig]:
    if engine == "c":
        need_engine()
    disk = f"{image(work / 'disk', 32768)}=1.1"
    launcher = [LAUNCH, "slow-trim", "--"]
    patient = ("--max-frame-age", "20")  # what waits for a TRIM on a busy machine is not too old then
    with AoeTarget(lab, work, disk, "--engine", engine, *patient, *options, launcher=launcher) as target:
        client = lab.client(1, 1, mac=bytes((2, 0, 0, 0, 0, 9)), timeout=30, retries=0)
        yield Rig(target, client, lab.client(1, 1, timeout=30, retries=0))


def trim_frame(client: Client, *ranges: tuple[int, int]) -> bytes:
    entries = b"".join(struct.pack("<Q", lba | sectors << 48) for lba, sectors in ranges)
    data = entries.ljust(SECTOR, b"\0")
    registers = ata_request(DSM, 0, 1, data, feature=1, aflags=0x41)
    return client.request(Command.ATA, ata.encode(registers))


def answer(client: Client, seconds: float = 30) -> float:
    """When the answer to what a client sent came, as a success."""
    deadline = time.monotonic() + seconds
    while (raw := client.receive(max(0.0, deadline - time.monotonic()))) is not None:
        header = frame.decode(raw)
        if isinstance(header, frame.Header) and header.flags & frame.FLAG_RESPONSE and header.tag:
            assert not header.flags & frame.FLAG_ERROR
            if header.command == Command.ATA:
                assert not raw[27] & 1
            return time.monotonic()
    raise AssertionError("no answer")


def took(client: Client, command: int, lba: int = 0, sectors: int = 0, data: bytes = b"") -> float:
    began = time.monotonic()
    reply = client.ata(command, lba, sectors, data)
    assert not reply.status & 1
    return time.monotonic() - began


@pytest.fixture(params=["c", "python"], scope="module")
def target(
    request: pytest.FixtureRequest, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rig]:
    with rig(lab, tmp_path_factory.mktemp("trim"), request.param) as made:
        yield made


@pytest.fixture
def slow(target: Rig) -> Iterator[Rig]:
    """The target with nothing under way, and written where the tests trim."""
    target.other.write(0, DATA)
    yield target
    target.other.flush()
    target.trims.drain()


def test_a_trim_is_slow_here_and_trims(slow: Rig) -> None:
    """What the tests here rest on."""
    began = time.monotonic()
    slow.trims.send(trim_frame(slow.trims, (0, PIECE)))
    assert answer(slow.trims) - began > SLOW_S * 0.9
    assert slow.other.read(0, PIECE) == bytes(PIECE * SECTOR)


def test_others_are_served_beside_a_trim(slow: Rig) -> None:
    before = counted(slow.target)["trims"]
    began = time.monotonic()
    slow.trims.send(trim_frame(slow.trims, (0, PIECE), (64, PIECE)))
    lasted = [
        took(slow.other, READ_EXT, FAR, PIECE),
        took(slow.other, WRITE_EXT, FAR, PIECE, DATA),
        took(slow.other, READ_EXT, 32, PIECE),
        took(slow.other, VERIFY_EXT, FAR, PIECE),
    ]
    assert time.monotonic() - began < SOON_S, lasted
    assert answer(slow.trims) - began > SLOW_S * 0.9
    assert counted(slow.target)["trims"] == before + 1


def test_a_trim_is_served_beside_another(slow: Rig) -> None:
    began = time.monotonic()
    slow.trims.send(trim_frame(slow.trims, (0, PIECE)))
    slow.other.send(trim_frame(slow.other, (FAR, PIECE)))
    assert answer(slow.other) - began < SLOW_S * 1.8
    assert answer(slow.trims) - began < SLOW_S * 1.8


@pytest.mark.parametrize(
    ("command", "lba", "data"),
    [(READ_EXT, 68, b""), (WRITE_EXT, 60, DATA), (VERIFY_EXT, 64, b""), (FLUSH_EXT, 0, b"")],
    ids=["read", "write", "verify", "flush"],
)
def test_what_touches_the_same_waits_for_it(command: int, lba: int, data: bytes, slow: Rig) -> None:
    began = time.monotonic()
    slow.trims.send(trim_frame(slow.trims, (0, PIECE), (64, PIECE)))
    time.sleep(0.02)
    took(slow.other, command, lba, 0 if command == FLUSH_EXT else PIECE, data)
    assert time.monotonic() - began > SLOW_S * 0.9


def test_of_many_ranges_all_between_them_waits(slow: Rig) -> None:
    began = time.monotonic()
    slow.trims.send(trim_frame(slow.trims, *((n * 64, 1) for n in range(SPANS_MAX + 1))))
    time.sleep(0.02)
    took(slow.other, READ_EXT, FAR, PIECE)
    assert time.monotonic() - began < SOON_S
    took(slow.other, READ_EXT, 32, PIECE)
    assert time.monotonic() - began > SLOW_S * 0.9


def test_a_change_of_the_config_string_waits_for_a_trim(slow: Rig) -> None:
    """Order rule T5: the verbs are fences for everything."""
    began = time.monotonic()
    slow.trims.send(trim_frame(slow.trims, (0, PIECE)))
    time.sleep(0.02)
    slow.other.config(ConfigCommand.FORCE_SET, b"new")
    assert time.monotonic() - began > SLOW_S * 0.9


def test_reads_are_as_fast_beside_many_trims(slow: Rig) -> None:
    """One client trims all the time; the other's reads do not wait for it."""
    for number in range(8):
        slow.trims.send(trim_frame(slow.trims, (number * 64, PIECE)))
    lasted = [took(slow.other, READ_EXT, FAR + PIECE * number, PIECE) for number in range(50)]
    assert statistics.median(lasted) < SLOW_S / 10, lasted


def test_a_place_is_given_back_as_soon_as_its_own_work_is_done(slow: Rig) -> None:
    """Not when Python has nothing left for the export: a client that always trims would keep it for ever."""
    began = time.monotonic()
    slow.trims.send(trim_frame(slow.trims, (0, PIECE)))
    time.sleep(SLOW_S * 0.6)
    slow.trims.send(trim_frame(slow.trims, (FAR, PIECE)))
    took(slow.other, READ_EXT, 0, PIECE)
    assert SLOW_S * 0.9 < time.monotonic() - began < SLOW_S * 1.5
