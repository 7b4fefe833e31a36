"""Servers as processes of a lab: vblade, and our target."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from aoe.wire.frame import Command
from aoe.wire.protocol import SECTOR, SHELF_ALL, SLOT_ALL
from tests.support.labs.network import End, Lab
from tests.support.labs.raw_client import Client
from tests.support.waiting import wait_for, wait_for_words

ENGINE = "AOE_TEST_ENGINE"
"""Environment variable: what every target here is given as --engine."""
START_S = 120.0
"""A target of a thousand disks on a busy machine."""
STOP_S = 30.0
_CONFIG_QUERY = bytes(8)
_logs = itertools.count(1)


def image(path: Path, sectors: int = 2048) -> Path:
    """A sparse image file."""
    with path.open("wb") as file:
        file.truncate(sectors * SECTOR)
    return path


class Target:
    """A server process on one side of a lab; what it prints goes to files, so no pipe can fill."""

    probe_address = (SHELF_ALL, SLOT_ALL)
    stop_s = STOP_S
    """How long `stop` waits at most."""
    probe_mac: bytes | None = None
    """What `start` asks with: a target with a mask list answers listed MACs only."""

    def __init__(
        self, lab: Lab, work: Path, argv: Sequence[str | Path], *, side: str, interface: str
    ) -> None:
        number = next(_logs)
        self.lab = lab
        self.argv = list(argv)
        self.side = side
        self.interface = interface
        self.process: subprocess.Popen[Any] | None = None
        self._out = work / f"server-{number}.out"
        self._err = work / f"server-{number}.err"

    # Life

    def launch(self) -> Self:
        """Start the process, and do not wait for anything."""
        assert not self.alive
        with self._out.open("a") as out, self._err.open("a") as err:
            self.process = self.lab.popen(self.side, *self.argv, stdout=out, stderr=err)
        return self

    def start(self) -> Self:
        """Start the process and wait until it answers a config query."""
        return self.launch().ready()

    def ready(self) -> Self:
        """Wait until a process that was launched answers a config query."""
        port = self.lab.port(self._peer.side, self._peer.interface, self.probe_mac)
        with Client(port, *self.probe_address, timeout=0.02, retries=0) as client:
            wait_for(lambda: self._answers(client), START_S, f"no answer from {self.argv}")
        return self

    def _answers(self, client: Client) -> bool:
        assert self.alive, f"{self.argv} ended with {self.status}: {self.output}{self.errors}"
        return self._announced() and client.ask(Command.CONFIG, _CONFIG_QUERY) is not None

    def _announced(self) -> bool:
        """Whether it is worth asking yet."""
        return True

    @property
    def _peer(self) -> End:
        for cable in self.lab.cables:
            for near, far in ((cable.a, cable.b), (cable.b, cable.a)):
                if (near.side, near.interface) == (self.side, self.interface):
                    return far
        raise AssertionError(f"no cable at {self.side} {self.interface}")

    @property
    def _running(self) -> "subprocess.Popen[Any]":
        assert self.process is not None, "not started"
        return self.process

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._running.poll()

    def wait(self, seconds: float = STOP_S) -> int:
        """Exit status, once the process has ended of its own."""
        return self._running.wait(seconds)

    def kill(self) -> None:
        """SIGKILL."""
        self._running.kill()
        self._running.wait()

    def stop(self) -> str:
        """SIGTERM; returns all that was printed on stdout."""
        if self.alive:
            self._running.terminate()
            try:
                self._running.wait(self.stop_s)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return self.output

    def restart(self) -> Self:
        """SIGTERM and start again."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """SIGSTOP; returns once every thread stands still."""
        self._running.send_signal(signal.SIGSTOP)
        wait_for(lambda: _states(self.pid) == {"T"})

    def resume(self) -> None:
        """SIGCONT."""
        self._running.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.ready() if self.alive else self.start()

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self.kill()

    # What it says and uses

    @property
    def output(self) -> str:
        return self._out.read_text() if self._out.exists() else ""

    @property
    def errors(self) -> str:
        return self._err.read_text() if self._err.exists() else ""

    def says(self, *words: str) -> str:
        """The whole log, once it has these words."""
        return wait_for_words(lambda: self.errors, *words)

    @property
    def resident_kib(self) -> int:
        """VmRSS."""
        fields = dict(
            line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines()
        )
        return int(fields["VmRSS"].split()[0])


def _states(pid: int) -> set[str]:
    """Of all threads; some may end meanwhile."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found.add((task / "stat").read_text().rpartition(")")[2].split()[0])
    return found


class Vblade(Target):
    """vblade: one image, one address, one interface."""

    def __init__(
        self,
        lab: Lab,
        path: Path,
        *options: str,
        shelf: int = 1,
        slot: int = 1,
        side: str = "target",
        interface: str = "v0",
    ) -> None:
        argv: list[str | Path] = ["vblade", *options, str(shelf), str(slot), interface, path]
        super().__init__(lab, path.parent, argv, side=side, interface=interface)
        self.probe_address = (shelf, slot)


class AoeTarget(Target):
    """Our target: `aoe-target serve` with a state directory of its own under `work`.

    `launcher` stands between the interpreter and the arguments, `prefix` before the interpreter.
    """

    def __init__(
        self,
        lab: Lab,
        work: Path,
        *arguments: str | Path,
        side: str = "target",
        interfaces: Sequence[str] = ("v0",),
        state_dir: Path | None = None,
        launcher: Sequence[str | Path] = ("-m", "aoe.cli.target"),
        prefix: Sequence[str] = (),
    ) -> None:
        self.state_dir = state_dir or work / "state"
        names = [word for interface in interfaces for word in ("--interface", interface)]
        chosen = os.environ.get(ENGINE)
        engine = ["--engine", chosen] if chosen else []
        python: list[str | Path] = [*prefix, sys.executable, *launcher]
        argv = [*python, "serve", *engine, *arguments, *names, "--state-dir", self.state_dir]
        super().__init__(lab, work, argv, side=side, interface=interfaces[0] if interfaces else "")

    def launch(self) -> Self:
        self._printed = len(self.output)
        return super().launch()

    def _announced(self) -> bool:
        # Queries from before it serves would be answered all at once, by every export.
        return len(self.output) > self._printed

    def counters(self) -> str:
        """What SIGUSR1 makes it print."""
        before = len(self._counted())
        os.kill(self.pid, signal.SIGUSR1)
        wait_for(lambda: len(self._counted()) > before, what="SIGUSR1 printed no counters")
        return self._counted()[-1]

    def _counted(self) -> list[str]:
        """Lines that have their end: what is read of one that is being written may not."""
        lines = self.output.splitlines(keepends=True)
        return [it for it in lines if it.startswith("counters: ") and it[-1] == "\n"]
