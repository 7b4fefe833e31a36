"""`aoe-target run` as a process of a lab: a file that is changed, and applied."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from tests.support.labs.network import Lab
from tests.support.labs.peers import ENGINE, Target, image
from tests.support.waiting import wait_for

READY = "ready\n"


def export(path: Path, address: str, **keys: Any) -> str:
    """A table of the file. A disk that is not there is made."""
    if not path.exists():
        image(path)
    shelf, slot = address.split(".")
    said = {"path": str(path), "shelf": int(shelf), "slot": int(slot), **keys}
    return "[[export]]\n" + _keys(said)


def _keys(them: dict[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(it)}\n" for key, it in them.items())


def ask(path: Path, verb: str, **arguments: Any) -> dict[str, Any]:
    """What a daemon did, that is asked without any code of ours."""
    with socket.socket(socket.AF_UNIX) as control:
        control.settimeout(30)
        control.connect(str(path))
        request = {"version": 1, "id": 1, "verb": verb, "arguments": arguments}
        control.sendall(json.dumps(request).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            piece = control.recv(1 << 16)
            assert piece, line
            line += piece
    answer: dict[str, Any] = json.loads(line)
    assert "ok" in answer, answer
    done: dict[str, Any] = answer["ok"]
    return done


class Service(Target):
    """A daemon with its file, state and control socket under `work`."""

    def __init__(
        self,
        lab: Lab,
        work: Path,
        exports: Iterable[str],
        *,
        interfaces: Sequence[str] = ("v0",),
        **keys: Any,
    ) -> None:
        self.file = work / "target.toml"
        self.socket = work / "control"
        head = {
            "interfaces": list(interfaces),
            "state-dir": str(work / "state"),
            "engine": os.environ.get(ENGINE, "auto"),
            **{name.replace("_", "-"): value for name, value in keys.items()},
        }
        self._head = "[target]\n" + _keys(head)
        self.write(exports)
        argv = [sys.executable, "-m", "aoe.cli.target", "run", "--config", self.file, "--socket", self.socket]
        super().__init__(lab, work, argv, side="target", interface=interfaces[0])

    def write(self, exports: Iterable[str]) -> None:
        """Another file."""
        self.file.write_text(self._head + "\n".join(exports))

    def launch(self) -> Self:
        self._lives = self.output.count(READY) + 1
        return super().launch()

    def _announced(self) -> bool:
        """In this life."""
        return self.output.count(READY) >= self._lives

    def ready(self) -> "Service":
        """Also where nothing is served."""
        wait_for(self._is_ready, 45, f"{self.argv} is not ready")
        return self

    def _is_ready(self) -> bool:
        assert self.alive, f"{self.argv} ended with {self.status}: {self.output}{self.errors}"
        return self._announced()

    def apply(self, *words: str | Path, exit_status: int = 0) -> str:
        """What `aoe-target apply` says."""
        return self.command("apply", *words, exit_status=exit_status)

    def command(self, name: str, *words: str | Path, exit_status: int = 0) -> str:
        """What a command says that asks it."""
        argv = [sys.executable, "-m", "aoe.cli.target", name, "--socket", self.socket, *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == exit_status, (done.stdout, done.stderr, self.errors)
        return done.stdout + done.stderr

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """The control socket, without a command."""
        return ask(self.socket, verb, **arguments)

    def reload(self) -> None:
        """SIGHUP."""
        os.kill(self.pid, signal.SIGHUP)
