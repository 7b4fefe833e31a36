"""Failover, a service that starts again or applies files, and machines without a disk, again and again: each
scenario in turn, with both ends in C and with both in Python; `tools/soak` runs this.

soak.py MINUTES DIRECTORY [SCENARIO...]. Every run is a line in DIRECTORY/ledger.jsonl, from which the next
call goes on; what was left of a run with a fault is in DIRECTORY/faults. Exit status 1 if there was one in
this call, 2 if none can be done here.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.contest import build
from tests.engine import cutting, replaying
from tests.net import killed_doors, killed_verbs
from tests.net.killed_verbs import KilledVerbs
from tests.pool.full_store import VERBS, FullStore
from tests.support.checkers import executed
from tests.support.checkers.fuzzers import fuzz
from tests.support.labs import applies, doors, drains, failover, loss, restarts
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.labs.peers import ENGINE
from tests.support.labs.recorded import RecordedDisk
from tests.vm import demo, root_lives
from tests.vm.built_image import dracut_image

MINUTES_MAX = 80
RUNS_WANTED = 20
FUZZ_S = 120
RESTARTS, APPLIES, DRAINS, CUTS, KILLS, CUT_KILLS, DOORS = 50, 500, 20, 20, 40, 20, 30
"""Of one run."""
MEMORY_MINUTES = 20.0
USED, THOUSAND = 20, 1000
"""Exports of a service."""
ENGINES = ("c", "python")
CUT_BYTES, VERB_BYTES, LARGE_BYTES, FULL_BYTES = 4 << 30, 1 << 30, 30 << 30, 32 << 20
FULL_BLOCKS, ROOM_BLOCKS = 160, 12
"""How many blocks of 4 KiB a store has left at most, and between two looks."""
Said = dict[str, Any]


class Course(NamedTuple):
    """What is done in a directory, with a seed, on an engine; and how many runs are wanted."""

    run: Callable[[Path, int, str], Said]
    runs: int = RUNS_WANTED
    engines: tuple[str, ...] = ENGINES


def _failover(name: str) -> Course:
    return Course(
        lambda work, seed, engine: failover.run(work, failover.SCENARIOS[name], seed, engine, engine)
    )


def _restarts(how: signal.Signals, times: int = RESTARTS, exports: int = USED) -> Course:
    used, idle = min(USED, exports), max(0, exports - USED)
    return Course(
        lambda work, seed, engine: restarts.run(
            work, how, engine, seed=seed, times=times, used=used, idle=idle
        ),
        1,
    )


def _applies(rw: str) -> Course:
    def run(work: Path, seed: int, engine: str) -> Said:
        os.environ[ENGINE] = engine
        with Lab(mtu=applies.MTU) as lab:
            return applies.run(lab, work, build("load", work), rw, seed=seed, times=APPLIES)

    return Course(run, 2)


def _drained() -> Course:
    def run(work: Path, _: int, engine: str) -> Said:
        os.environ[ENGINE] = engine
        return drains.run(work, times=DRAINS, engine=engine, initiator=engine)

    return Course(run, 1)


def _cut() -> Course:
    def run(work: Path, seed: int, engine: str) -> Said:
        with small_filesystem("xfs", work / "store", CUT_BYTES) as store:
            writes, faults = cutting.run(store, work, engine, seed=seed, times=CUTS)
        return {"calls": writes, "moves": CUTS, "faults": faults}

    return Course(run, 5)


def _replayed() -> Course:
    """With an ext4 on the disk: of each engine 100 snapshots."""

    def run(work: Path, _: int, engine: str) -> Said:
        with small_filesystem("xfs", work / "store", CUT_BYTES) as store, Lab(mtu=9000) as lab:
            synced, faults = replaying.run(lab, store, work, engine, CUTS)
        return {"calls": synced, "moves": CUTS, "faults": faults}

    return Course(run, 5)


def _killed_verbs(kinds: Sequence[killed_verbs.Kind]) -> Course:
    def run(work: Path, seed: int, engine: str) -> Said:
        os.environ[ENGINE] = engine
        with (
            small_filesystem("xfs", work / "fast", VERB_BYTES) as fast,
            small_filesystem("ext4", work / "slow", VERB_BYTES) as slow,
            Lab(mtu=9000) as lab,
        ):
            store = slow if kinds is killed_verbs.IMAGES else fast
            killed = KilledVerbs(lab, store, work, seed, merges_in=slow, kinds=kinds)
            return _of_kills(killed, killed.run(KILLS))

    return Course(run, 5)


def _killed_snapshots() -> Course:
    """Of a disk that takes long to clone."""

    def run(work: Path, seed: int, engine: str) -> Said:
        os.environ[ENGINE] = engine
        options = ("loop", "-m", "reflink=1")
        with small_filesystem("xfs", work / "store", LARGE_BYTES, *options) as store, Lab(mtu=9000) as lab:
            killed = KilledVerbs(lab, store, work, seed, kinds=killed_verbs.LARGE)
            return _of_kills(killed, killed.run(CUT_KILLS))

    return Course(run, 5)


def _full_stores() -> Course:
    """Each call of each verb, and a store with little room; no engine has a part in it."""

    def run(work: Path, seed: int, _: str) -> Said:
        with small_filesystem("ext4", work / "store", FULL_BYTES, "loop", "-m", "0") as store:
            full = FullStore(store)
            faults = [it for verb in VERBS for it in full.faults(verb, seed)]
            for blocks in range(seed % ROOM_BLOCKS, FULL_BLOCKS, ROOM_BLOCKS):
                faults += [it for verb in VERBS for it in full.faults_of_room(verb, blocks)]
        return {"calls": full.calls, "moves": len(VERBS), "faults": faults}

    return Course(run, 6, ("c",))


def _of_kills(killed: KilledVerbs, faults: list[str]) -> Said:
    """`moves` are verbs that were under way."""
    return {
        "faults": faults,
        "moves": killed.hits.total(),
        "calls": killed.writes,
        "pause_s": killed.pause_s,
    }


def _doors() -> Course:
    """In a guest, which is emulated; the door is C."""

    def run(work: Path, seed: int, _: str) -> Said:
        with RecordedDisk(work / "disk", doors.SECTORS) as disk:
            said = doors.run(work, seed, DOORS, disk.path)
            said["faults"] += executed.faults_of_versions(disk.writes(), said["newest"])
        return said

    return Course(run, 3, ("c",))


def _root(run: Callable[..., Said], runs: int, *words: Any) -> Course:
    """As `_doors`."""
    return Course(lambda work, seed, _: run(work, seed, *words), runs, ("c",))


def _fuzzed(name: str) -> Course:
    """From another seed each time; what is fuzzed is C."""

    def run(work: Path, seed: int, _: str) -> Said:
        status, said = fuzz(work, str(FUZZ_S), name, seed=str(seed))
        found = re.search(r"no finding in (\d+) runs", said)
        return {"calls": int(found[1]) if found else 0, "faults": [said] if status else []}

    return Course(run, engines=("c",))


COURSES = {
    **{name: _failover(name) for name in failover.SCENARIOS},
    "service restarted": _restarts(signal.SIGTERM),
    "service killed": _restarts(signal.SIGKILL),
    "1,000 exports restarted": _restarts(signal.SIGTERM, 5, THOUSAND),
    "1,000 exports killed": _restarts(signal.SIGKILL, 5, THOUSAND),
    "drained": _drained(),
    "snapshots under load": _cut(),
    "snapshots of ext4": _replayed(),
    "killed in verbs of pools": _killed_verbs(killed_verbs.KINDS),
    "storage daemons killed in verbs": _killed_verbs(killed_verbs.IMAGES),
    "full stores of qcow2": _full_stores(),
    "killed in large snapshots": _killed_snapshots(),
    "door killed": _doors(),
    "door killed, without a guest": _root(killed_doors.run, 3, DOORS),
    "root, primaries come and go": _root(root_lives.cycle, 30),
    "root, with dracut": _root(root_lives.cycle, 3, dracut_image),
    "root, rebooted with dracut": _root(root_lives.rebooted, 1, dracut_image),
    "root, as the README has it": _root(demo.whole, 1),
    "root, door killed": _root(root_lives.door_killed, 1, DOORS),
    "root, power cut": _root(root_lives.power_cut, 6),
    "root, both primaries away": _root(root_lives.both_away, 1),
    "root, both primaries away, with dracut": _root(root_lives.both_away, 1, dracut_image),
    "root, rescue with dracut": _root(root_lives.rescue, 1, dracut_image),
    "root, short of memory": _root(root_lives.short_of_memory, 1, MEMORY_MINUTES),
    "files applied to reads": _applies("randread"),
    "files applied to reads and writes": _applies("randrw"),
    **{f"fuzzed {name}": _fuzzed(name) for name in ("parse", "loop", "core")},
}


class Kind(NamedTuple):
    """What happens, and what both ends are."""

    scenario: str
    engine: str

    def __str__(self) -> str:
        return f"{self.scenario}, {self.engine}"


KINDS = tuple(Kind(name, engine) for name, course in COURSES.items() for engine in course.engines)


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
    away_s: float = 0.0
    load: float = 0.0
    """How busy the machine was in the end (/proc/loadavg)."""
    more: dict[str, float] = {}  # noqa: RUF012 - a tuple's, which nobody changes
    """Other numbers that its scenario tells."""

    @property
    def kind(self) -> Kind:
        return Kind(self.scenario, self.engine)


def ledger(path: Path) -> list[Run]:
    """All runs so far."""
    return [Run(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path: Path, run: Run) -> None:
    with path.open("a") as file:
        file.write(json.dumps(run._asdict()) + "\n")


def next_run(runs: Iterable[Run], names: Iterable[str] = COURSES) -> tuple[Kind, int]:
    """The kind of run, of these scenarios, that there was least often for what is wanted, and a seed that it
    did not have yet."""
    seeds = Counter(dict.fromkeys(KINDS, 0))
    for run in runs:
        seeds[run.kind] = max(seeds[run.kind], run.seed)
    chosen = set(names)
    kinds = [kind for kind in KINDS if kind.scenario in chosen]
    kind = min(kinds, key=lambda kind: seeds[kind] / COURSES[kind.scenario].runs)
    return kind, seeds[kind] + 1


def perform(kind: Kind, seed: int, commit: str, kept: Path) -> Run:
    """One run; where something is wrong with it, even that it did not end, its files are kept."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    said: Said = {"pause_s": 0.0, "away_s": 0.0, "moves": 0, "calls": 0}
    with tempfile.TemporaryDirectory(prefix="aoe-soak-") as directory:
        try:
            said |= COURSES[kind.scenario].run(Path(directory), seed, kind.engine)
        except Exception as error:
            said["faults"] = [f"{type(error).__name__}: {error}"]
        if said["faults"]:
            name = f"{'-'.join(kind).replace(' ', '-')}-{seed}"
            shutil.copytree(directory, kept / name, ignore=_but_files, dirs_exist_ok=True)
    more = {name: it for name, it in said.items() if name not in Run._fields and isinstance(it, int | float)}
    measured = (said["pause_s"], said["moves"], said["calls"], said["faults"])
    load = os.getloadavg()[0]
    return Run(kind.scenario, seed, when, commit, *measured, kind.engine, said["away_s"], load, more)


def _but_files(directory: str, names: list[str]) -> list[str]:
    """Sockets and pipes, which cannot be kept."""
    there = {name: Path(directory, name) for name in names}
    return [name for name, it in there.items() if not (it.is_file() or it.is_dir())]


def table(runs: Iterable[Run]) -> str:
    """How often each scenario ran, its worst and median pause, its faults, and what else it told at most."""
    titles = ("Scenario", "runs", "worst pause, s", "median pause, s", "calls", "faults", "at most")
    lines = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    by_kind: dict[Kind, list[Run]] = {kind: [] for kind in KINDS}
    for run in runs:
        by_kind.setdefault(run.kind, []).append(run)
    for kind, its in by_kind.items():
        pauses = [run.pause_s for run in its] or [0.0]
        calls, faults = sum(run.calls for run in its), sum(len(run.faults) for run in its)
        measured = f"{max(pauses):.3f} | {median(pauses):.3f} | {calls} | {faults}"
        lines.append(f"| {kind} | {len(its)} | {measured} | {_numbers(_worst(its))} |")
    return "\n".join(lines)


def _worst(runs: Iterable[Run]) -> dict[str, float]:
    """Of each other number."""
    worst: dict[str, float] = {}
    for run in runs:
        worst |= {name: max(it, worst.get(name, it)) for name, it in run.more.items()}
    return worst


def _numbers(more: dict[str, float]) -> str:
    return ", ".join(f"{name} {round(it, 3)}" for name, it in more.items())


def missing(runs: Iterable[Run]) -> int:
    """How many runs are left until each scenario had its number."""
    counts = Counter(run.kind for run in runs)
    return sum(max(0, COURSES[kind.scenario].runs - counts[kind]) for kind in KINDS)


def main(minutes: float, directory: Path, names: list[str]) -> int:
    if unknown := set(names) - COURSES.keys():
        print(f"soak: no scenario {', '.join(unknown)}; there are: {', '.join(COURSES)}", file=sys.stderr)
        return 2
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
        run = perform(*next_run(runs, names or COURSES), described.stdout.strip(), directory / "faults")
        longest_s = max(longest_s, time.monotonic() - started)
        keep(path, run)
        runs.append(run)
        numbers = _numbers({"pause_s": run.pause_s, "calls": run.calls, **run.more})
        print(f"{run.kind} {run.seed}: {numbers}", *run.faults, flush=True)
    print(table(runs))
    if left := missing(runs):
        print(f"{left} runs are missing: call it again")
    return 1 if any(run.faults for run in runs[before:]) else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
