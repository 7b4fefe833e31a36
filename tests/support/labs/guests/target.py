"""A target process that serves guests: ours, or vblade for comparison."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from aoe.engine import why_unavailable
from tests.support.labs.guests.machine import PATIENCE_S, tied
from tests.support.labs.network import Lab
from tests.support.tools import need, unavailable
from tests.support.waiting import wait_for

READY_S = 120.0
VBLADE_INSTEAD = os.environ.get("AOE_GUEST_TARGET") == "vblade"


class Export(NamedTuple):
    """What is served, as which address, on which interface."""

    path: Path
    shelf: int
    slot: int
    interface: str = "tap0"


class TargetProcess:
    """One target that serves one export from construction to the end of the `with` block."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._command = list(command)
        self._said = directory / "target.out"
        self._complaints = directory / "target.err"
        self.process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing said."""
        self.process.kill()
        self.process.wait(timeout=PATIENCE_S)

    def restart(self) -> None:
        """Start it again after `kill`."""
        self.process = self._start()

    def counters(self) -> str:
        """The last line of counters that our target prints when asked."""
        before = self.log().count("counters:")
        self.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: self.log().count("counters:") > before, READY_S, "no counters")
        return self.log().rpartition("counters:")[2]

    def log(self) -> str:
        """What it printed since it was last started."""
        return self._said.read_text(errors="replace") + self._complaints.read_text(errors="replace")

    def _start(self) -> subprocess.Popen[bytes]:
        with self._said.open("wb") as out, self._complaints.open("wb") as err:
            process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            # One line per export tells that it serves.
            wait_for(lambda: self._said.stat().st_size or process.poll() is not None, READY_S)
            assert process.poll() is None, self.log()
        except BaseException:
            process.kill()
            process.wait(timeout=PATIENCE_S)
            raise
        return process


def need_engine(engine: str) -> None:
    """Skip the calling test if it wants the compiled engine and that cannot be loaded."""
    if engine == "c" and (reason := why_unavailable()):
        unavailable(f"no compiled engine: {reason}")


def ours(export: Export, directory: Path, *options: str, lab: Lab | None = None) -> TargetProcess:
    """Our target, as a user starts it. Outside a lab it runs without any capability."""
    where = ["--interface", export.interface] if lab else []
    address = f"{export.path}={export.shelf}.{export.slot}"
    serve = [sys.executable, "-m", "aoe.cli.target", "serve", address, *where]
    state = ["--state-dir", str(directory / "state"), "--force"]
    return TargetProcess(tied(lab, *serve, *state, *options, drop=lab is None), directory)


def vblade(export: Export, directory: Path, *, lab: Lab) -> TargetProcess:
    """The classic target."""
    need("vblade")
    address = [str(export.shelf), str(export.slot), export.interface, str(export.path)]
    return TargetProcess(tied(lab, "vblade", "-b", "64", *address), directory)


def on_tap(export: Export, directory: Path, lab: Lab, *options: str) -> TargetProcess:
    """Our target on a tap; with AOE_GUEST_TARGET=vblade the other one, to tell whose fault a failure is."""
    if VBLADE_INSTEAD:
        return vblade(export, directory, lab=lab)
    return ours(export, directory, *options, lab=lab)
