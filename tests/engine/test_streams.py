"""Order rule T9 as a network sees it, with either engine: what is left of the past lands nowhere, and foreign
clients are served whatever they leave in their frames."""

import asyncio
import itertools
import os
import random
import select
import socket
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from aoe.disk.open import open_disk
from aoe.drive.identify import vendor_of
from aoe.limits import STREAMS_MAX
from aoe.link.packet import PacketLink
from aoe.link.packet_sockets import Ring, Sockets
from aoe.target.accelerator import EngineOptions
from aoe.target.legacy import Legacy
from aoe.target.offer import Offer
from aoe.target.server import TargetOptions
from aoe.target.target import Target
from aoe.timing import FRAME_AGE_DEFAULT_S
from tests.support.checkers.foreign import Foreigner
from tests.support.labs.engine_target import counted
from tests.support.labs.network import Lab, in_namespace
from tests.support.labs.peers import AoeTarget, image
from tests.support.tools import need_engine, need_namespaces
from tests.support.waiting import wait_for
from tests.target import driver

SHELF, SLOT = 1, 1
CLIENT, OTHER = b"\2\0\0\0\0\x11", b"\2\0\0\0\0\x12"
WINDOW = 16
"""Requests under way: far below what the ring holds."""
SECTORS = 64 * WINDOW
FOREIGN_FRAMES = int(os.environ.get("AOE_FOREIGN_FRAMES", "100000"))
ANSWER_S = 20.0
SILENCE_S = 0.3
WAITS_S = 0.6

tags = itertools.count(1000)


class Wire:
    """A raw socket at a target, and what it calls itself in this life."""

    def __init__(self, raw: socket.socket, server: bytes) -> None:
        self.raw = raw
        self.server = server
        self.to = {"dst": server, "shelf": SHELF, "slot": SLOT}
        self.instance = 0

    def take(self, timeout: float) -> bytes | None:
        """The next frame for us, if one comes in time."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0 and select.select([self.raw], [], [], left)[0]:
            data, address = self.raw.recvfrom(65536)
            if address[2] != socket.PACKET_OUTGOING and data[:6] != driver.BROADCAST:
                return data
        return None

    def ask(self, raw: bytes) -> bytes:
        """The answer to a frame."""
        answer = self.answer(raw, ANSWER_S)
        assert answer is not None, "no answer"
        return answer

    def answer(self, raw: bytes, timeout: float) -> bytes | None:
        """That to a frame, if one comes in time."""
        self.raw.send(raw)
        while (answer := self.take(timeout)) is not None and answer[20:24] != raw[20:24]:
            pass
        return answer

    def insist(self, frame: Callable[[], bytes]) -> None:
        """Ask until the answer comes: a frame that waited long for a processor may be too old."""
        wait_for(lambda: self.answer(frame(), 2 * FRAME_AGE_DEFAULT_S))

    def silent_about(self, *frames: bytes) -> bool:
        """Whether nothing comes of them, though what is asked behind them is answered."""
        behind = driver.read(0, src=CLIENT, tag=next(tags), **self.to)
        for raw in (*frames, behind):
            self.raw.send(raw)
        answer = self.take(ANSWER_S)
        return answer is not None and answer[20:24] == behind[20:24] and self.take(SILENCE_S) is None

    def learn(self) -> None:
        vendor = vendor_of(self.ask(driver.identify(src=CLIENT, **self.to))[36:])
        assert vendor is not None
        assert vendor.streams
        self.instance = vendor.instance

    def ours(self, raw: bytes, stream: int, epoch: int = 0) -> bytes:
        return driver.stamped(raw, stream, epoch, self.instance, next(tags))

    def hello(self, stream: int, src: bytes = CLIENT) -> bytes:
        return self.ours(driver.identify(src=src, **self.to), stream)

    def write(self, stream: int, fill: int, epoch: int = 0) -> bytes:
        return self.ours(driver.write(0, bytes([fill]) * 512, src=CLIENT, **self.to), stream, epoch)

    def trim(self, stream: int, epoch: int = 0) -> bytes:
        return self.ours(driver.trim((0, 1), src=CLIENT, **self.to), stream, epoch)

    def registers(self, raw: bytes) -> bool:
        """Whether the answer to an IDENTIFY says that the stream is known; its checksum is always right."""
        data = self.ask(raw)[36:]
        vendor = vendor_of(data)
        assert sum(data) % 256 == 0
        assert vendor is not None
        return vendor.streams

    def first_byte(self) -> int:
        return self.ask(driver.read(0, src=CLIENT, tag=next(tags), **self.to))[36]


@pytest.fixture
def disk() -> Iterator[Path]:
    """In memory, so that no sync takes the time."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as work:
        yield image(Path(work) / "disk", SECTORS)


patient = pytest.mark.parametrize("process_age_s", [20.0])
"""For frames that are sent once: none is dropped as it waited for a processor."""


@pytest.fixture
def process_age_s() -> float:
    """Of frames at most, at a target that is a process."""
    return FRAME_AGE_DEFAULT_S


@pytest.fixture(params=["python", "c"])
def target(
    request: pytest.FixtureRequest, tmp_path: Path, disk: Path, process_age_s: float
) -> Iterator[AoeTarget]:
    need_namespaces()
    if request.param == "c":
        need_engine()
    words = (f"{disk}={SHELF}.{SLOT}", "--engine", request.param, "--max-frame-age", f"{process_age_s}")
    with Lab(mtu=9000) as lab, AoeTarget(lab, tmp_path, *words) as made:
        yield made


@pytest.fixture
def wire(target: AoeTarget) -> Iterator[Wire]:
    with target.lab.socket("client", "v0") as raw:
        made = Wire(raw, target.lab.cables[0].a.mac)
        made.learn()
        yield made


@patient
def test_others_that_register_let_no_old_write_in(
    wire: Wire, target: AoeTarget, process_age_s: float
) -> None:
    hello, old = wait_for(lambda: beside_others(wire, process_age_s), what="all at one time")
    wire.ask(hello)
    assert wire.silent_about(old)
    assert wire.first_byte() == 2
    assert counted(target)["stale"] == 1


def beside_others(wire: Wire, age_s: float) -> tuple[bytes, bytes] | None:
    """What registered a stream, and its first write, where others took all other places within the time in
    which it keeps its own."""
    began = time.monotonic()
    hello, old = wire.hello(5), wire.write(5, 1)
    if not wire.registers(hello):
        return None
    wire.ask(old)
    wire.ask(wire.write(5, 2))
    known = [wire.registers(wire.hello(1000 + n, OTHER)) for n in range(STREAMS_MAX)]
    if time.monotonic() - began > age_s:
        return None
    assert known == [True] * (STREAMS_MAX - 1) + [False]
    return hello, old


@patient
def test_a_trim_of_the_past_lands_nowhere(wire: Wire, target: AoeTarget) -> None:
    """It was here before, is of an earlier epoch, of a stream that is not known, or for another life."""
    assert wire.registers(wire.hello(5))
    wire.ask(wire.write(5, 1))
    here, late, stranger = wire.trim(5), wire.trim(5), wire.trim(6)
    other_life = here[:-1] + bytes((here[-1] ^ 1,))
    assert wire.ask(here)[27] == 0x40
    assert wire.first_byte() == 0
    wire.ask(wire.write(5, 2))
    wire.ask(wire.ours(driver.flush(src=CLIENT, **wire.to), 5, 1))
    assert wire.silent_about(here, late, stranger, other_life)
    assert (counted(target)["stale"], wire.first_byte()) == (4, 2)
    assert wire.ask(wire.trim(5, 1))[27] == 0x40
    assert wire.first_byte() == 0


@patient
def test_a_tag_from_the_other_half_of_all_tags_is_dropped(wire: Wire, target: AoeTarget) -> None:
    """One that is as far ahead as it is behind would be carried out as often as the network delivers it."""
    here = next(tags)
    to = {"src": CLIENT, **wire.to}
    half = [
        driver.stamped(driver.write(0, bytes([9]) * 512, **to), 5, 0, wire.instance, here + away)
        for away in (1 << 30, (1 << 30) + 1)
    ]
    assert wire.registers(driver.stamped(driver.identify(**to), 5, 0, wire.instance, here))
    assert wire.silent_about(*half, *half)
    assert counted(target)["stale"] == 4
    wire.ask(wire.write(5, 2))
    assert wire.first_byte() == 2


def test_without_a_place_a_client_is_served_and_gets_one_when_others_were_silent(wire: Wire) -> None:
    others = range(1000, 1000 + STREAMS_MAX)

    def refused() -> bool:
        """Where all have asked within the time in which each keeps its place."""
        return all(wire.registers(wire.hello(it, OTHER)) for it in others) and not wire.registers(
            wire.hello(5)
        )

    wait_for(refused, what="no place")
    assert wire.silent_about(wire.write(5, 1))
    wire.insist(lambda: driver.write(0, bytes([7]) * 512, src=CLIENT, tag=next(tags), **wire.to))
    assert wire.first_byte() == 7
    wait_for(lambda: wire.registers(wire.hello(5)), what="a place")
    wire.insist(lambda: wire.write(5, 1))
    assert wire.first_byte() == 1


@patient
def test_what_was_sent_to_another_host_or_disk_begins_no_epoch(wire: Wire) -> None:
    assert wire.registers(wire.hello(5))
    for to in ({"dst": OTHER}, {"slot": SLOT + 1}):
        elsewhere = {"src": CLIENT, **wire.to, **to}
        frames = driver.write(0, bytes([9]) * 512, **elsewhere), driver.flush(**elsewhere)
        assert wire.silent_about(*(wire.ours(raw, 5, 9) for raw in frames))
    wire.ask(wire.write(5, 7, epoch=1))
    assert wire.first_byte() == 7


@patient
def test_a_restart_forgets_nothing(wire: Wire, target: AoeTarget) -> None:
    """Within the frame age, and though the stream registers again."""
    hello, old, unsent = wire.hello(5), wire.write(5, 1), wire.write(5, 9)
    end = wire.ours(driver.flush(src=CLIENT, **wire.to), 5, 1)
    assert wire.registers(hello)
    wire.ask(old)
    target.kill()
    target.start()
    before = wire.instance
    wire.learn()
    assert wire.instance != before
    assert wire.registers(wire.hello(5))
    wire.ask(wire.write(5, 2))
    wire.ask(hello)
    assert wire.silent_about(old, unsent, end)
    assert wire.first_byte() == 2
    wire.ask(wire.write(5, 3))
    assert counted(target)["stale"] == 3


@patient
def test_a_flush_that_a_client_did_not_send_is_told_of_once_it_goes_on(wire: Wire, target: AoeTarget) -> None:
    assert wire.registers(wire.hello(5))
    wire.ask(wire.write(5, 1))
    wire.ask(wire.ours(driver.flush(src=CLIENT, **wire.to), 5, 100))
    assert wire.silent_about(wire.write(5, 2), wire.write(5, 3))
    assert "FLUSH" not in target.errors
    assert wire.registers(wire.hello(6))
    wire.ask(wire.write(6, 4))
    target.says("a FLUSH in the name of", CLIENT.hex(":"))
    assert wire.registers(wire.hello(7))
    wire.ask(wire.write(7, 5))
    assert target.errors.count("a FLUSH in the name of") == 1


# From one life to the next


class Kept(Sockets):
    """Sockets that outlive a target with what comes meanwhile, as a service manager keeps them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str], socket.socket] = {}

    def ringed(self, name: str, thread: int, ring: Ring) -> tuple[socket.socket, bool]:
        key = thread, ring.words
        is_new = key not in self._kept
        if is_new:
            self._kept[key], _ = super().ringed(name, thread, ring)
        return self._kept[key].dup(), not is_new

    def close(self) -> None:
        for it in self._kept.values():
            it.close()


class Lives:
    """Lives of a target in this process, one after the other, on the target's side of a lab."""

    def __init__(self, lab: Lab, disk: Path, engine: str, age_s: float) -> None:
        self.sockets = Kept()
        self.lab = lab
        self._disk = disk
        self._options = TargetOptions(age_s, engine=EngineOptions() if engine == "c" else None)
        self._end = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._life: Future[Legacy] | None = None
        self.before: Callable[[], Awaitable[None]] = partial(asyncio.sleep, 0)
        """Is waited for before a life begins to take frames."""

    def begin(self, legacy: Legacy) -> None:
        """The next life."""
        began = threading.Event()
        self._end.clear()
        self._life = self._pool.submit(
            in_namespace,
            self.lab.namespace("target"),
            lambda: asyncio.run(self._live(legacy, began)),
        )
        assert began.wait(30), self._life.result(1)

    def end(self) -> Legacy:
        """What it leaves."""
        self._end.set()
        assert self._life is not None
        return self._life.result(30)

    async def _live(self, legacy: Legacy, began: threading.Event) -> Legacy:
        target = Target.open([PacketLink("v0", self.sockets)], self._options, legacy=legacy, paused=True)
        await target.add(Offer(open_disk(self._disk), SHELF, SLOT, "A"), check=False)
        await self.before()
        target.resume()
        began.set()
        while not self._end.is_set():
            await asyncio.sleep(0.01)
        assert await target.stop()
        return target.legacy


@pytest.fixture
def age_s() -> float:
    """Of frames at most: what waits between two lives is younger, also on a busy machine."""
    return 20.0


@pytest.fixture(params=["python", "c"])
def lives(request: pytest.FixtureRequest, disk: Path, age_s: float) -> Iterator[Lives]:
    need_namespaces()
    if request.param == "c":
        need_engine()
    with Lab(mtu=9000) as lab:
        made = Lives(lab, disk, request.param, age_s)
        made.begin({})
        yield made
        made.end()
        made.sockets.close()


@pytest.fixture
def witness(lives: Lives) -> Iterator[Wire]:
    with lives.lab.socket("client", "v0") as raw:
        made = Wire(raw, lives.lab.cables[0].a.mac)
        made.learn()
        yield made


def test_a_life_that_ended_clean_goes_on_as_the_same_instance(lives: Lives, witness: Wire) -> None:
    """What was carried out is not again, what comes late of an epoch that is over is dropped, and who was
    registered writes on."""
    hello, old, unsent = witness.hello(5), witness.write(5, 1), witness.write(5, 9)
    assert witness.registers(hello)
    witness.ask(old)
    witness.ask(witness.ours(driver.flush(src=CLIENT, **witness.to), 5, 1))
    last = witness.write(5, 2, epoch=1)
    witness.ask(last)
    lives.begin(lives.end())
    before = witness.instance
    witness.learn()
    assert witness.instance == before
    assert witness.silent_about(old, unsent, last)
    assert witness.first_byte() == 2
    witness.ask(witness.write(5, 3, epoch=1))
    assert witness.first_byte() == 3
    assert witness.silent_about(old, last)


@pytest.mark.parametrize("lives", ["c"], indirect=True)
@pytest.mark.parametrize("before", [0, 1, 40, 200])
def test_what_came_between_two_lives_is_served_in_its_order(lives: Lives, witness: Wire, before: int) -> None:
    """Wherever in the ring the last life was; frames that do not fit are lost, and no later one."""
    for _ in range(before):
        witness.first_byte()
    legacy = lives.end()
    for number in range(50):
        witness.raw.send(driver.write(0, bytes([number]) * 512, src=CLIENT, tag=next(tags), **witness.to))
    lives.begin(legacy)
    answers = [witness.take(ANSWER_S) for _ in range(50)]
    tags_seen = [answer[20:24] for answer in answers if answer]
    assert tags_seen == sorted(tags_seen)
    assert len(set(tags_seen)) == 50
    assert witness.first_byte() == 49
    for _ in range(300):
        witness.first_byte()


@pytest.mark.parametrize("lives", ["c"], indirect=True)
def test_what_waits_for_a_life_to_begin_keeps_no_processor_busy(lives: Lives, witness: Wire) -> None:
    """The new life has other things to do with it."""
    spent_s = []

    async def wait() -> None:
        before_s = time.process_time()
        await asyncio.sleep(WAITS_S)
        spent_s.append(time.process_time() - before_s)

    legacy, lives.before = lives.end(), wait
    for number in range(50):
        witness.raw.send(driver.read(number, src=CLIENT, tag=next(tags), **witness.to))
    lives.begin(legacy)
    assert spent_s[0] < WAITS_S / 4
    assert all(witness.take(ANSWER_S) for _ in range(50))


@pytest.mark.parametrize("lives", ["c"], indirect=True)
def test_a_ring_that_ran_over_between_two_lives_goes_on_with_the_oldest(lives: Lives, witness: Wire) -> None:
    legacy = lives.end()
    for number in range(3000):
        witness.raw.send(driver.read(number % 64, src=CLIENT, tag=1 + number, **witness.to))
    lives.begin(legacy)
    seen = []
    while (answer := witness.take(SILENCE_S if len(seen) > 60 else ANSWER_S)) is not None:
        seen.append(int.from_bytes(answer[20:24], "big"))
    assert seen == list(range(1, 1 + len(seen)))
    assert 60 < len(seen) < 3000
    for _ in range(2000):
        witness.first_byte()


@pytest.mark.parametrize("lives", ["c"], indirect=True)
@pytest.mark.parametrize("age_s", [FRAME_AGE_DEFAULT_S])
def test_who_asked_between_two_lives_is_known_however_long_that_waited(lives: Lives, witness: Wire) -> None:
    """Or it would take another stream, and what it had sent would be of unknown fate."""
    assert witness.registers(witness.hello(5))
    legacy = lives.end()
    for stream in (5, 6):
        witness.raw.send(witness.hello(stream))
    time.sleep(FRAME_AGE_DEFAULT_S + 0.1)
    lives.begin(legacy)
    said = [vendor_of(answer[36:548]) for _ in range(2) if (answer := witness.take(ANSWER_S))]
    assert [it and (it.streams, it.heeded) for it in said] == [(True, True), (False, False)]
    witness.ask(witness.write(5, 4))
    assert witness.first_byte() == 4
    assert witness.silent_about(witness.write(6, 5))


def test_a_life_without_the_legacy_of_the_last_is_another_instance(lives: Lives, witness: Wire) -> None:
    assert witness.registers(witness.hello(5))
    lives.end()
    lives.begin({})
    assert witness.silent_about(witness.write(5, 1)), "for the last life"
    before = witness.instance
    witness.learn()
    assert witness.instance != before


@patient
def test_foreign_clients_are_served_whatever_they_leave_in_their_frames(
    wire: Wire, target: AoeTarget, disk: Path
) -> None:
    """100,000 frames in a closed loop, or as AOE_FOREIGN_FRAMES has it: none is lost, none is sent again.
    On a busy machine some wait for seconds."""
    assert wire.registers(wire.hello(5))
    foreign = Foreigner(random.Random(1), wire.server, SHELF, SLOT, sectors=SECTORS)
    waiting: dict[bytes, tuple[bytes, int]] = {}

    def ask(part: int) -> None:
        raw = foreign.request(WINDOW, part)
        waiting[raw[20:24]] = raw, part
        wire.raw.send(raw)

    for part in range(WINDOW):
        ask(part)
    for number in range(FOREIGN_FRAMES):
        answer = wire.take(ANSWER_S)
        assert answer is not None, f"no answer to {[raw[:36].hex() for raw, _ in waiting.values()]}"
        asked, part = waiting.pop(answer[20:24])
        foreign.check(asked, answer)
        if number < FOREIGN_FRAMES - WINDOW:
            ask(part)
    assert not waiting
    numbers = counted(target)
    assert numbers["stale"] == numbers["ring_full"] == 0
    assert disk.read_bytes() == foreign.disk
