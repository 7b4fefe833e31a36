"""Order rule T3 in the server: a stepped clock is noticed before anything old is let to the disk."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from aoe.disk.faulty import FaultyDisk
from aoe.disk.memory import MemoryDisk
from aoe.link.memory import MemoryLink, Network
from aoe.target.served import Served
from aoe.target.server import Server, TargetOptions
from aoe.target.system import System
from tests.target.driver import MS, SECOND, SERVER, START_NS, make_export, read, write

SECOND_MAC = bytes.fromhex("0200000000ff")
DATA = b"d" * 512


class Clocks:
    """True time and what CLOCK_REALTIME makes of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot_ns = 1000 * SECOND
        self.real_ns = START_NS
        monkeypatch.setattr(time, "time_ns", lambda: self.real_ns)
        monkeypatch.setattr(time, "clock_gettime_ns", lambda _: self.boot_ns)

    def go_by(self, true_ns: int, step_ns: int = 0) -> None:
        self.boot_ns += true_ns
        self.real_ns += true_ns + step_ns


class Scene:
    """A server on two links whose disk hangs until told."""

    def __init__(self, clocks: Clocks, places: int) -> None:
        self.clocks = clocks
        network = Network()
        self.links = [network.attach(SERVER), network.attach(SECOND_MAC)]
        self.memory = MemoryDisk(1 << 20)
        self.disk = FaultyDisk(self.memory)
        self.export = make_export(places=places)
        self.server = Server(self.links, TargetOptions(), System())
        self.server.start()
        self.server.admit(Served(self.export, self.disk))

    async def turns(self, count: int = 100) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    def arrive(self, link: MemoryLink, raw: bytes, stamp_ns: int | None = None) -> None:
        link.arrive(raw, self.clocks.real_ns if stamp_ns is None else stamp_ns)


Act = Callable[[Scene], Awaitable[None]]


def play(monkeypatch: pytest.MonkeyPatch, act: Act, places: int = 8) -> Scene:
    clocks = Clocks(monkeypatch)

    async def run() -> Scene:
        scene = Scene(clocks, places)
        await scene.turns()
        scene.arrive(scene.links[0], read(0, tag=1))
        await scene.turns()
        await act(scene)
        scene.disk.hang.set()
        await scene.server.stop(0)
        return scene

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("step_ms", "true_ms", "second_lands"), [(0, 900, True), (0, 1300, False), (-500, 1300, False)]
)
def test_what_waits_for_the_disk_while_the_clock_is_set_back(
    monkeypatch: pytest.MonkeyPatch, step_ms: int, true_ms: int, second_lands: bool
) -> None:
    """No frame comes in between: the completion itself must look at the clocks before it lets more run."""

    async def act(scene: Scene) -> None:
        scene.disk.hang.clear()
        scene.arrive(scene.links[0], write(0, DATA))
        scene.arrive(scene.links[0], write(8, DATA))
        await scene.turns()
        scene.clocks.go_by(true_ms * MS, step_ms * MS)
        scene.disk.hang.set()
        await scene.turns()

    scene = play(monkeypatch, act, places=1)
    assert scene.memory.data[:512] == DATA, "what was submitted may land (rule T4)"
    assert (scene.memory.data[8 * 512 : 9 * 512] == DATA) is second_lands


def backlog(scene: Scene, make: Callable[[int], bytes]) -> None:
    """More than one look takes from either link, and the second link's frames are the younger ones."""
    for number in range(300):
        link = scene.links[number >= 200]
        scene.arrive(link, link.mac + make(number)[6:], scene.clocks.real_ns + number)


@pytest.mark.parametrize(("step_ms", "true_ms", "landed"), [(0, 900, 300), (0, 1300, 0), (-500, 1300, 0)])
def test_a_long_backlog_from_before_the_clock_was_set_back(
    monkeypatch: pytest.MonkeyPatch, step_ms: int, true_ms: int, landed: int
) -> None:
    async def act(scene: Scene) -> None:
        backlog(scene, lambda number: write(number, DATA, tag=number))
        scene.clocks.go_by(true_ms * MS, step_ms * MS)
        await scene.turns()

    scene = play(monkeypatch, act)
    assert sum(scene.memory.data[512 * lba : 512 * lba + 512] == DATA for lba in range(300)) == landed
    assert scene.server.responder.counters["expired"] == 300 - landed


@pytest.mark.parametrize("step_ms", [0, 3600_000, -3600_000])
def test_reads_from_before_the_clock_was_stepped_far_are_answered(
    monkeypatch: pytest.MonkeyPatch, step_ms: int
) -> None:
    async def act(scene: Scene) -> None:
        backlog(scene, lambda number: read(number, tag=1000 + number))
        scene.clocks.go_by(MS, step_ms * MS)
        await scene.turns()

    scene = play(monkeypatch, act)
    assert scene.server.responder.counters["reads"] == 301
