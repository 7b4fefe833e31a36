"""Two primaries, each a host of its own, on one shared file; what can happen to them, and what may follow."""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.labs.loss import need_loss
from tests.support.labs.network import End, Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.labs.primaries import primaries
from tests.support.waiting import wait_for

SECTORS = 8192
BLOCK = 4096
RUN_S = 5.0
LINK_DOWN_S = 0.5
SILENT_S = 3.0
GONE_S = 60.0
CALLS_MIN = 200
VERB_MIN = 10
VERBS = ("read", "write", "write with FUA", "trim")


class Pair(NamedTuple):
    """The primary that is the owner at first, the other one, and their cables."""

    lab: Lab
    owner: AoeTarget
    other: AoeTarget

    @property
    def server_end(self) -> End:
        """The owner's end of its cable."""
        return self.lab.cables[self._cable].a

    @property
    def client_end(self) -> End:
        """The client's end of the owner's cable."""
        return self.lab.cables[self._cable].b

    @property
    def _cable(self) -> int:
        return 0 if self.owner.side == "first" else 1


Trouble = Callable[[Pair], None]


class Scenario(NamedTuple):
    """What happens, how long nothing may be written meanwhile, and how often the owner changes then."""

    trouble: Trouble
    pause_max_s: float
    moves: int | None = None
    loses: bool = False
    """It needs frames to be lost."""


class Moments(NamedTuple):
    """When a trouble began and ended, on the monotonic clock in seconds."""

    begin_s: float
    end_s: float


@contextmanager
def pair(directory: Path, sectors: int = SECTORS, *options: str) -> Iterator[Pair]:
    path = image(directory / "disk", sectors)
    path.write_bytes(bytes(sectors * 512))
    with primaries(directory, [path, path], "--shared", *options) as there:
        yield Pair(there.lab, *there.both)


def troubled(
    there: Pair, directory: Path, trouble: Trouble, after_s: float, *program: str
) -> tuple[dict[str, Any], Moments]:
    """What a Python module says that runs on the client while there is trouble, and when that was.

    It says "go" and the name of the owner's path when it runs, and in the end one JSON object.
    """
    out, complaint = directory / "client.out", directory / "client.err"
    with out.open("w") as file, complaint.open("w") as errors:
        client = there.lab.popen("client", sys.executable, "-m", *program, stdout=file, stderr=errors)
    wait_for(lambda: out.read_text().startswith("go") and out.read_text().endswith("\n"))
    if "e2.0" in out.read_text():
        there = Pair(there.lab, there.other, there.owner)
    time.sleep(after_s)
    begin_s = time.monotonic()
    trouble(there)
    moments = Moments(begin_s, time.monotonic())
    assert client.wait(60) == 0, complaint.read_text()
    said: dict[str, Any] = json.loads(out.read_text().splitlines()[1])
    return said, moments


def run(
    directory: Path, scenario: Scenario, seed: int = 0, initiator: str = "auto", target: str | None = None
) -> dict[str, Any]:
    """What the writers say after one scenario, with these engines (of the target, by default the test's own);
    `faults` has what should not be, too."""
    if scenario.loses:
        need_loss()
    after_s = random.Random(seed).uniform(0.4, 0.9)
    writers = ("tests.support.programs.failover_client", str(RUN_S), str(BLOCK), str(seed), initiator)
    with pair(directory, SECTORS, *(("--engine", target) if target else ())) as there:
        said, _ = troubled(there, directory, scenario.trouble, after_s, *writers)
    said["faults"] += complaints(scenario, said)
    return said


def complaints(scenario: Scenario, said: dict[str, Any]) -> list[str]:
    """What is not as the scenario has it."""
    found = []
    if said["calls"] <= CALLS_MIN:
        found.append(f"{said['calls']} calls show nothing")
    if seldom := [verb for verb in VERBS if said["verbs"].get(verb, 0) < VERB_MIN]:
        found.append(f"of {seldom} there are too few: {said['verbs']}")
    if said["pause_s"] >= scenario.pause_max_s:
        found.append(f"a pause of {said['pause_s']:.3f} s, {scenario.pause_max_s} s is too long")
    if scenario.moves not in (None, said["moves"]):
        found.append(f"the owner changed {said['moves']} times, not {scenario.moves}")
    return found


# Troubles


def link_down(there: Pair) -> None:
    there.lab.down(there.client_end)
    time.sleep(1)
    there.lab.up(there.client_end)


def kill(there: Pair) -> None:
    there.owner.kill()


def kill_and_start(there: Pair) -> None:
    there.owner.kill()
    time.sleep(0.2)
    there.owner.launch()


def pause(there: Pair) -> None:
    there.owner.pause()
    time.sleep(2)
    there.owner.resume()


def silence_from_client(there: Pair) -> None:
    _silence(there, there.server_end)


def silence_to_client(there: Pair) -> None:
    _silence(there, there.client_end)


def _silence(there: Pair, end: End) -> None:
    """Nothing arrives at one end any more, for a while; its cable looks whole to both."""
    there.lab.lose(end, 1)
    time.sleep(2)
    there.lab.lose(end, None)


def restart_both(there: Pair) -> None:
    there.owner.restart()
    time.sleep(1)
    there.other.restart()


def flap(there: Pair) -> None:
    for turn in range(6):
        end = there.lab.cables[turn % 2].b
        there.lab.down(end)
        time.sleep(0.2)
        there.lab.up(end)
        time.sleep(0.1)


def both_gone(there: Pair) -> None:
    """For a minute; then the one that was not the owner is back."""
    there.owner.kill()
    there.other.kill()
    time.sleep(GONE_S)
    there.other.launch()


SCENARIOS = {
    "link down": Scenario(link_down, LINK_DOWN_S, moves=1),
    "kill": Scenario(kill, SILENT_S, moves=1),
    "kill and start": Scenario(kill_and_start, SILENT_S),
    "pause": Scenario(pause, SILENT_S),
    "silence from client": Scenario(silence_from_client, SILENT_S, moves=1, loses=True),
    "silence to client": Scenario(silence_to_client, SILENT_S, moves=1, loses=True),
    "restart": Scenario(restart_both, 2 * SILENT_S),
    "flap": Scenario(flap, SILENT_S),
    "both gone": Scenario(both_gone, GONE_S + 5),
}
