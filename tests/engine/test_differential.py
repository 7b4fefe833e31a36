"""The engine and the Python responder get the same frames and must send the same bytes.

The reference is `Responder` over a memory disk, run at once; the other side is a whole target with the
engine, on a network. Frames go out in groups. One that changes the reference's state goes alone: what is
under way around it may be judged under the old state or the new (order rule T5).
"""

import os
import random
import select
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe.drive.command import STAMPED
from aoe.drive.identify import Vendor, vendor_of
from aoe.metrics.snapshot import ExportNumbers
from aoe.target.export import Export
from tests.engine.recorded import RECORDED
from tests.engine.setups import WRITE_BACK, Setup
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget
from tests.support.tools import need_engine, need_namespaces
from tests.target import driver
from tests.target.driver import BROADCAST, Driver, make_driver, make_export

pytestmark = pytest.mark.timeout(900)

FRAMES = int(
    os.environ.get("AOE_DIFFERENTIAL_FRAMES", "170000" if os.environ.get("CI") == "true" else "20000")
)
"""For each of the three setups."""
GROUP = 64
SECTORS = 512
SERIAL = "DIFFERENTIAL"
BUSY = 48
"""Most requests fall on these sectors, so that they overlap."""
ANSWER_S = 20.0
AGE_S = 20
"""What waits for a processor on a busy machine is not too old then."""
CLIENTS = [bytes((2, 0, 0, 0, 0, last)) for last in (0x11, 0x12, 0x13, 0x14)]

_IDENTIFY_AT = 36


SETUPS = [
    Setup("memory", WRITE_BACK, memory=True),
    Setup("buffered", WRITE_BACK),
    Setup("direct", ("--direct", *WRITE_BACK)),
]


class Generator:
    """Frames of several clients: valid ones, changes of state, and spoilt ones."""

    def __init__(self, seed: int, server: bytes, instance: int) -> None:
        self._rng = random.Random(seed)
        self._server = server
        self._instance = instance
        self._tag = 0
        self._epoch = 200
        self.valid = 0

    def frame(self) -> bytes:
        self._tag += 1
        kind = self._rng.random()
        if kind < 0.70:
            self.valid += 1
            return self._valid(kind)
        if kind < 0.71:
            return self._change()
        source = self._rng.choice(RECORDED) if kind > 0.85 else self._valid(self._rng.random() * 0.7)
        return self._spoil(self._addressed(source))

    def _to(self) -> dict[str, object]:
        src = self._rng.choice(CLIENTS)
        dst = self._server if self._rng.random() < 0.9 else BROADCAST
        return {"src": src, "dst": dst, "tag": self._tag}

    def _extent(self) -> tuple[int, int]:
        lba = self._rng.randrange(BUSY) if self._rng.random() < 0.9 else self._rng.randrange(SECTORS)
        return lba, min(self._rng.randint(1, 16), SECTORS - lba)

    def _valid(self, kind: float) -> bytes:
        raw = self._message(kind)
        if raw[27] not in STAMPED | {0xEC} or raw[19] or self._rng.random() < 0.8:
            return raw
        self._epoch += self._rng.random() < 0.1
        epoch = (self._epoch + self._rng.choice((-1, 0, 0, 0))) % 256
        tag, instance = self._tag, self._instance
        if self._rng.random() < 0.3:  # late, repeated, or far ahead
            tag = max(1, self._tag + self._rng.choice((-1500, -1030, -900, -64, -3, -1, 40, 700)))
        if self._rng.random() < 0.1:  # to an earlier life
            instance ^= 1 << self._rng.randrange(64)
        stream = self._rng.randrange(1, 4) if self._rng.random() < 0.98 else self._rng.randrange(1 << 16)
        return driver.stamped(raw, stream, epoch, instance, tag)

    def _message(self, kind: float) -> bytes:
        lba, count = self._extent()
        to = self._to()
        if kind < 0.30:
            opcode = self._rng.choice((0x20, 0x24, 0x25, 0x29, 0xC4, 0xC8))
            return driver.ata(opcode, count, lba, aflags=self._rng.choice((0, 0x40)), **to)
        if kind < 0.62:
            opcode = self._rng.choice((0x30, 0x34, 0x35, 0x39, 0x3D, 0xC5, 0xCA, 0xCE))
            return driver.ata(opcode, count, lba, self._rng.randbytes(512 * count), aflags=0x41, **to)
        if kind < 0.64:
            return driver.flush(**to)
        if kind < 0.66:
            return driver.trim((lba, count), (self._rng.randrange(BUSY), 1), **to)
        if kind < 0.67:
            return driver.ata(0x42, count, lba, **to)
        if kind < 0.68:
            return driver.identify(**to)
        if kind < 0.69:
            return driver.config(self._rng.randrange(3), self._rng.choice((b"", b"one")), **to)
        return driver.ata(self._rng.choice((0xE5, 0xE0, 0x90, 0x00, 0xB0)), **to)

    def _change(self) -> bytes:
        """Never against the first client, who ends what the others began."""
        mine, other = CLIENTS[0], self._rng.choice(CLIENTS[1:])
        to = {**self._to(), "src": mine}
        changes = (
            lambda: driver.config(4, self._rng.choice((b"", b"one", b"two")), **to),
            lambda: driver.mask(1, (self._rng.randint(1, 2), other), (1, mine), **to),
            lambda: driver.mask(1, *((2, mac) for mac in CLIENTS), **to),
            lambda: driver.reserve(2, mine, other, **to),
            lambda: driver.reserve(2, **to),
            lambda: driver.cache(self._rng.random() < 0.5, **to),
        )
        return self._rng.choice(changes)()

    def _addressed(self, frame: bytes) -> bytes:
        """A recorded frame, as if it were for our target."""
        src = self._rng.choice(CLIENTS)
        return self._server + src + frame[12:16] + bytes((0, driver.SHELF, driver.SLOT)) + frame[19:]

    def _spoil(self, frame: bytes) -> bytes:
        spoilt = bytearray(frame)
        for _ in range(self._rng.choice((1, 1, 1, 2, 5))):
            how = self._rng.random()
            if how < 0.6:
                spoilt[self._rng.randrange(14, min(len(spoilt), 48))] = self._rng.randrange(256)
            elif how < 0.8:
                spoilt[self._rng.randrange(len(spoilt))] ^= 1 << self._rng.randrange(8)
            elif how < 0.9:
                del spoilt[self._rng.randrange(14, len(spoilt)) :]
                spoilt += b"\x10" * (15 - len(spoilt))
            else:
                spoilt += self._rng.randbytes(self._rng.randrange(64))
        return bytes(spoilt)


class Reference:
    """The responder; remembers whether a frame changed its state."""

    def __init__(self, server: bytes, told: Vendor) -> None:
        about: dict[str, object] = {"cache": True, "cache_on": True}
        about |= {"instance": told.instance, "store_id": told.store_id, "alone": told.alone}
        about |= {"frame_age_ms": told.frame_age_ms, "physical_block": 4096}
        export = make_export(sectors=SECTORS, identity={**about, "streams": True})
        self._driver: Driver = make_driver(export)
        self._driver.checked = False
        self._driver.port.change(server, 9000)
        self._export: Export = export
        export.describe(export.identity._replace(serial=SERIAL))

    @property
    def disk(self) -> bytes:
        return bytes(self._driver.disk)

    def numbers(self) -> ExportNumbers:
        """What it has counted."""
        return self._export.work.numbers(self._export.address, len(self._export.queue))

    def answer(self, frame: bytes) -> tuple[list[bytes], bool]:
        """What leaves because of a frame, and whether it changed how later ones are judged."""
        before = self._export.state, self._export.identity
        # A frame that a switch would not have delivered does not arrive.
        replies = self._driver.send(frame) if frame[:6] in (self._driver.port.mac, BROADCAST) else []
        self._driver.log.clear()
        return replies, (self._export.state, self._export.identity) != before


def told_by(wire: socket.socket, server: bytes) -> Vendor:
    """What the target calls itself in this life, so that frames may name it and the reference be it."""
    wire.send(driver.identify(dst=server, src=CLIENTS[0]))
    ((raw, _),) = receive(wire, 1).items()
    vendor = vendor_of(raw[_IDENTIFY_AT:])
    assert vendor is not None
    return vendor


def advertises(frame: bytes) -> bool:
    """Whether it is, or looks like, a config reply that nobody asked for."""
    return frame[19] == 1 and frame[20:24] == bytes(4)


def receive(wire: socket.socket, number: int) -> Counter[bytes]:
    """The next frames but for advertisements, as many as asked for or as come in time."""
    found: Counter[bytes] = Counter()
    deadline = time.monotonic() + ANSWER_S
    while found.total() < number and (left := deadline - time.monotonic()) > 0:
        if select.select([wire], [], [], left)[0]:
            raw, address = wire.recvfrom(65536)
            if address[2] != socket.PACKET_OUTGOING and not advertises(raw):
                found[raw] += 1
    return found


def groups(frames: Iterator[bytes], reference: Reference) -> Iterator[tuple[list[bytes], Counter[bytes]]]:
    """Frames to send together, and what must come back; one that changes the state goes alone."""
    together: list[bytes] = []
    expected: Counter[bytes] = Counter()
    for frame in frames:
        replies, changed = reference.answer(frame)
        if changed or len(together) == GROUP:
            yield together, expected
            together, expected = [], Counter()
        together.append(frame)
        expected.update(reply for reply in replies if not advertises(reply))
        if changed:
            yield together, expected
            together, expected = [], Counter()
    yield together, expected


def explain(together: list[bytes], expected: Counter[bytes], found: Counter[bytes]) -> str:
    missing, extra = expected - found, found - expected
    show = [f"{missing.total()} missing, {extra.total()} extra of {expected.total()} for {len(together)}"]
    show += [f"missing {raw[:64].hex()} ({len(raw)})" for raw in list(missing)[:3]]
    show += [f"extra   {raw[:64].hex()} ({len(raw)})" for raw in list(extra)[:3]]
    tags = {raw[20:24] for raw in (*missing, *extra)}
    show += [f"asked   {raw[:64].hex()} ({len(raw)})" for raw in together if raw[20:24] in tags]
    return "\n".join(show)


def run(wire: socket.socket, server: bytes, seed: int, number: int) -> tuple[Reference, Generator]:
    told = told_by(wire, server)
    generator, reference = Generator(seed, server, told.instance), Reference(server, told)
    waiting = groups((generator.frame() for _ in range(number)), reference)
    following = next(waiting, None)
    while following is not None:
        together, expected = following
        for frame in together:
            wire.send(frame)
        following = next(waiting, None)  # found out while the engine is at these
        found = receive(wire, expected.total())
        assert found == expected, explain(together, expected, found)
    return reference, generator


@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
def test_same_frames_same_bytes_same_disk(setup: Setup, tmp_path: Path) -> None:
    need_namespaces()
    need_engine()
    memory = Path(tempfile.mkdtemp(dir="/dev/shm"))  # also for the state, of which every change is synced
    image = (memory if setup.memory else tmp_path) / "image"
    try:
        image.write_bytes(bytes(SECTORS * 512))
        with Lab(mtu=9000) as lab:
            options = (*setup.options, "--serial", SERIAL, "--engine", "c", "--max-frame-age", str(AGE_S))
            path = f"{image}={driver.SHELF}.{driver.SLOT}"
            with (
                AoeTarget(lab, tmp_path, path, *options, state_dir=memory / "state") as target,
                lab.socket("client", "v0") as wire,
            ):
                reference, generator = run(wire, lab.cables[0].a.mac, 1, FRAMES)
                counters = target.counters()
                target.stop()
        assert image.read_bytes() == reference.disk
        assert generator.valid > 0.3 * FRAMES
        served = dict(word.split("=") for word in counters.split() if "=" in word)
        assert int(served["engine_reads"]) + int(served["engine_writes"]) > 0.3 * FRAMES
    finally:
        shutil.rmtree(memory)


def test_the_comparison_notices_a_wrong_byte() -> None:
    expected, found = Counter([b"\1" * 60]), Counter([b"\1" * 59 + b"\2"])
    assert found != expected
    assert "missing" in explain([], expected, found)
