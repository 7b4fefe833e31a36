"""`aoe nbd` as a process of a lab: AoE on one side, NBD on a Unix socket on the other."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from tests.support.labs.nbd_client import NbdClient
from tests.support.labs.network import Lab
from tests.support.tools import need, unavailable
from tests.support.waiting import wait_for, wait_for_words

START_S, STOP_S = 30.0, 30.0


def owner_address(socket: Path) -> str:
    """Which server carries what is written, as a running `aoe nbd` says: on a busy machine the one that was
    named second may answer first."""
    command = [sys.executable, "-m", "aoe.cli.client", "nbd", "--status", str(socket), "--json"]
    said = [""]

    def owner() -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said[0] = done.stdout + done.stderr
        paths = [] if done.returncode else json.loads(done.stdout)["paths"]
        return next((str(path["address"]) for path in paths if path["owner"]), "")

    return wait_for(owner, what=lambda: said[0])


def child_of(door: "subprocess.Popen[Any]") -> int:
    """The process id of the nbdkit of a running `aoe nbd`."""
    (child,) = Path(f"/proc/{door.pid}/task/{door.pid}/children").read_text().split()
    return int(child)


def need_nbdkit() -> None:
    """Skip unless the plugin is built and nbdkit is there."""
    from aoe.nbd.nbdkit import PLUGIN

    need("nbdkit")
    if not PLUGIN.exists():
        unavailable("the NBD plugin is not built: apt-get install nbdkit-plugin-dev")


class Door:
    """`aoe nbd`, with its socket under `work`."""

    def __init__(self, lab: Lab | None, work: Path, *arguments: str | Path, side: str = "client") -> None:
        need_nbdkit()
        self.path = work / "nbd"
        self.argv = [sys.executable, "-m", "aoe.cli.client", "nbd", *map(str, arguments)]
        self.argv += ["--socket", str(self.path)]
        self.uri = f"nbd+unix:///?socket={self.path}"
        self._lab, self._side = lab, side
        self._out, self._err = work / "nbd.out", work / "nbd.err"

    def launch(self) -> Self:
        with self._out.open("w") as out, self._err.open("w") as err:
            if self._lab is None:
                self.process: subprocess.Popen[Any] = subprocess.Popen(self.argv, stdout=out, stderr=err)
            else:
                self.process = self._lab.popen(self._side, *self.argv, stdout=out, stderr=err)
        return self

    def start(self) -> Self:
        self.launch()
        wait_for(lambda: self.output.endswith("\n") or self.process.poll() is not None, START_S)
        assert self.process.poll() is None, self.errors
        return self

    @property
    def output(self) -> str:
        return self._out.read_text()

    @property
    def errors(self) -> str:
        return self._err.read_text()

    def says(self, *words: str) -> str:
        """The whole log, once it has these words."""
        return wait_for_words(lambda: self.errors, *words)

    @property
    def said(self) -> dict[str, Any]:
        """What it printed with --json."""
        said: dict[str, Any] = json.loads(self.output)
        return said

    @property
    def child(self) -> int:
        """The process id of nbdkit."""
        return child_of(self.process)

    def connect(self) -> "NbdClient":
        return NbdClient(self.path)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(STOP_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


@contextmanager
def nbd_door(
    lab: Lab, side: str, socket: Path, *addresses: str, options: Sequence[str] = ()
) -> "Iterator[subprocess.Popen[Any]]":
    """Serve a disk on a socket, over every interface that a side has, until the end of the `with` block."""
    door = Door(lab, socket.parent, *addresses, *_interfaces(lab, side), *options, side=side)
    assert door.path == socket
    with door:
        assert door.output.startswith(f"nbd: {socket}")
        yield door.process
        assert door.stop() in (0, -signal.SIGKILL), door.errors  # only a test kills it so


def _interfaces(lab: Lab, side: str) -> list[str]:
    ends = [end for cable in lab.cables for end in (cable.a, cable.b) if end.side == side]
    return [word for end in ends for word in ("--interface", end.interface)]


@contextmanager
def socket_path() -> Iterator[Path]:
    """Where a socket can be: its path is short, pytest's long."""
    with TemporaryDirectory(prefix="aoe-") as directory:
        yield Path(directory, "nbd")
