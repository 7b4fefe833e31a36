"""A host's clock is set under our target, on either engine (order rule T3): a write that waited too long is
not done, whatever its stamp says now, and all else goes on.

In a guest, where the clock is ours to set, and the kernel's receive stamps follow it.
"""

import contextlib
import functools
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.wire import ata, frame
from aoe.wire.protocol import SECTOR
from tests.support.labs.guests.files import GuestFiles
from tests.support.labs.guests.kernel import kernel
from tests.support.labs.guests.machine import PATIENCE_S, LinuxGuest, needs_qemu, udp_card
from tests.support.labs.guests.python import add_python
from tests.support.labs.guests.target import need_engine
from tests.support.labs.ports import UdpPort, own_address
from tests.support.labs.raw_client import READ_EXT, WRITE_EXT, Client, NoAnswer, ata_request
from tests.support.waiting import wait_for
from tests.vm import guest_clock

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

ANSWER_S = 60.0
AGE_S = 8.0
"""How old a write may be. What waited longer looks 0.5 s old where the clock was set back by the rest."""
LONG_S = 8.5
HOUR_S = 3600.0
LBA, ANOTHER = 64, 128
OLD, NEW = b"o" * SECTOR, b"n" * SECTOR


class Served(NamedTuple):
    """A target on an engine; a careless one believes the clock. One is run as a service of a file."""

    slot: int
    engine: str
    careful: bool = True
    by_file: bool = False

    @property
    def file(self) -> str:
        head = f'interfaces = ["eth0"]\nstate-dir = "/tmp/state{self.slot}"\nengine = "{self.engine}"\n'
        head = f"[target]\n{head}spin = false\nmax-frame-age = {AGE_S}\n"
        return (
            f'{head}[[export]]\npath = "/tmp/disk{self.slot}"\nshelf = 0\nslot = {self.slot}\nforce = true\n'
        )

    def arguments(self) -> list[str]:
        if self.by_file:
            return ["run", "--config", f"/tmp/file{self.slot}", "--socket", f"/tmp/control{self.slot}"]
        where = ["--interface", "eth0", "--state-dir", f"/tmp/state{self.slot}", "--force", "--no-spin"]
        age = ["--max-frame-age", str(AGE_S)]
        return ["serve", f"/tmp/disk{self.slot}=0.{self.slot}", *where, *age, "--engine", self.engine]


TARGETS = [
    Served(0, "python"),
    Served(1, "c"),
    Served(2, "python", careful=False),
    Served(3, "c", by_file=True),
]


class Step(NamedTuple):
    """How long frames wait, and by how much the clock is set after that; who still carries a write out."""

    name: str
    wait_s: float
    step_s: float
    careful: bool = False
    careless: bool = False

    def lands(self, target: Served) -> bool:
        return self.careful if target.careful else self.careless


STEPS = [
    Step("a short wait", 0.3, 0, careful=True, careless=True),
    Step("a long wait", LONG_S, 0),
    Step("set back", LONG_S, 0.5 - LONG_S, careless=True),
    Step("an hour ahead", 0.3, HOUR_S),
    Step("an hour back", 0.3, -HOUR_S),
]


class Site(NamedTuple):
    """A guest that serves all targets, and the way to them."""

    guest: LinuxGuest
    port: UdpPort

    def client(self, target: Served) -> Client:
        return Client(self.port, 0, target.slot, timeout=2.0, retries=150)

    def counters(self) -> list[Counter[str]]:
        """What each target counts, those of the engine in C first."""
        before = self.said().count("counters:")
        self.guest.check("kill -USR1 $(cat /pids)")
        enough = before + len(TARGETS)
        lines = wait_for(lambda: (text := self.said()).count("counters:") >= enough and text, PATIENCE_S)
        last = [line for line in lines.splitlines() if line.startswith("counters:")][-len(TARGETS) :]
        numbers = [Counter({name: int(n) for name, n in re.findall(r"(\S+)=(\d+)", line)}) for line in last]
        return sorted(numbers, key=lambda counted: "engine_writes" not in counted)

    def said(self) -> str:
        """All lines that have their end."""
        return "".join(self.guest.check("cat /tmp/said").rpartition("\n")[:2])


@contextlib.contextmanager
def site(directory: Path) -> Iterator[Site]:
    files = GuestFiles(kernel())
    python = add_python(
        files, "aoe.cli.target", "aoe.cli.serve", "aoe.cli.run", "aoe.engine", "shutil", "json", "signal"
    )
    files.copy(Path(guest_clock.__file__), "clock.py")
    files.add("clock", f'#!/bin/sh\nexec {python} /clock.py "$@"\n'.encode(), 0o755)
    files.add("exports", json.dumps([(it.careful, it.arguments()) for it in TARGETS]).encode())
    for target in TARGETS:
        files.add(f"tmp/disk{target.slot}", bytes(256 * SECTOR))
        if target.by_file:
            files.add(f"tmp/file{target.slot}", target.file.encode())
    here, there = own_address(), own_address()
    with contextlib.ExitStack() as stack:
        card = udp_card(here, there)
        guest = stack.enter_context(LinuxGuest(directory, kernel(), files, *card, memory_mib=512))
        port = UdpPort(there, local=here)
        stack.callback(port.close)
        made = Site(guest, port)
        guest.check("ip link set eth0 up")
        guest.check("/clock serve /exports 2>&1 | tee /tmp/said >/dev/ttyS0 &")
        for target in TARGETS:
            wait_for(functools.partial(answers, made.client(target)), PATIENCE_S, f"no answer from {target}")
        yield made


def answers(client: Client) -> bool:
    with contextlib.suppress(NoAnswer):
        client.config()
        return True
    return False


def test_what_waits_while_the_clock_is_set(tmp_path: Path) -> None:
    needs_qemu()
    need_engine("c")
    with site(tmp_path) as there:
        for step in STEPS:
            for target in TARGETS:
                there.client(target).write(LBA, OLD)
            written = waits_through(there, step)
            for target in TARGETS:
                lands = step.lands(target)
                client = there.client(target)
                assert client.read(LBA) == (NEW if lands else OLD), (step.name, target)
                assert (target in written) == lands, (step.name, target)
                client.write(ANOTHER, NEW)
                assert client.read(ANOTHER) == NEW
        *in_c, one, other = there.counters()
    assert [(it["engine_clock_stepped"], it["expired"]) for it in in_c] == [(3, 4)] * 2
    assert sorted(counted["clock_stepped"] for counted in (one, other)) == [0, 3]


def waits_through(there: Site, step: Step) -> list[Served]:
    """A write and a read wait at each target; whose write was acknowledged. Every read is answered."""
    there.guest.start(f"/clock step {2 * len(TARGETS)} {step.wait_s} {step.step_s}")
    there.guest.see("stopped")
    reads: dict[bytes, Served] = {}
    writes: dict[bytes, Served] = {}
    for target in TARGETS:
        write, read = ata_request(WRITE_EXT, LBA, 1, NEW), ata_request(READ_EXT, ANOTHER, 1)
        for asked, registers in ((writes, write), (reads, read)):
            asked[sent(there.client(target), registers)] = target
    done = there.guest.finish()
    assert done.status == 0, done.output
    land = {tag for tag, target in writes.items() if step.lands(target)}
    answered = set(tags(there.port, ANSWER_S, set(reads) | land)) | set(tags(there.port, 0.5))
    assert set(reads) <= answered, (step.name, [reads[tag] for tag in set(reads) - answered])
    return [target for tag, target in writes.items() if tag in answered]


def sent(client: Client, registers: ata.AtaRequest) -> bytes:
    """The tag of a request that nobody waits for."""
    raw = client.request(frame.Command.ATA, ata.encode(registers))
    client.send(raw)
    return raw[20:24]


def tags(port: UdpPort, seconds: float, enough: set[bytes] | None = None) -> Iterator[bytes]:
    """The tags of what comes until nothing has come for some seconds, or all have that are enough."""
    missing = set(enough or ())
    while (missing or not enough) and (raw := port.receive(seconds)) is not None:
        missing.discard(raw[20:24])
        yield raw[20:24]
