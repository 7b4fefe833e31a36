"""What a target counts is what happened, in both engines, and what is counted is bounded."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aoe.limits import CLIENTS_MAX
from aoe.metrics.table import CLIENT, EXPORT, Type, place_of
from bench import contest
from tests.engine import counted_target
from tests.engine.test_differential import SECTORS, SERIAL, receive, run
from tests.support.labs.network import Lab
from tests.support.tools import need, need_engine, need_namespaces
from tests.support.waiting import PATIENCE_S, wait_for
from tests.target import driver

DIFFERENTIAL = f"{driver.SHELF}.{driver.SLOT}"
FRAMES = 6000
STRANGERS = 10_000
PIECE = 8
ANSWERED = ("reads", "writes", "flushes", "trims", "verifies")
each_engine = pytest.mark.parametrize("engine", ["c", "python"])


class Numbers:
    """Those of one export, by name."""

    def __init__(self, said: Mapping[str, Any]) -> None:
        self.all: list[int] = said["numbers"]
        self.clients: dict[str, list[int]] = {it["mac"]: it["numbers"] for it in said["clients"]}
        self.other: list[int] = said["other"]

    def __getitem__(self, name: str) -> int:
        return self.all[place_of(EXPORT, name)]

    def times(self, name: str) -> int:
        """How many a histogram has."""
        (row,) = (row for row in EXPORT if row.name == name)
        return sum(self.all[at] for at in row.places[:-1])

    def answered(self) -> int:
        """Requests that touch data."""
        return sum(self[name] for name in ANSWERED)

    def requests(self) -> int:
        """Of all clients."""
        return sum(it[place_of(CLIENT, "requests")] for it in (*self.clients.values(), self.other))


class Counted:
    """A target that says its numbers."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode()

    def ask(self) -> dict[str, Any]:
        """All of them."""
        self.process.send_signal(signal.SIGUSR1)
        found: dict[str, Any] = json.loads(self.line())
        return found

    def exports(self) -> dict[str, Numbers]:
        return {it["address"]: Numbers(it) for it in self.ask()["exports"]}

    def quiet(self, address: str, answered: int) -> Numbers:
        """Of an export, once so many requests are counted: one is when its answer has left."""
        return wait_for(lambda: (it := self.exports()[address]).answered() >= answered and it)

    @property
    def resident_kib(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])


@contextmanager
def counted(
    lab: Lab, engine: str, *addresses: str, durability: str = "write-back", sectors: int = SECTORS
) -> Iterator[Counted]:
    """A target that serves files in memory."""
    if engine == "c":
        need_engine()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, tempfile.TemporaryFile() as errors:
        words = []
        for address in addresses:
            image = Path(memory) / f"image{address}"
            image.write_bytes(bytes(512 * sectors))
            words.append(f"{image}={address}={SERIAL if address == DIFFERENTIAL else image.name}")
        argv = [sys.executable, counted_target.__file__, engine, durability, *words]
        process = lab.popen("target", *argv, stdout=subprocess.PIPE, stderr=errors)
        try:
            it = Counted(process)
            assert it.line() == "ready\n", (errors.seek(0), errors.read())
            yield it
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0, (errors.seek(0), errors.read())
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def lab() -> Iterator[Lab]:
    need_namespaces()
    with Lab(mtu=9000) as made:
        yield made


# The same in both


def comparable(numbers: list[int]) -> dict[str, int]:
    """What does not hang on how long something takes, or who reads it from where."""
    return {row.name: numbers[row.at] for row in EXPORT if row.type is Type.COUNTER}


@each_engine
def test_the_responder_and_the_engine_count_the_same(engine: str, lab: Lab) -> None:
    with counted(lab, engine, DIFFERENTIAL) as target, lab.socket("client", "v0") as wire:
        reference, generator = run(wire, lab.cables[0].a.mac, 1, FRAMES)
        expected = reference.numbers()
        before = comparable(expected.numbers)
        found = target.quiet(f"e{DIFFERENTIAL}", sum(before[name] for name in ANSWERED))
    before["identify"] += 1  # it was asked what it is
    assert comparable(found.all) == before
    assert found.times("reply") == sum(before[name] for name in ("cache_on", "cache_off")) + found.answered()
    heard = place_of(CLIENT, "heard")
    assert {mac: it[:heard] for mac, it in found.clients.items()} == {
        it.mac.hex(":"): list(it.numbers[:heard]) for it in expected.clients
    }
    assert found.other[:heard] == list(expected.other[:heard])
    assert found.requests() > 0.5 * generator.valid
    assert before["expired"] == 0 < before["masked"]


# As many as there were


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("gcc")
    return contest.build("load", tmp_path_factory.mktemp("load"))


@each_engine
@pytest.mark.parametrize("durability", ["write-back", "write-through"])
def test_as_many_are_counted_as_the_load_generator_counts(
    engine: str, durability: str, lab: Lab, load: Path
) -> None:
    with counted(lab, engine, "1.1", "1.2", durability=durability, sectors=1 << 13) as target:
        words = ["v0", "1", "1", "--slots", "2", "--rw", "randrw", "--sectors", str(PIECE), "--depth", "16"]
        words += ["--range", str(1 << 13), "--seconds", "0.5", "--blind", "--patience", "30"]
        ran = lab.popen("client", load, *words, stdout=subprocess.PIPE)
        said = json.loads(ran.communicate(timeout=60)[0])
        assert said["errors"] == 0
        answered = said["answered"] + said["late"]

        def all_counted() -> list[Numbers]:
            them = [*target.exports().values()]
            return them if sum(it.answered() for it in them) >= answered else []

        both = wait_for(all_counted)
        assert sum(it.answered() for it in both) == answered > 0
        mac = lab.cables[0].b.mac.hex(":")
        for one in both:
            requests, read, written, repeated, _ = one.clients[mac]
            assert (requests, repeated, one["queue"]) == (one.answered(), 0, 0)
            assert (read, written) == (one["reads"] * PIECE * 512, one["writes"] * PIECE * 512)
            assert (read, written) == (one["read_bytes"], one["written_bytes"])
            assert one.times("reply") == one.answered()
            assert [*one.clients] == [mac]


# Bounds


def strange(number: int) -> bytes:
    return b"\x02\x66" + number.to_bytes(4, "big")


def ask_as_strangers(wire: socket.socket, server: bytes, first: int, count: int) -> None:
    for start in range(first, first + count, 50):
        for number in range(start, start + 50):
            wire.send(driver.read(0, 1, shelf=1, slot=1, dst=server, src=strange(number), tag=number + 1))
        assert receive(wire, 50).total() == 50


@each_engine
def test_ten_thousand_invented_macs_take_no_more_than_their_bound(engine: str, lab: Lab) -> None:
    server = lab.cables[0].a.mac
    with (
        counted(lab, engine, "1.1") as target,
        lab.socket("client", "v0") as wire,
        lab.client(shelf=1, slot=1, timeout=PATIENCE_S, retries=0) as friend,
    ):
        friend.read(0)
        ask_as_strangers(wire, server, 0, 1000)
        before = target.resident_kib
        ask_as_strangers(wire, server, 1000, STRANGERS - 1000)
        for _ in range(3):
            friend.read(0)
        found = target.quiet("e1.1", STRANGERS + 4)
        assert len(found.clients) == CLIENTS_MAX
        assert found.clients[friend.mac.hex(":")][place_of(CLIENT, "requests")] == 4
        assert found.other[place_of(CLIENT, "requests")] == STRANGERS - CLIENTS_MAX + 1
        assert found.requests() == found.answered() == STRANGERS + 4
        assert target.resident_kib - before < 512


# What is dropped, and for what


@each_engine
def test_a_frame_that_is_dropped_is_counted_where_it_was_meant_for(engine: str, lab: Lab) -> None:
    server = lab.cables[0].a.mac
    mine = b"\x02\0\0\0\0\x11"
    with counted(lab, engine, "1.1", "1.2") as target, lab.socket("client", "v0") as wire:
        to = {"shelf": 1, "dst": server, "src": mine}
        wire.send(driver.mask(1, (1, b"\x02\0\0\0\0\x12"), (1, mine), slot=1, tag=1, **to))
        wire.send(driver.reserve(2, mine, slot=2, tag=2, **to))
        assert receive(wire, 2).total() == 2
        other = {**to, "src": b"\x02\0\0\0\0\x13"}
        wire.send(driver.read(0, 1, slot=1, tag=3, **other))
        wire.send(driver.read(0, 1, slot=2, tag=4, **other))
        wire.send(driver.ata(0x24, 1, 1 << 40, aflags=0x40, slot=1, tag=5, **to))
        wire.send(driver.read(0, 1, slot=1, tag=6, **to))
        assert receive(wire, 3).total() == 3
        one, two = target.quiet("e1.1", 1), target.exports()["e1.2"]
    assert Counter(name for name in comparable(one.all) if one[name]) == Counter(
        ("reads", "read_bytes", "masked", "refused_ata", "changes")
    )
    assert Counter(name for name in comparable(two.all) if two[name]) == Counter(("reserved", "changes"))
    assert {*one.clients} == {mine.hex(":")}
    assert not two.clients


@each_engine
def test_what_is_asked_of_a_disk_whose_sync_failed_is_counted_under_its_client(engine: str, lab: Lab) -> None:
    """As on a disk that is whole; what is no request for the disk, or for none of its sectors, is not."""
    mine = b"\x02\0\0\0\0\x11"
    to = {"slot": 1, "shelf": 1, "dst": lab.cables[0].a.mac, "src": mine}
    counted_ones = [
        *(driver.ata(0x34, 2, lba, bytes(1024), aflags=0x41, tag=1 + lba, **to) for lba in range(3)),
        driver.ata(0x3D, 1, 8, bytes(512), aflags=0x41, tag=11, **to),
        driver.flush(tag=12, **to),
        driver.trim((0, 8), tag=13, **to),
        driver.ata(0x42, 4, 0, tag=14, aflags=0x40, **to),
        driver.read(0, 1, tag=15, **to),
    ]
    others = [
        driver.ata(0x34, 2, 1 << 40, bytes(1024), aflags=0x41, tag=21, **to),
        driver.trim((1 << 40, 8), tag=22, **to),
        driver.cache(True, tag=23, **to),
    ]
    with counted(lab, engine, "1.1", durability="failed") as target, lab.socket("client", "v0") as wire:
        for raw in (*counted_ones, *others):
            wire.send(raw)
            assert receive(wire, 1).total() == 1
        found = target.exports()["e1.1"]
    requests, read, written, repeated, _ = found.clients[mine.hex(":")]
    assert (requests, read, repeated) == (len(counted_ones), 512, 0)
    assert written == 3 * 1024 + 512
    assert (found["failed"], found["reads"], found["writes"], found["flushes"]) == (1, 1, 4, 1)


# Threads


@each_engine
def test_a_thread_that_has_nothing_to_do_is_idle_and_one_at_work_is_busy(
    engine: str, lab: Lab, load: Path
) -> None:
    name = "engine0" if engine == "c" else "python"

    def times() -> tuple[int, int]:
        busy, idle = next(it["numbers"] for it in target.ask()["threads"] if it["name"] == name)
        return busy, idle

    with counted(lab, engine, "1.1", sectors=1 << 13) as target:
        first = times()
        wait_for(lambda: times()[1] - first[1] > 300_000_000)
        rested = times()
        words = ["v0", "1", "1", "--depth", "16", "--range", str(1 << 13), "--seconds", "0.5", "--blind"]

        def works() -> bool:
            lab.popen("client", load, *words, stdout=subprocess.PIPE).communicate(timeout=60)
            return times()[0] - rested[0] > 10_000_000

        wait_for(works, 60)
        worked = times()
    assert rested[0] - first[0] < (rested[1] - first[1]) / 2
    assert all(later >= earlier for later, earlier in zip(worked, rested, strict=True))
