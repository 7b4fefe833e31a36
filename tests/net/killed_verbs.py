"""A service that is killed while clients write to its disks and it does a verb of each of its pools, again
and again: what is left of them.

A client writes one number after the other, each to the next place, and the next one when a number is
answered. So what a disk has at any moment is what it began with, and the numbers up to one of them.
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from random import Random

from aoe.control.client import Client as Control
from aoe.errors import ControlFailed
from aoe.pool import merging
from aoe.pool.asked import Wish, facts_of
from aoe.pool.requests import Clone, Create, Cut, Delete, Rollback
from aoe.pool.volume import Image
from aoe.pool.work import Work
from aoe.wire.protocol import SECTOR
from tests.image.daemons import daemon_of
from tests.net.service import Service
from tests.pool.pools import MIB, SIZE, fresh, is_whole, working
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import Client, NoAnswer
from tests.support.tools import tool
from tests.support.waiting import PATIENCE_S, wait_for

FRAME_AGE_S = 0.5
LATEST_S = {"snapshot": 0.6, "clone": 0.2, "rollback": 0.3 + 2 * FRAME_AGE_S, "delete": 0.1}
"""By when each verb is over as a rule; a rollback lets two frame ages pass."""
PLACES, APART = 64, 4096
CUT_SIZE = 64 * MIB
MERGE = "merge"
VERBS = (*LATEST_S, MERGE)
"""A pool for each, so that all are under way at one time."""
LATE = "took over 250 ms"
"""Why a busy machine makes no snapshot."""

State = tuple[int, ...]
"""The number in each place."""
EMPTY: State = (0,) * PLACES


def after(state: State, first: int, last: int) -> State:
    """The same once these numbers were written to it."""
    now = list(state)
    for number in range(max(first, last - PLACES + 1), last + 1):
        now[number % PLACES] = number
    return tuple(now)


class Writer:
    """A client that writes, from its first number on. What it `sent` last may have been written, or not."""

    def __init__(self, disk: Client, first: int) -> None:
        self.answered = self.sent = first - 1
        self._disk = disk
        self._over = threading.Event()

    def run(self) -> None:
        """Until it ends."""
        while not self._over.is_set():
            self.sent += 1
            if self._is_written(self.sent):
                self.answered = self.sent

    def _is_written(self, number: int) -> bool:
        while not self._over.is_set():
            with suppress(NoAnswer):
                lba = number % PLACES * APART // SECTOR
                self._disk.write(lba, number.to_bytes(8, "little") * (SECTOR // 8))
                return True
        return False

    def end(self) -> None:
        """Nothing more is sent."""
        self._over.set()


class Disk:
    """The volume of a pool that is served, and what it had when it was looked at last."""

    def __init__(self, pool: Path, verb: str, slot: int) -> None:
        self.pool = pool
        self.verb = verb
        self.slot = slot
        self.state = EMPTY
        self.first = 1
        """The number that is written next."""

    @property
    def table(self) -> str:
        """Of the file."""
        pool = f'[[pool]]\nname = "{self.verb}"\npath = "{self.pool}"\n'
        return f'{pool}[[export]]\npath = "{self.verb}/disk"\nshelf = 1\nslot = {self.slot}\n'

    @contextmanager
    def working(self) -> Iterator[Work]:
        """On its pool, once what served it has ended."""
        if self.verb == MERGE:
            wait_for(lambda: not any(map(daemon_of, (self.pool / "images").iterdir())))
        with working(self.pool, patience_s=PATIENCE_S) as work:
            yield work

    @contextmanager
    def written(self, lab: Lab, threads: ThreadPoolExecutor) -> Iterator[Writer]:
        """A client writes to it inside."""
        with Client(lab.port("client"), 1, self.slot, timeout=FRAME_AGE_S, retries=0) as client:
            writer = Writer(client, self.first)
            running = threads.submit(writer.run)
            try:
                yield writer
            finally:
                writer.end()
                running.result(PATIENCE_S)


class Life:
    """A disk while a service is there, which is asked for something."""

    def __init__(self, disk: Disk, wish: Wish | None) -> None:
        self.disk = disk
        self.wish = wish
        self.done = self.is_hit = False
        self.refusal = ""

    def begin(self, writer: Writer) -> None:
        """A client writes."""
        self.writer = writer
        wait_for(lambda: writer.answered >= self.disk.first)
        self._from, self._to = writer.answered, 0

    def ask(self, service: Service, later_s: float, killed: threading.Event) -> None:
        """Ask for it in so many seconds."""
        if killed.wait(max(0.0, later_s)):
            return
        self._from = self.writer.answered
        try:
            with Control(service.socket) as control:
                assert self.wish is not None
                how = {"request": facts_of(self.wish), "plan": False, "force": True}
                control.ask("volume", pool=self.disk.verb, **how)
        except ControlFailed as error:
            self.is_hit = killed.is_set()
            self.refusal = "" if self.is_hit or LATE in str(error) else str(error)
        else:
            self._to, self.done = self.writer.sent, True

    # What may be right

    @property
    def moments(self) -> dict[State, int]:
        """What the disk may have had when that was done, and the last number of each."""
        last = self._to if self.done else self.writer.sent
        return {after(self.disk.state, self.disk.first, it): it for it in range(self._from, last + 1)}

    def ends(self, state: State, first: int) -> set[State]:
        """What one may have now that had another state before a number."""
        return {after(state, first, last) for last in (self.writer.answered, self.writer.sent)}


class KilledVerbs:
    """Pools in a store with reflink, and one in a store without."""

    def __init__(self, lab: Lab, store: Path, slow: Path, work: Path, seed: int = 1) -> None:
        self._lab = lab
        self._work = work
        self._rng = Random(seed)
        self.hits: Counter[str] = Counter()
        """How often each verb was under way when the service was killed."""
        self.writes = 0
        """Those that were answered."""
        homes = {MERGE: slow}
        self._disks = [Disk(fresh(homes.get(verb, store)), verb, slot) for slot, verb in enumerate(VERBS, 1)]
        for disk in self._disks:
            self._make(disk)

    def run(self, times: int) -> list[str]:
        """What is wrong afterwards."""
        return [f"{number}: {fault}" for number in range(times) for fault in self._life(number)]

    def _life(self, number: int) -> Iterator[str]:
        lives = [Life(disk, self._wish(disk, number)) for disk in self._disks]
        self._kill(lives)
        for life in lives:
            yield from (f"{life.disk.verb}: {fault}" for fault in self._faults(life, number))

    # What is asked for

    @staticmethod
    def _make(disk: Disk) -> None:
        with disk.working() as work:
            work.do(Create("disk", CUT_SIZE if disk.verb == "snapshot" else SIZE))
            if disk.verb == "snapshot":
                _fragment(Path(work.path_of("disk")))
            if disk.verb == "rollback":
                work.do(Cut("disk", "golden"))

    def _wish(self, disk: Disk, number: int) -> Wish | None:
        """None of a merge, which is done without that. Nothing of earlier lives is left beside the disk."""
        name = f"s{number}"
        with disk.working() as work:
            for clone in work.volumes.keys() - {"disk"}:
                work.do(Delete(clone))
            for kept in work.volumes["disk"].snapshots:
                if kept.name != "golden":
                    work.do(Delete("disk", kept.name))
            if disk.verb == "delete":
                work.do(Clone("disk", "", name) if number % 2 else Cut("disk", name))
        if disk.verb == MERGE:
            self._fade(disk)
        return {
            "snapshot": Cut("disk", name),
            "clone": Clone("disk", "", name),
            "rollback": Rollback("disk", "golden"),
            "delete": Delete(name) if number % 2 else Delete("disk", name),
        }.get(disk.verb)

    @staticmethod
    def _fade(disk: Disk) -> None:
        """The snapshot `kept` is to take what it needs of one that is deleted."""
        with closing(Work(str(disk.pool), name=disk.verb, locked=False)) as look:
            for request in merging.merged(look, "disk", lambda _: None):
                with disk.working() as work:
                    work.do(request)
        with disk.working() as work:
            for name in ("gone", "kept"):
                work.do(Cut("disk", name))
            work.do(Delete("disk", "gone"))

    # What becomes of it

    def _kill(self, lives: list[Life]) -> None:
        killed, killed_s = threading.Event(), self._rng.uniform(0.1, max(LATEST_S.values()))
        tables = [life.disk.table for life in lives]
        with (
            Service(self._lab, self._work, tables, max_frame_age=FRAME_AGE_S) as service,
            ThreadPoolExecutor(2 * len(lives)) as threads,
            ExitStack() as clients,
        ):
            for life in lives:
                life.begin(clients.enter_context(life.disk.written(self._lab, threads)))
            asking = [
                threads.submit(life.ask, service, killed_s - self._rng.uniform(0, latest_s), killed)
                for life in lives
                if (latest_s := LATEST_S.get(life.disk.verb)) is not None
            ]
            time.sleep(killed_s)  # any moment is right
            killed.set()
            service.kill()
            for life in lives:
                life.writer.end()
            for it in asking:
                it.result(PATIENCE_S)
        self.hits += Counter(life.disk.verb for life in lives if life.is_hit)
        self.writes += sum(life.writer.answered - life.disk.first + 1 for life in lives)

    def _faults(self, life: Life, number: int) -> Iterator[str]:
        disk, name = life.disk, f"s{number}"
        if life.refusal:
            yield life.refusal
        with disk.working() as work:
            left = [it for it in work.leftovers if "volume merge" not in it.remedy]
            if left or not (disk.verb == MERGE or is_whole(work)):
                yield f"the pool is not whole: {left}"
            state = self._state(work, work.volumes["disk"].head)
            right = life.ends(disk.state, disk.first)
            kept = {it.name: it.image for it in work.volumes["disk"].snapshots}
            match disk.verb:
                case "rollback":
                    back = [it for it in kept if it != "golden"]
                    if back:
                        last = life.moments.get(self._state(work, kept[back[0]]))
                        right = set()
                        if last is None:
                            yield "what was before the rollback is not kept as it was"
                        else:  # a number may be sent again, and then it may be in both
                            right = life.ends(EMPTY, last) | life.ends(EMPTY, last + 1)
                    if life.done and not back:
                        yield "it was rolled back, and is not"
                case "delete":
                    there = name in (work.volumes if number % 2 else kept)
                    if life.done and there:
                        yield "it was deleted, and is there"
                    if there:
                        image = work.volumes[name].head if number % 2 else kept[name]
                        if self._state(work, image) != disk.state:
                            yield "what is not deleted has changed"
                case "merge":
                    self.hits[MERGE] += bool(work.volumes["disk"].fading)
                    if self._state(work, kept["kept"]) != disk.state:
                        yield "the snapshot has changed"
                case _:
                    made = list(kept.values())
                    made += [it.head for of, it in work.volumes.items() if of != "disk"]
                    if any(self._state(work, it) not in life.moments for it in made):
                        yield "what was kept is of no one moment"
                    if life.done and name not in (kept if disk.verb == "snapshot" else work.volumes):
                        yield "it was made, and is not there"
            if state not in right:
                yield "the disk is not as clients left it"
        disk.state, disk.first = state, life.writer.answered + 1

    def _state(self, work: Work, image: Image) -> State:
        path = Path(work.where(image))
        if image.format != "raw":
            raw = self._work / "read.raw"
            tool("qemu-img", "convert", "-f", image.format, "-O", "raw", path, raw)
            path = raw
        with path.open("rb") as file:
            them = [os.pread(file.fileno(), 8, place * APART) for place in range(PLACES)]
        return tuple(int.from_bytes(it, "little") for it in them)


def _fragment(image: Path) -> None:
    """Behind what is written every second block is a hole, so it takes a while to clone."""
    with image.open("r+b") as file:
        for at in range(PLACES * APART, CUT_SIZE, 8192):
            os.pwrite(file.fileno(), b"\xff" * 4096, at)
