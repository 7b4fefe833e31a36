"""Failover again and again, each scenario as often as the others, with both ends in C and with both in
Python; `tools/soak` runs this.

soak.py MINUTES DIRECTORY. Every run is a line in DIRECTORY/ledger.jsonl, from which the next call goes on;
what was left of a run with a fault is in DIRECTORY/faults. Exit status 1 if there was one in this call, 2 if
none can be done here.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tests.support.labs import failover, loss
from tests.support.labs.failover import SCENARIOS

MINUTES_MAX = 80
RUNS_WANTED = 20
ENGINES = ("c", "python")


class Kind(NamedTuple):
    """What happens, and what both ends are."""

    scenario: str
    engine: str

    def __str__(self) -> str:
        return f"{self.scenario}, {self.engine}"


KINDS = tuple(Kind(scenario, engine) for scenario in SCENARIOS for engine in ENGINES)


class Run(NamedTuple):
    """A line of the ledger."""

    scenario: str
    seed: int
    when: str
    commit: str
    pause_s: float
    moves: int
    calls: int
    faults: list[str]
    engine: str = ENGINES[0]

    @property
    def kind(self) -> Kind:
        return Kind(self.scenario, self.engine)


def ledger(path: Path) -> list[Run]:
    """All runs so far."""
    return [Run(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path: Path, run: Run) -> None:
    with path.open("a") as file:
        file.write(json.dumps(run._asdict()) + "\n")


def next_run(runs: Iterable[Run]) -> tuple[Kind, int]:
    """The kind of run that there was least often, and a seed that it did not have yet."""
    seeds = Counter(dict.fromkeys(KINDS, 0))
    for run in runs:
        seeds[run.kind] = max(seeds[run.kind], run.seed)
    kind = min(KINDS, key=lambda kind: seeds[kind])
    return kind, seeds[kind] + 1


def perform(kind: Kind, seed: int, commit: str, kept: Path) -> Run:
    """One run; where something is wrong with it, even that it did not end, its files are kept."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    said: dict[str, Any] = {"pause_s": 0.0, "moves": 0, "calls": 0}
    with tempfile.TemporaryDirectory(prefix="aoe-soak-") as directory:
        try:
            said = failover.run(Path(directory), SCENARIOS[kind.scenario], seed, kind.engine, kind.engine)
        except Exception as error:
            said["faults"] = [f"{type(error).__name__}: {error}"]
        if said["faults"]:
            name = f"{'-'.join(kind).replace(' ', '-')}-{seed}"
            shutil.copytree(directory, kept / name, dirs_exist_ok=True)
    measured = (said["pause_s"], said["moves"], said["calls"], said["faults"])
    return Run(kind.scenario, seed, when, commit, *measured, kind.engine)


def table(runs: Iterable[Run]) -> str:
    """How often each scenario ran, its worst and median pause, and its faults."""
    lines = ["| Scenario | runs | worst pause, s | median pause, s | calls | faults |", "| --- " * 6 + "|"]
    by_kind: dict[Kind, list[Run]] = {kind: [] for kind in KINDS}
    for run in runs:
        by_kind.setdefault(run.kind, []).append(run)
    for kind, its in by_kind.items():
        pauses = [run.pause_s for run in its] or [0.0]
        calls, faults = sum(run.calls for run in its), sum(len(run.faults) for run in its)
        measured = f"{max(pauses):.3f} | {median(pauses):.3f} | {calls} | {faults}"
        lines.append(f"| {kind} | {len(its)} | {measured} |")
    return "\n".join(lines)


def missing(runs: Iterable[Run]) -> int:
    """How many runs are left until each scenario had its number."""
    counts = Counter(run.kind for run in runs)
    return sum(max(0, RUNS_WANTED - counts[kind]) for kind in KINDS)


def main(minutes: float, directory: Path) -> int:
    if os.geteuid() or (reason := loss.obstacle()):
        print(f"soak: not here: {'needs root' if os.geteuid() else reason}", file=sys.stderr)
        return 2
    deadline = time.monotonic() + 60 * min(minutes, MINUTES_MAX)
    path = directory / "ledger.jsonl"
    runs = ledger(path)
    before, longest_s = len(runs), 0.0
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    while time.monotonic() + longest_s < deadline:
        started = time.monotonic()
        run = perform(*next_run(runs), described.stdout.strip(), directory / "faults")
        longest_s = max(longest_s, time.monotonic() - started)
        keep(path, run)
        runs.append(run)
        print(f"{run.kind} {run.seed}: {run.pause_s:.3f} s, {run.calls} calls", *run.faults, flush=True)
    print(table(runs))
    if left := missing(runs):
        print(f"{left} runs are missing to {RUNS_WANTED} of each: call it again")
    return 1 if any(run.faults for run in runs[before:]) else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), Path(sys.argv[2])))
