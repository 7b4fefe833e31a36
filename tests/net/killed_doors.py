"""Doors that are killed under writers, without a guest: the kernel that repeats what was under way is here.
What both primaries have carried out then is compared with what the writers were told."""

import itertools
import os
import random
import re
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from aoe.nbd.nbdkit import PLUGIN
from aoe.wire.protocol import SECTOR
from tests.support.checkers import executed
from tests.support.checkers.linear import Call
from tests.support.checkers.writers import STAMP
from tests.support.labs.nbd_client import READ, WRITE
from tests.support.labs.nbdkit import need_nbdkit
from tests.support.labs.primaries import Primaries, primaries
from tests.support.labs.recorded import RecordedDisk, known_by
from tests.support.labs.scripted_kernel import Kernel, Supervisor, scripted, supervised
from tests.support.tools import which
from tests.support.waiting import wait_for

SECTORS, BLOCK = 8192, 4096
PLACES, WRITERS = 2, 6
WRITE_SHARE = 0.7
ROUND = 30
"""Calls between two deaths."""
PATIENCE_S = 120.0
GOES_ON = r"I/O goes on after ([0-9.]+) s"
REQUEST, REPLY = struct.Struct(">IHHQQI"), struct.Struct(">IIQ")
CANARY = 0


class Request(NamedTuple):
    """What waits for its answer: a write of `number`, or a read."""

    kind: int
    place: int
    number: int
    called: float

    def __bytes__(self) -> bytes:
        return content(self.place, self.number) if self.kind == WRITE else b""


def content(place: int, number: int) -> bytes:
    """Of a block."""
    return STAMP.pack(place, number) * (BLOCK // STAMP.size)


class Device(Kernel):
    """The kernel's part, and writers that use it: each has one request at a time, and each write is of
    another number. What was under way as a connection is lost is asked once more of the next one."""

    def __init__(self, place: Path, seed: int) -> None:
        super().__init__(place)
        self.calls: list[list[Call]] = [[] for _ in range(PLACES)]
        self.errors: list[str] = []
        self._rng = random.Random(seed)
        self._numbers = itertools.count(1)
        self._handles = itertools.count(CANARY + 1)
        self._open: dict[int, Request] = {}
        self._is_connected = False

    def doors(self) -> list[int]:
        """The children of the supervisor."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(it) for it in children.read_text().split()] if self.pid else []

    def begin(self) -> None:
        """Attach, and let the writers go."""
        self.attach()
        self._is_connected = True
        for _ in range(WRITERS):
            self._begin_call()

    def goes_on(self, calls: int = ROUND) -> None:
        """Wait until so many more have returned of each place."""
        wanted = [len(it) + calls for it in self.calls]
        self.until_true(lambda: all(len(it) >= n for it, n in zip(self.calls, wanted, strict=True)))

    def end(self) -> None:
        """Wait for what is under way, and ask nothing more."""
        self._numbers = itertools.count(0, 0)
        self.until_true(lambda: not self._open)

    def until_true(self, condition: Callable[[], object]) -> None:
        """And go on meanwhile."""

        def is_so() -> bool:
            self.serve()
            return bool(condition())

        wait_for(is_so, PATIENCE_S, lambda: f"{self.seen[-20:]} {(self.place / 'said').read_text()}")

    def serve(self) -> None:
        """All that is to be done by now. A connection that is offered while another one lives is not used."""
        self._take_answers()
        while self.is_asked():
            word = self.asked().split()[0]
            if word == "read":
                self._open[CANARY] = Request(READ, 0, 0, time.monotonic())
                self._send(CANARY)
            elif word == "reconnect":
                self.says()
                self._reconnect()
            self._take_answers()

    def _reconnect(self) -> None:
        if self._is_connected:
            return
        self._is_connected = True
        for handle in list(self._open):
            self._send(handle)

    def _begin_call(self) -> None:
        if not (number := next(self._numbers)):
            return
        kind = WRITE if self._rng.random() < WRITE_SHARE else READ
        handle = next(self._handles)
        self._open[handle] = Request(kind, self._rng.randrange(PLACES), number, time.monotonic())
        self._send(handle)

    def _send(self, handle: int) -> None:
        it = self._open[handle]
        head = REQUEST.pack(0x25609513, 0, it.kind, handle, it.place * BLOCK, BLOCK)
        if self._is_connected:
            self._try(lambda to: to.sendall(head + bytes(it)))

    def _try(self, use: Callable[[socket.socket], object]) -> None:
        """Use a connection that may be lost by that."""
        assert self.socket is not None
        self.socket.settimeout(PATIENCE_S)
        try:
            use(self.socket)
        except ConnectionError:
            self._is_connected = False

    def _take_answers(self) -> None:
        while self._is_connected and self._has_come():
            self._try(self._take_answer)

    def _has_come(self) -> bool:
        assert self.socket is not None
        return bool(select.select([self.socket], [], [], 0)[0])

    def _take_answer(self, of: socket.socket) -> None:
        _, error, handle = REPLY.unpack(_exactly(of, REPLY.size))
        it = self._open[handle]
        data = _exactly(of, BLOCK) if it.kind == READ and not error else b""
        del self._open[handle]
        if handle == CANARY:
            self.brings(error)
            return
        if error:
            self.errors.append(f"{it} ended with error {error}")
        else:
            self._note(it, data)
        self._begin_call()

    def _note(self, it: Request, data: bytes) -> None:
        number = it.number
        if it.kind == READ:
            number = number_of(it.place, data)
        self.calls[it.place].append(Call(it.kind == WRITE, number or None, it.called, time.monotonic()))


def number_of(place: int, block: bytes) -> int:
    """Which was written there: 0 before the first, and -1 where it is of no one write."""
    _, number = STAMP.unpack_from(block)
    return number if block == (content(place, number) if number else bytes(BLOCK)) else -1


def _exactly(of: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (part := of.recv(count - len(data))):
            raise ConnectionResetError
        data += part
    return data


class Doors(NamedTuple):
    """A door over two primaries of one disk, under writers, and what it stands on."""

    device: Device
    supervisor: Supervisor
    primaries: Primaries
    disk: RecordedDisk

    def go_on_after(self, deaths: int) -> None:
        """So many in all."""
        self.device.until_true(lambda: len(self.pauses_s()) >= deaths)

    def pauses_s(self) -> list[float]:
        return [float(it) for it in re.findall(GOES_ON, self.supervisor.said.read_text())]

    def hold_write(self) -> None:
        """One of a target is under way in the disk until it is let go."""
        self.disk.hold_next_write()
        self.device.until_true(self.disk.holds_write)

    def kill(self) -> None:
        """SIGKILL, and wait until there is another one."""
        (door,) = self.device.doors()
        os.kill(door, signal.SIGKILL)
        self.device.until_true(lambda: self.device.doors() not in ([], [door]))

    def faults(self) -> list[str]:
        """What is wrong by now. Nothing is under way."""
        device, found = self.device, list(self.device.errors)
        for place in range(PLACES):
            numbers = [it.value for it in device.calls[place] if it.writes]
            values = {known_by(content(place, it)[:SECTOR]): it for it in numbers if isinstance(it, int)}
            done = executed.executions(self.disk.writes(), values)
            found += executed.faults([*device.calls[place], self._stands(place)], done)
        return found

    def _stands(self, place: int) -> Call:
        with self.disk.store.open("rb") as store:
            store.seek(place * BLOCK)
            number, now = number_of(place, store.read(BLOCK)), time.monotonic()
        return Call(False, number or None, now, now)


@contextmanager
def doors(work: Path, seed: int = 0) -> Iterator[Doors]:
    """Where a door that comes next waits until the primaries say that what the last one sent is over, however
    long that takes."""
    need_nbdkit()
    with RecordedDisk(work / "fuse", SECTORS) as disk, primaries(work, [disk.path] * 2, "--shared") as there:
        place = work / "door"
        place.mkdir()
        plugin = [which("nbdkit") or "", "--threads=16", PLUGIN, "timeout=none", "hold=true"]
        paths = ["address=1.0", "address=2.0", "interface=v0", "interface=v1"]
        words: list[str | Path] = [scripted(place), "--foreground", "/dev/nbd0", *plugin, *paths]
        device = Device(place, seed)
        with supervised(device, there.lab.command("client", *words)) as supervisor:
            device.begin()
            yield Doors(device, supervisor, there, disk)


def run(work: Path, seed: int, times: int) -> dict[str, Any]:
    """Kill the door so often: alone, while a primary stands still, and with a write of it held in the disk.
    What a ledger wants; `pause_s` is the longest of those where both primaries were there, `pause_absent_s`
    where one stood still, `pause_held_s` with a write in the disk."""
    rng = random.Random(seed)
    with doors(work, seed) as there:
        for number in range(times):
            there.device.goes_on()
            _DEATHS[number % len(_DEATHS)](there, rng)
            there.go_on_after(number + 1)
        there.device.goes_on()
        there.device.end()
        calls = sum(map(len, there.device.calls))
        pauses_s = there.pauses_s()
        alone_s, absent_s, held_s = (max(pauses_s[it :: len(_DEATHS)], default=0.0) for it in range(3))
        return {
            "calls": calls,
            "moves": times,
            "pause_s": alone_s,
            "pause_absent_s": absent_s,
            "pause_held_s": held_s,
            "faults": there.faults(),
        }


def _alone(there: Doors, _: random.Random) -> None:
    there.kill()


def _while_a_primary_stands_still(there: Doors, rng: random.Random) -> None:
    primary = rng.choice(there.primaries.both)
    primary.pause()
    until = time.monotonic() + rng.uniform(0, 0.5)
    there.device.until_true(lambda: time.monotonic() > until)
    there.kill()
    time.sleep(rng.uniform(0, 1))
    primary.resume()


def _with_a_write_held(there: Doors, rng: random.Random) -> None:
    there.hold_write()
    there.kill()
    time.sleep(rng.uniform(0, 1))
    there.disk.let_write_go()


_DEATHS = (_alone, _while_a_primary_stands_still, _with_a_write_held)
