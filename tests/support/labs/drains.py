"""Two primaries of two disks that are drained in turn, under the full load of two clients of ours."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.net.service import ask, export
from tests.support.labs.nbdkit import nbd_door, socket_path
from tests.support.labs.network import Lab
from tests.support.labs.peers import image
from tests.support.waiting import wait_for

PRIMARIES = ("first", "second")
CLIENTS = ("python", "nbd")
SECTORS = 32768
PROVED_S = 1.5
"""After which clients know that the servers have one disk."""
BETWEEN_S = 0.5
START_S, LEFT_S, END_S = 60.0, 30.0, 60.0


class Site(NamedTuple):
    """`first` serves e1.0 and e1.1, `second` the same disks as e2.0 and e2.1: each reaches either client, on
    `v0` and `v1`."""

    lab: Lab
    work: Path

    def socket(self, side: str) -> Path:
        """Where its daemon is asked."""
        return self.work / side / "control"

    def drain(self, side: str) -> tuple[dict[str, Any], float]:
        """Until no client is left there: what it said last, and how long that took in seconds."""
        began_s = time.monotonic()
        done = ask(self.socket(side), "drain", all=True)
        while done["exit"] and time.monotonic() - began_s < LEFT_S:
            time.sleep(0.05)
            done = ask(self.socket(side), "drain", all=True)
        return done, time.monotonic() - began_s

    def command(self, side: str, *words: str) -> subprocess.CompletedProcess[str]:
        """`aoe-target` asks the daemon of a primary."""
        argv = [sys.executable, "-m", "aoe.cli.target", *words, "--socket", str(self.socket(side))]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def site(work: Path, engine: str = "auto") -> Iterator[Site]:
    """With both daemons."""
    stores = [image(work / f"disk-{name}", SECTORS) for name in CLIENTS]
    for store in stores:
        store.write_bytes(bytes(SECTORS * 512))
    with Lab(("first", "python", "second", "nbd"), mtu=9000) as lab:
        for a, b in (("second", "python"), ("first", "nbd"), ("second", "nbd")):
            lab.cable(a, b)
        made = Site(lab, work)
        for side in PRIMARIES:
            _serve(made, side, stores, engine)
        for side in PRIMARIES:
            wait_for(lambda side=side: made.socket(side).exists(), START_S)  # type: ignore[misc]
        yield made


def _serve(made: Site, side: str, stores: Sequence[Path], engine: str) -> None:
    place = made.work / side
    place.mkdir()
    head = {"interfaces": ["v0", "v1"], "state-dir": str(place / "state"), "engine": engine}
    lines = [f"{name} = {json.dumps(it)}\n" for name, it in head.items()]
    shelf = 1 + PRIMARIES.index(side)
    lines += [export(it, f"{shelf}.{slot}", serial=it.name, shared=True) for slot, it in enumerate(stores)]
    (place / "target.toml").write_text("[target]\n" + "".join(lines))
    words = ("run", "--config", str(place / "target.toml"), "--socket", str(made.socket(side)))
    with (place / "log").open("w") as log:
        made.lab.popen(side, sys.executable, "-m", "aoe.cli.target", *words, stdout=log, stderr=log)


class Client:
    """The load of one client, until it is told to end."""

    def __init__(self, lab: Lab, side: str, *words: str) -> None:
        argv = lab.command(side, sys.executable, "-m", "tests.support.programs.drain_client", *words)
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Client":
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "go\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def said(self) -> dict[str, Any]:
        """End it: what it saw."""
        said: dict[str, Any] = json.loads(self._process.communicate(timeout=END_S)[0])
        assert self._process.returncode == 0
        return said


@contextmanager
def clients(there: Site, engine: str = "python") -> Iterator[Sequence[Client]]:
    """One with the arithmetic in Python, or another engine, and one of `aoe nbd`, on a disk each."""
    with ExitStack() as stack:
        path = stack.enter_context(socket_path())
        stack.enter_context(nbd_door(there.lab, "nbd", path, "e1.1", "e2.1"))
        nbd = stack.enter_context(Client(there.lab, "nbd", "nbd", str(path)))
        yield stack.enter_context(Client(there.lab, "python", "disk", engine, "e1.0", "e2.0")), nbd


def unmoved_s(work: Path, *, times: int, engine: str, initiator: str) -> float:
    """The longest request of both clients in about the time of so many drains, without any."""
    with site(work, engine) as there, clients(there, initiator) as loads:
        time.sleep(PROVED_S + times * 2 * BETWEEN_S)
        return max(float(load.said()["pause_s"]) for load in loads)


def run(work: Path, *, times: int, engine: str = "auto", initiator: str = "python") -> dict[str, Any]:
    """Drain one after the other so many times. `pauses_s` are the longest requests of either client, from the
    start on, `left_s` how long each drain took; `faults` is what should not be."""
    left_s, faults = [], []
    with site(work, engine) as there, clients(there, initiator) as loads:
        time.sleep(PROVED_S)
        for number in range(times):
            side = PRIMARIES[number % len(PRIMARIES)]
            done, took_s = there.drain(side)
            left_s.append(took_s)
            faults += [f"drain {number}: {line}" for line in done["said"] if done["exit"]]
            time.sleep(BETWEEN_S)
            ask(there.socket(side), "resume", all=True)
        said = [load.said() for load in loads]
    faults += [f"{side}: {fault}" for side, it in zip(CLIENTS, said, strict=True) for fault in it["faults"]]
    return {
        "pause_s": max(it["pause_s"] for it in said),
        "pauses_s": {side: it["pause_s"] for side, it in zip(CLIENTS, said, strict=True)},
        "left_s": left_s,
        "away_s": max(left_s),
        "moves": times,
        "calls": sum(it["calls"] for it in said),
        "faults": faults,
    }
