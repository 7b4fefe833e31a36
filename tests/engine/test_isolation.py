"""A disk that hangs or is slow costs its own clients time, and nobody else's (at most 10 ms)."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.limits import EXPORT_QUEUE_MAX
from aoe.wire import ata
from aoe.wire.frame import Command
from tests.engine.setups import BUFFERED, DEVICE, DIRECT, NO_URING, Setup, in_python
from tests.support.labs.engine_target import LAUNCH, counted, prefix
from tests.support.labs.fault_disk import FuseDisk, loop_device
from tests.support.labs.load import DATA, PIECE, Latency, latency, leave_outstanding, repeated, replies
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget
from tests.support.labs.raw_client import Client, ata_request
from tests.support.tools import need_engine
from tests.support.waiting import PROMPT_S, wait_for

pytestmark = pytest.mark.one_at_a_time

ASKED = 100
MAY_COST_S = 0.010
ATTEMPTS = 6
FLOOD_S = 30
NO_STRING = bytes(8)
VERIFY_EXT = 0x42
MEMORY = ("memory", "16M")


class Hanging(NamedTuple):
    """Disks that hang: how they are served, how many there are, and how many reads, and as many writes, each
    is asked for."""

    setup: Setup
    disks: int = 1
    outstanding: int = 64


HANGING = {
    "device": Hanging(DEVICE),
    "4-devices": Hanging(DEVICE, 4),
    "4-devices-no-uring": Hanging(DEVICE._replace(launcher=NO_URING), 4),
    "8-devices-full-queues": Hanging(DEVICE, 8, EXPORT_QUEUE_MAX // 2 + 16),
    "file": Hanging(BUFFERED),
    "4-files": Hanging(BUFFERED, 4),
    "direct-file": Hanging(DIRECT),
    "4-devices-python": Hanging(in_python(DEVICE), 4),
    "4-files-python": Hanging(in_python(BUFFERED), 4),
}


class Neighbours(NamedTuple):
    """A target, disks of its that can be made to hang, clients of those, and one of a healthy disk."""

    target: AoeTarget
    disks: list[FuseDisk]
    victims: list[Client]
    healthy: Client


@contextmanager
def neighbours(
    lab: Lab, work: Path, hanging: Hanging, plugin: Sequence[str] = MEMORY
) -> Iterator[Neighbours]:
    setup, number = hanging.setup, hanging.disks
    with ExitStack() as stack:
        disks = [stack.enter_context(FuseDisk(work / f"sick{n}", plugin=plugin)) for n in range(number)]
        paths = [stack.enter_context(loop_device(it.path)) if setup.device else it.path for it in disks]
        for disk in disks:
            stack.callback(disk.resume)  # or the target could not end, and a device not be detached
        exports = [f"{path}=1.{n}" for n, path in enumerate(paths)]
        launcher = [LAUNCH, *setup.launcher, "--"]
        # Not on the machine's own disk, which may be slow for reasons of its own.
        healthy = stack.enter_context(FuseDisk(work / "healthy", plugin=MEMORY)).path
        if setup.engine == "c":
            need_engine()
        patient = ("--max-frame-age", "20")  # what waits for a processor is not too old then
        words = (*exports, f"{healthy}=2.1", "--engine", setup.engine, *patient, *setup.options)
        target = stack.enter_context(AoeTarget(lab, work, *words, launcher=launcher))
        for disk in disks:
            stack.callback(disk.resume)
        victims = [lab.client(1, n, mac=bytes((2, 0, 0, 0, 0, n)), retries=0) for n in range(number)]
        yield Neighbours(target, disks, victims, lab.client(2, 1, timeout=30, retries=0))


def measured(client: Client) -> dict[str, Latency]:
    """Latencies of everything that may be asked of an export."""
    return {
        "read": latency(lambda n: client.read(PIECE * n, PIECE), ASKED),
        "write": latency(lambda n: client.write(PIECE * n, DATA), ASKED),
        "flush": latency(lambda _: client.flush(), ASKED // 5),
        "config": latency(lambda _: client.config(), ASKED // 5),
    }


Measure = Callable[[Client], dict[str, Latency]]


def assert_undisturbed(quiet: dict[str, Latency], measure: Measure, client: Client) -> None:
    """Others use this machine too: the highest tenth is left out, and what delays once does not count."""
    excess = {}
    for _ in range(ATTEMPTS):
        excess = delayed(quiet, measure(client))
        if not excess:
            return
    raise AssertionError(f"delayed {ATTEMPTS} times: {excess}")


def delayed(quiet: dict[str, Latency], now: dict[str, Latency]) -> dict[str, tuple[Latency, Latency]]:
    """Before and after, of what takes too long now."""
    return {
        kind: (before, now[kind])
        for kind, before in quiet.items()
        if now[kind].median > before.median + MAY_COST_S or now[kind].p90 > before.p90 + MAY_COST_S
    }


def flood_taken(client: Client) -> None:
    """Wait until the ring has room again: what is sent while it is full is lost on any network, and the
    clients here ask once. So this one asks each second."""
    patient = Client(client.port, client.shelf, client.slot, timeout=1.0, retries=FLOOD_S - 1)
    assert patient.ask(Command.CONFIG, NO_STRING) is not None, "nothing is answered"


def hangs(victim: Client) -> bool:
    """Whether nothing was answered; advertisements may come at any time."""
    return not list(replies(victim, 0))


def assert_engine_served(target: AoeTarget, passes: int) -> None:
    """Reads, writes and flushes; only the config queries went up."""
    numbers, ours = counted(target), prefix(target)
    assert numbers[f"{ours}reads"] >= passes * ASKED
    assert numbers[f"{ours}writes"] >= passes * ASKED
    assert numbers[f"{ours}flushes"] >= passes * ASKED // 5
    assert numbers["reads"] == numbers[f"{ours}reads"]
    assert bool(numbers["engine_reads"]) == bool(ours)


def test_a_disk_that_hangs_does_so_at_once(tmp_path: Path) -> None:
    """What the tests here rest on. Every thread of the server has stopped, on a busy machine too."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        with FuseDisk(tmp_path / "disk", plugin=MEMORY) as disk:
            for _ in range(10):
                disk.hang()
                states = {stat.read_text().rsplit(")", 1)[1].split()[0] for stat in disk.threads()}
                disk.resume()
                assert states == {"T"}
                time.sleep(0.01)
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.parametrize("name", HANGING)
def test_exports_that_hang_do_not_delay_another(name: str, lab: Lab, tmp_path: Path) -> None:
    hanging = HANGING[name]
    with neighbours(lab, tmp_path, hanging) as it:
        quiet = measured(it.healthy)
        for disk, victim in zip(it.disks, it.victims, strict=True):
            disk.hang()
            leave_outstanding(victim, hanging.outstanding, hanging.outstanding)
        flood_taken(it.healthy)
        assert_undisturbed(quiet, measured, it.healthy)
        assert_engine_served(it.target, 2)
        for victim in it.victims:
            assert hangs(victim)


@pytest.mark.parametrize("name", ["4-devices", "file", "4-devices-python"])
def test_a_stop_with_disks_that_hang_is_bounded(name: str, lab: Lab, tmp_path: Path) -> None:
    """Only reads wait in the file: a write in a file system that hangs cannot be killed by anyone. Nor can a
    read, now and then, nor a thread of Python that waits for a device: so there it is enough that the target
    has said its last word."""
    setup, disks, outstanding = HANGING[name]
    with neighbours(lab, tmp_path, HANGING[name]) as it:
        for disk, victim in zip(it.disks, it.victims, strict=True):
            disk.hang()
            leave_outstanding(victim, outstanding, outstanding if setup.device else 0)
        hanging = disks * outstanding * (2 if setup.device else 1)
        it.healthy.write(0, DATA)
        assert it.healthy.read(0, PIECE) == DATA
        # C counts what the disk has done, Python what it was given.
        asked = 1 if setup.engine == "c" else 1 + disks * outstanding
        assert counted(it.target)[f"{prefix(it.target)}writes"] == asked
        assert it.target.process is not None
        before = len(it.target.output)
        it.target.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "counters: " in it.target.output[before:], PROMPT_S)
        it.target.says(f"{hanging} requests hang in the disk")
        if not setup.device or setup.engine == "python":
            for disk in it.disks:
                disk.resume()
        assert it.target.wait(PROMPT_S) == 1


def test_slow_buffered_writes_do_not_delay_another(lab: Lab, tmp_path: Path) -> None:
    slow = ("--filter=delay", *MEMORY, "delay-write=100ms")
    with neighbours(lab, tmp_path, Hanging(BUFFERED, 2), slow) as it:
        quiet = measured(it.healthy)
        assert latency(lambda n: it.victims[n].write(0, DATA), 2).median > 0.1, "it is not slow"
        with repeated(lambda: overload(it.victims[0])), repeated(lambda: overload(it.victims[1])):
            assert_undisturbed(quiet, measured, it.healthy)
        assert_engine_served(it.target, 2)


def overload(client: Client) -> None:
    """More writes than are done in the time that this takes."""
    leave_outstanding(client, 0, 64)
    for _ in range(8):
        client.receive(0.02)


def test_what_python_does_for_an_export_that_hangs_does_not_delay_another(lab: Lab, tmp_path: Path) -> None:
    """VERIFY is not the engine's to do."""
    with neighbours(lab, tmp_path, HANGING["device"]) as it:
        quiet = measured_in_python(it.healthy)
        it.disks[0].hang()
        victim = it.victims[0]
        for lba in range(64):
            victim.send(victim.request(Command.ATA, ata.encode(ata_request(VERIFY_EXT, 16384 + lba, PIECE))))
        assert_undisturbed(quiet, measured_in_python, it.healthy)
        assert hangs(victim)
        numbers = counted(it.target)
        assert numbers["verifies"] >= 2 * ASKED // 5
        assert numbers["engine_handed_up"] >= numbers["verifies"]


def measured_in_python(client: Client) -> dict[str, Latency]:
    """Latencies of what the engine hands up."""
    return {
        "verify": latency(lambda n: client.ata(VERIFY_EXT, PIECE * n, PIECE), ASKED // 5),
        "identify": latency(lambda _: client.identify(), ASKED // 5),
    }


def test_a_delay_would_be_noticed() -> None:
    quiet = {"read": Latency(0.001, 0.002, 0.5)}
    assert not delayed(quiet, {"read": Latency(0.0109, 0.0119, 9.0)})
    assert delayed(quiet, {"read": Latency(0.0111, 0.0119, 0.1)})
    assert delayed(quiet, {"read": Latency(0.001, 0.0121, 0.1)})
