"""`aoe nbd` as a process of a lab: AoE on one side, NBD on a Unix socket on the other."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.net import Lab, wait_for

READY_S = 15.0
STOP_S = 10.0
INSTEAD = "AOE_TEST_NBD"
"""Environment variable: a command to be called instead of `aoe nbd`, to tell whose fault a failure is."""


@contextmanager
def nbd_door(
    lab: Lab, side: str, socket: Path, *addresses: str, options: Sequence[str] = ()
) -> "Iterator[subprocess.Popen[Any]]":
    """Serve a disk on a socket, over every interface that a side has, until the end of the `with` block."""
    out, complaints = socket.with_suffix(".out"), socket.with_suffix(".err")
    command = [*_aoe_nbd(), *addresses, *_interfaces(lab, side), "--socket", str(socket), *options]
    with out.open("wb") as said, complaints.open("wb") as errors:
        process = lab.popen(side, *command, stdout=said, stderr=errors)
    try:
        wait_for(lambda: b"\n" in out.read_bytes() or process.poll() is not None, READY_S, "no line from it")
        assert process.poll() is None, complaints.read_text()
        assert out.read_text().startswith(f"nbd: {socket}")
        yield process
        process.terminate()
        # Only a test kills it so.
        assert process.wait(STOP_S) in (0, -signal.SIGKILL), complaints.read_text()
    finally:
        process.kill()
        process.wait()


def _aoe_nbd() -> list[str]:
    instead = os.environ.get(INSTEAD)
    return shlex.split(instead) if instead else [sys.executable, "-m", "aoe.cli.client", "nbd"]


def _interfaces(lab: Lab, side: str) -> list[str]:
    ends = [end for cable in lab.cables for end in (cable.a, cable.b) if end.side == side]
    return [word for end in ends for word in ("--interface", end.interface)]


@contextmanager
def socket_path() -> Iterator[Path]:
    """Where a socket can be: its path is short, pytest's long."""
    with TemporaryDirectory(prefix="aoe-") as directory:
        yield Path(directory, "nbd")
