"""A service that starts again and again under the full load of two clients, its sockets held by a stand-in
for the service manager: what they see of it."""

import json
import math
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.net.service import export
from tests.node.manager import Manager
from tests.support.labs.network import Lab
from tests.support.labs.peers import image
from tests.support.waiting import wait_for

CLIENTS = ("first", "second")
SECTORS = 16384
SERVED_AGAIN_S = 0.7
"""How long it serves before it is ended again."""
END_S = 120.0
READY_S = 60.0
CALLS_MIN = 50
"""Of both clients, for each restart."""


@contextmanager
def site() -> Iterator[Lab]:
    """The hosts of a target and of two clients, each on a cable of its own."""
    with Lab(("target", *CLIENTS)) as lab:
        lab.cable("target", CLIENTS[1])
        yield lab


@contextmanager
def service(
    lab: Lab, work: Path, engine: str, addresses: Sequence[str], manager: type[Manager] = Manager
) -> Iterator[Manager]:
    """It serves these on both cables."""
    head = f'[target]\ninterfaces = ["v0", "v1"]\nstate-dir = "{work}/state"\nengine = "{engine}"\n'
    tables = [export(image(work / f"disk-{it}", SECTORS), it) for it in addresses]
    (work / "target.toml").write_text(head + "\n".join(tables))
    words = ["run", "--config", work / "target.toml", "--socket", work / "control"]
    into = ("sh", "-c", 'exec "$@" >>"$0" 2>&1', work / "log")
    command = lab.command("target", *into, sys.executable, "-m", "aoe.cli.target", *words)
    with manager(command, work) as made:
        made.start(ready_s=READY_S)
        yield made


class _Client:
    """Writers on some disks, until it is told to end."""

    def __init__(self, lab: Lab, side: str, seed: int, engine: str, addresses: Sequence[str]) -> None:
        program = ("-m", "tests.support.programs.restart_client")
        names = [f"e{it}" for it in addresses]
        words = lab.command(side, sys.executable, *program, str(seed), engine, *names)
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "_Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def go(self) -> None:
        """Wait until it writes."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "go\n"

    def said(self) -> dict[str, Any]:
        """End it: what it saw."""
        said: dict[str, Any] = json.loads(self._process.communicate(timeout=END_S)[0])
        assert self._process.returncode == 0
        return said


def _settled(manager: Manager) -> list[str]:
    """What it holds. The service is ready before it has told all of it."""
    names = manager.names()
    while True:
        time.sleep(SERVED_AGAIN_S)
        if names and names == (names := manager.names()):
            return names


def longest(moves_s: Sequence[float], waits: Iterable[Sequence[float]]) -> list[float]:
    """For each of what began then, in turn, the longest wait that was under way before the next."""
    waits = list(waits)
    return [
        max((end - began for began, end in waits if began < until and end > since), default=0.0)
        for since, until in zip(moves_s, [*moves_s[1:], math.inf], strict=True)
    ]


def run(
    work: Path, how: signal.Signals, engine: str, *, seed: int, times: int, used: int, idle: int = 0
) -> dict[str, Any]:
    """End it so many times by that signal, while two clients use half of the `used` exports each, and some
    more are `idle`. `pause_s` is the longest time for which a client had to wait for a write, `again_s` for
    one, or a TRIM, of what it wrote or trimmed a moment before, `away_s` the
    longest from the signal until it said that it is ready, `pauses_s` the longest wait of each time; `faults`
    is what should not be: what `failed`, and what is `unexplained`, as a write was lost or came back; and
    `blamed` what a client said of a disk that answered no write for a second after that, as one on a busy
    machine may."""
    addresses = [f"{1 + at // 250}.{at % 250}" for at in range(used + idle)]
    shares = [addresses[at : used : len(CLIENTS)] for at in range(len(CLIENTS))]
    away_s, began_s = list[float](), list[float]()
    with site() as lab, service(lab, work, engine, addresses) as manager, ExitStack() as stack:
        held = _settled(manager)
        clients = [
            stack.enter_context(_Client(lab, side, seed + 1000 * at, engine, share))
            for at, (side, share) in enumerate(zip(CLIENTS, shares, strict=True))
        ]
        for client in clients:
            client.go()
        for _ in range(times):
            time.sleep(SERVED_AGAIN_S)
            began_s.append(time.monotonic())
            status = manager.kill(how)
            assert status == (0 if how == signal.SIGTERM else -how), "how it ended"
            manager.start(ready_s=READY_S)
            away_s.append(time.monotonic() - began_s[-1])
            wait_for(lambda: manager.names() == held, READY_S, "what the first life held is held on")
        said = [client.said() for client in clients]
    failed, unexplained, waits = (
        [what for it in said for what in it[name]] for name in ("errors", "unexplained", "waits")
    )
    calls, faults = sum(it["calls"] for it in said), failed + unexplained
    blamed = [line for it in said for line in it["warnings"] if "answers no writes" in line]
    if calls < CALLS_MIN * times:
        faults.append(f"{calls} calls show nothing")
    return {
        "pause_s": max(it["pause_s"] for it in said),
        "again_s": max(it["again_s"] for it in said),
        "away_s": max(away_s),
        "pauses_s": longest(began_s, waits),
        "moves": times,
        "calls": calls,
        "blamed": blamed,
        "held": Counter(name.split("-")[1] for name in held),
        "failed": len(failed),
        "unexplained": len(unexplained),
        "faults": faults,
    }
