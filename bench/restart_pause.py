"""What a pause is made of when a service starts again: python -m bench.restart_pause, as root.

It prints how long after the signal it came to what, in ms: the process is gone, the next one is ready, its
first answer is on the wire, a client has its first write answered, and all that waited; and how much CPU the
next process took until it was ready. One client writes to all exports, four writes at a time each, again and
again to the same sectors. Then the longest pause that two clients see, with nine writers for each export, as
in tests/net/test_restart.py. Besides, how long Python takes to start and to import what the service needs.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import aoe
from aoe.initiator.remote import RemoteDisk
from aoe.wire import frame
from aoe.wire.frame import FLAG_RESPONSE, Header
from bench.ending import undo_at_sigterm
from tests.node.manager import Manager
from tests.support.labs import restarts
from tests.support.labs.network import Lab
from tests.support.labs.ports import PacketPort
from tests.support.labs.restarts import READY_S, SERVED_AGAIN_S, service, site
from tests.support.waiting import ran_s

SIGNALS = {"restart": signal.SIGTERM, "kill": signal.SIGKILL}
DEPTH = 4
BLOCK = 4096
LOOK_S = 0.05
ATTACHED_AT_ONCE = 64


class Parts(NamedTuple):
    """Milliseconds from the signal."""

    gone: float
    ready: float
    on_the_wire: float
    first_write: float
    all_writes: float
    cpu: float
    """What the next process took until it was ready."""


class Timed(Manager):
    """Knows when its service was ready."""

    ready_at_s = cpu_s = 0.0

    def _receive(self) -> None:
        was = self.said.get("READY")
        super()._receive()
        if was is None and self.said.get("READY") == "1":
            self.ready_at_s = time.monotonic()
            assert self.process is not None
            self.cpu_s = ran_s(self.process.pid)


class Moments(NamedTuple):
    """Of one restart: when it was told, gone, and ready again; seconds of CPU until then."""

    began_s: float
    gone_s: float
    ready_s: float
    cpu_s: float


class Wire:
    """When answers came by, but for advertisements; as a thread that listens on the client's end."""

    def __init__(self, port: PacketPort) -> None:
        self.answers_s: list[float] = []
        self._port = port
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.is_set():
            raw = self._port.receive(LOOK_S)
            header = frame.decode(raw) if raw else None
            if isinstance(header, Header) and header.flags & FLAG_RESPONSE and header.tag:
                self.answers_s.append(time.monotonic())


# The client


async def write(addresses: list[str]) -> None:
    """Write until standard input ends; say when each write began and ended, of those that took long."""
    slow: list[tuple[float, float]] = []
    room, all_there = asyncio.Semaphore(ATTACHED_AT_ONCE), asyncio.Barrier(len(addresses) + 1)
    over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work(disk: RemoteDisk, number: int) -> None:
        while not over.done():
            began_s = time.monotonic()
            await disk.write(number * BLOCK, bytes(BLOCK))
            if time.monotonic() - began_s > LOOK_S:
                slow.append((began_s, time.monotonic()))

    async def use(address: str) -> None:
        async with AsyncExitStack() as stack:
            async with room:
                attached = aoe.attach(address, interface="v0", timeout_s=None)
                disk = await stack.enter_async_context(attached)
            await all_there.wait()
            await asyncio.gather(*(work(disk, number) for number in range(DEPTH)))

    using = asyncio.gather(*map(use, addresses))
    await all_there.wait()
    print("go", flush=True)
    over.set_result(await asyncio.to_thread(sys.stdin.read))
    await using
    print(json.dumps(slow))


@contextmanager
def client(lab: Lab, addresses: list[str]) -> Iterator["subprocess.Popen[str]"]:
    """It runs in the first client's namespace, and writes."""
    names = [f"e{it}" for it in addresses]
    words = lab.command("first", sys.executable, "-m", "bench.restart_pause", "--client", *names)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        yield process


# The service


def restarted(manager: Timed, how: signal.Signals) -> Moments:
    time.sleep(SERVED_AGAIN_S)
    began_s = time.monotonic()
    manager.kill(how)
    gone_s = time.monotonic()
    manager.start(ready_s=READY_S)
    return Moments(began_s, gone_s, manager.ready_at_s, manager.cpu_s)


def measured(how: signal.Signals, engine: str, exports: int, times: int) -> list[Parts]:
    """So many restarts of a service of so many exports."""
    addresses = [f"{1 + at // 250}.{at % 250}" for at in range(exports)]
    with (
        tempfile.TemporaryDirectory() as work,
        site() as lab,
        service(lab, Path(work), engine, addresses, manager=Timed) as manager,
        client(lab, addresses) as process,
    ):
        assert isinstance(manager, Timed)
        wire = Wire(lab.port("first"))
        try:
            moments = [restarted(manager, how) for _ in range(times)]
            time.sleep(SERVED_AGAIN_S)
            slow = json.loads(process.communicate(timeout=READY_S)[0])
        finally:
            wire.stop()
    return [parts(moment, wire.answers_s, slow) for moment in moments]


def parts(at: Moments, answers_s: list[float], slow: list[tuple[float, float]]) -> Parts:
    """Of one restart. A write of its pause began before it was ready, and ended after it was gone."""
    began_s, gone_s, ready_s, cpu_s = at
    ends = [end for start, end in slow if start < ready_s and end > gone_s] or [gone_s]
    answered = next((it for it in answers_s if it > gone_s), gone_s)
    moments = (1000 * (it - began_s) for it in (gone_s, ready_s, answered, min(ends), max(ends)))
    return Parts(*moments, 1000 * cpu_s)


def seen_by_two(how: signal.Signals, engine: str, exports: int, times: int) -> str:
    """The longest pause of two clients, and what should not be."""
    with tempfile.TemporaryDirectory() as work:
        found = restarts.run(Path(work), how, engine, seed=1, times=times, used=exports)
    return "{pause_s:.2f} s, away {away_s:.2f} s, {calls} calls, faults: {faults}".format(**found)


def imports_ms() -> tuple[float, float]:
    """Python alone, and with what the service imports."""

    def took(program: str) -> float:
        began_s = time.monotonic()
        subprocess.run([sys.executable, "-c", program], check=True)
        return 1000 * (time.monotonic() - began_s)

    programs = ("pass", "import aoe.cli.run, aoe.cli.target, aoe.engine.engine")
    alone, whole = (min(took(it) for _ in range(5)) for it in programs)
    return alone, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--exports", type=int, default=20)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--engine", choices=("c", "python"), default="c")
    said = parser.parse_args()
    if said.client is not None:
        asyncio.run(write(said.client))
        return
    undo_at_sigterm()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled
    print("python {:.0f} ms, with imports {:.0f} ms".format(*imports_ms()))
    for name, how in SIGNALS.items():
        found = measured(how, said.engine, said.exports, said.times)
        print(f"{name}, {said.exports} exports, {said.engine}; ms after the signal, median and worst:")
        for part in Parts._fields:
            values = [getattr(it, part) for it in found]
            print(f"  {part.replace('_', ' '):14} {statistics.median(values):7.0f} {max(values):7.0f}")
        print(f"  two clients: longest pause {seen_by_two(how, said.engine, said.exports, said.times)}")


if __name__ == "__main__":
    main()
