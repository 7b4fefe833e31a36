"""A service, or what serves its images, that is killed while clients write to its disks and it does a verb of
each of its pools, again and again: what is left of them.

A client writes one number after the other, each to another place, and the next one when a number is
answered. So what a disk has at any moment is what it began with, and the numbers up to one of them. In
write-back mode it sends a FLUSH now and then. After a storage daemon was killed one may fail: then some of
the numbers since the last good one may be lost, and no others.
"""

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

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
from tests.support.labs.raw_client import AtaFailed, Client, NoAnswer, Refused
from tests.support.tools import tool
from tests.support.waiting import PATIENCE_S, wait_for

FRAME_AGE_S = 0.5
PLACES, STRIDE = 1024, 37
"""Where numbers go in a disk, and how many places further the next one does."""
MERGE = "merge"
EXCUSES = ("took over 250 ms", "then try again", "in use by another program, such as QEMU")
"""Why a busy machine does not do what it is asked for: what was killed may have its locks for a while."""
FLUSH_EVERY, FLUSH_S = 32, 4 * FRAME_AGE_S
"""After so many writes is a FLUSH, for the answer to which one waits so long (seconds)."""
ENDS_S = 4 * PATIENCE_S
"""What has a pool may have to give back the blocks of a snapshot before it ends."""


class Kind(NamedTuple):
    """What is done to a disk: by when that is over as a rule (seconds), how large the disk is, and, where it
    has holes in each so many bytes, so that it takes a while to clone, how many. Each has a pool of its own,
    so that all are under way at one time."""

    verb: str
    latest_s: float
    size: int = SIZE
    piece: int = 0


CUT = "snapshot"
KINDS = (
    Kind(CUT, 0.6, 64 * MIB, 8192),
    Kind("clone", 0.2),
    Kind("rollback", 0.3 + 2 * FRAME_AGE_S),  # it lets two frame ages pass
    Kind("delete", 0.1),
    Kind(MERGE, 0.0),  # it is done without being asked for
)
IMAGES = (KINDS[0]._replace(size=SIZE, piece=0), *KINDS[1:])
"""Where all are qcow2, and what serves them is killed."""
LARGE = (Kind(CUT, 12.0, 10240 * MIB, 65536),)
"""Of 164,000 extents."""

State = tuple[int, ...]
"""The number in each place."""
EMPTY: State = (0,) * PLACES


def is_after(state: State, before: State, first: int, last: int, lost: set[int]) -> bool:
    """Whether it may be one to which these numbers were written, of which some may be lost."""
    them = [{it} for it in before]
    for number in range(first, last + 1):
        place = number * STRIDE % PLACES
        them[place] = {number} | (them[place] if number in lost else set())
    return all(it in may for it, may in zip(state, them, strict=True))


class Writer:
    """A client that writes, from its first number on. What it `sent` last may have been written, or not."""

    def __init__(self, disk: Client, first: int, apart: int, flushes: Client | None) -> None:
        """Its places are so many bytes apart."""
        self.answered = self.sent = self._flushed = first - 1
        self.error = ""
        self.lost = range(0)
        """What a FLUSH did not vouch for."""
        self.over = threading.Event()
        """Nothing more is sent."""
        self._flushes = flushes
        self._failed = False
        self.longest_s = 0.0
        """That it waited for an answer which came."""
        self._disk = disk
        self._apart = apart
        self._ends = threading.Event()

    @property
    def unflushed(self) -> range:
        """For what no FLUSH has vouched yet, if one is to."""
        return range(self._flushed + 1, self.sent + 1) if self._flushes else range(0)

    def run(self) -> None:
        """Until it ends, or gets an error."""
        try:
            self._write()
            if self._flushes:
                self._flush_all(self._flushes)
        finally:
            self.over.set()

    def _write(self) -> None:
        while not (self._ends.is_set() or self.error):
            self.sent += 1
            began_s = time.monotonic()
            if self._is_written(self.sent):
                self.answered = self.sent
                self.longest_s = max(self.longest_s, time.monotonic() - began_s)
            if self._flushes and self.answered >= self._flushed + FLUSH_EVERY:
                self._flush(self._flushes)

    def _flush_all(self, disk: Client) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not self.error and self._flushed < self.answered:
            self._flush(disk)
            if time.monotonic() > until_s:
                self.error = "no FLUSH is answered"

    def _flush(self, disk: Client) -> None:
        """One without an answer may have failed, but one that fails is the last."""
        try:
            disk.flush()
            self._flushed = self.answered
            return
        except NoAnswer:
            pass
        except (AtaFailed, Refused) as error:
            if self._failed:
                self.error = f"another FLUSH fails: {error}"
            self._failed = True
        self.lost = range(self.lost.start or self._flushed + 1, self.answered + 1)

    def _is_written(self, number: int) -> bool:
        while not self._ends.is_set():
            try:
                lba = number * STRIDE % PLACES * self._apart // SECTOR
                self._disk.write(lba, number.to_bytes(8, "little") * (SECTOR // 8))
                return True
            except NoAnswer:
                pass
            except (AtaFailed, Refused) as error:
                self.error = f"a client gets an error: {error}"
                return False
        return False

    def goes_on(self) -> None:
        """Wait until it has sent something that is answered."""
        before = self.sent
        wait_for(lambda: self.answered > before or self.error)

    def end(self) -> None:
        """Nothing more is written."""
        self._ends.set()


class Disk:
    """The volume of a pool that is served, and what it had when it was looked at last."""

    def __init__(self, pool: Path, kind: Kind, slot: int) -> None:
        self.pool = pool
        self.kind = kind
        self.slot = slot
        self.state = EMPTY
        self.first = 1
        """The number that is written next."""

    @property
    def verb(self) -> str:
        """What is done to it."""
        return self.kind.verb

    @property
    def apart(self) -> int:
        """Bytes from one place to the next."""
        return self.kind.size // PLACES

    def table(self, *, back: bool) -> str:
        """Of the file."""
        pool = f'[[pool]]\nname = "{self.verb}"\npath = "{self.pool}"\n'
        mode = 'durability = "write-back"\n' * back
        return f'{pool}[[export]]\npath = "{self.verb}/disk"\nshelf = 1\nslot = {self.slot}\n{mode}'

    @property
    def images(self) -> Path:
        """Where its images are."""
        return self.pool / "images"

    @contextmanager
    def working(self) -> Iterator[Work]:
        """On its pool, once what served it has ended."""
        wait_for(lambda: not daemon_of(self.images))
        with working(self.pool, patience_s=ENDS_S) as work:
            yield work

    @contextmanager
    def written(self, lab: Lab, threads: ThreadPoolExecutor, *, back: bool) -> Iterator[Writer]:
        """A client writes to it inside, in write-back mode or not."""
        with Client(lab.port("client"), 1, self.slot, timeout=FRAME_AGE_S, retries=0) as client:
            flushes = Client(client.port, 1, self.slot, timeout=FLUSH_S, retries=0) if back else None
            writer = Writer(client, self.first, self.apart, flushes)
            running = threads.submit(writer.run)
            try:
                yield writer
            finally:
                writer.end()
                running.result(PATIENCE_S)

    def merge(self) -> None:
        """What deleted snapshots have left in its chain."""
        with closing(Work(str(self.pool), name=self.verb, locked=False)) as look:
            for request in merging.merged(look, "disk", lambda _: None):
                with self.working() as work:
                    work.do(request)

    @property
    def fades(self) -> bool:
        """Whether there is something to be merged."""
        with closing(Work(str(self.pool), name=self.verb, locked=False)) as look:
            return bool(look.volumes["disk"].fading)


class Life:
    """A disk while a service is there, which is asked for something."""

    def __init__(self, disk: Disk, wish: Wish | None) -> None:
        self.disk = disk
        self.wish = wish
        self.done = self.is_hit = self._was_done = False
        self._lost: set[int] = set()
        self.refusal = ""
        self._asks = False

    def begin(self, writer: Writer) -> None:
        """A client writes."""
        self.writer = writer
        wait_for(lambda: writer.answered >= self.disk.first)
        self._from, self._to = writer.answered, 0

    def ask(self, service: Service, later_s: float, gone: threading.Event) -> None:
        """Ask for it in so many seconds. A service that is `gone` has no answer."""
        if gone.wait(later_s):
            return
        self._from = self.writer.answered
        self._asks = True
        try:
            with Control(service.socket) as control:
                assert self.wish is not None
                how = {"request": facts_of(self.wish), "plan": False, "force": True}
                control.ask("volume", pool=self.disk.verb, **how)
        except ControlFailed as error:
            is_excused = gone.is_set() or any(it in str(error) for it in EXCUSES)
            self.refusal = "" if is_excused else str(error)
        else:
            self._to, self.done = self.writer.sent, True
        self._asks = False

    def look(self) -> None:
        """Something is about to be killed."""
        self.is_hit = self.disk.fades if self.disk.verb == MERGE else self._asks
        self._was_done = self.done
        if self.disk.verb == "rollback" and not self.done:  # clients get another disk, so no FLUSH may fail
            self._lost |= set(self.writer.unflushed)

    # What may be right

    def moment(self, state: State) -> int | None:
        """The last number of what the disk may have had when that was done; None: it had something else. What
        was done before anything was killed lost nothing."""
        lost = set() if self._was_done else self._may_lack
        last = max(*state, self._from) if lost else max(state)
        end = self._to if self.done else self.writer.sent
        is_one = self._from <= last <= end and is_after(state, self.disk.state, self.disk.first, last, lost)
        return last if is_one else None

    def may_end(self, state: State, before: State, first: int) -> bool:
        """Whether one may have that now which had another state before a number."""
        ends = (self.writer.answered, self.writer.sent)
        return any(is_after(state, before, first, last, self._may_lack) for last in ends)

    @property
    def _may_lack(self) -> set[int]:
        return self._lost | set(self.writer.lost)


class KilledVerbs:
    """Pools in a store, and the one where images are merged in another store, without reflink."""

    def __init__(
        self,
        lab: Lab,
        store: Path,
        work: Path,
        seed: int = 1,
        *,
        merges_in: Path | None = None,
        kinds: Sequence[Kind] = KINDS,
    ) -> None:
        """With IMAGES the service goes on, and what serves the images of its disks is killed: two times in
        write-through mode, two times in write-back mode, and so on."""
        self._lab = lab
        self._work = work
        self._rng = Random(seed)
        self._only_images = kinds is IMAGES
        self.hits: Counter[str] = Counter()
        """How often each verb was under way at a kill."""
        self.writes = 0
        """Those that were answered."""
        self.pause_s = 0.0
        """The longest that a client waited for an answer."""
        homes = {MERGE: merges_in or store}
        pools = [fresh(homes.get(it.verb, store)) for it in kinds]
        self._disks = [
            Disk(pool, kind, slot) for slot, (pool, kind) in enumerate(zip(pools, kinds, strict=True), 1)
        ]
        for disk in self._disks:
            self._make(disk)

    def run(self, times: int) -> list[str]:
        """What is wrong afterwards."""
        return [f"{number}: {fault}" for number in range(times) for fault in self._life(number)]

    def _life(self, number: int) -> Iterator[str]:
        lives = [Life(disk, self._wish(disk, number)) for disk in self._disks]
        self._kill(lives, back=self._only_images and number % 4 > 1)
        for life in lives:
            yield from (f"{life.disk.verb}: {fault}" for fault in self._faults(life, number))

    # What is asked for

    @staticmethod
    def _make(disk: Disk) -> None:
        with disk.working() as work:
            work.do(Create("disk", disk.kind.size))
            if disk.kind.piece:
                _fragment(Path(work.path_of("disk")), disk.kind)
            if disk.verb == "rollback":
                work.do(Cut("disk", "golden"))

    @staticmethod
    def _wish(disk: Disk, number: int) -> Wish | None:
        """None of a merge, which is done without that. Nothing of earlier lives is left beside the disk."""
        name = f"s{number}"
        with disk.working() as work:
            for clone in work.volumes.keys() - {"disk"}:
                work.do(Delete(clone))
            for kept in work.volumes["disk"].snapshots:
                if kept.name != "golden":
                    work.do(Delete("disk", kept.name))
        disk.merge()
        with disk.working() as work:
            if disk.verb == "delete":
                work.do(Clone("disk", "", name) if number % 2 else Cut("disk", name))
            if disk.verb == MERGE:  # `kept` is to take what it needs of one that is deleted
                for it in (Cut("disk", "gone"), Cut("disk", "kept"), Delete("disk", "gone")):
                    work.do(it)
        wishes: dict[str, Wish | None] = {
            CUT: Cut("disk", name),
            "clone": Clone("disk", "", name),
            "rollback": Rollback("disk", "golden"),
            "delete": Delete(name) if number % 2 else Delete("disk", name),
            MERGE: None,
        }
        return wishes[disk.verb]

    # What becomes of it

    def _kill(self, lives: list[Life], *, back: bool) -> None:
        before_s = [self._rng.uniform(0, it.disk.kind.latest_s) for it in lives]
        killed_s = self._rng.uniform(0.1, 0.2) + max(before_s)
        gone, tables = threading.Event(), [life.disk.table(back=back) for life in lives]
        with (
            Service(self._lab, self._work, tables, max_frame_age=FRAME_AGE_S) as service,
            ThreadPoolExecutor(2 * len(lives)) as threads,
            ExitStack() as clients,
        ):
            for life in lives:
                life.begin(clients.enter_context(life.disk.written(self._lab, threads, back=back)))
            asking = [
                threads.submit(life.ask, service, killed_s - before, gone)
                for life, before in zip(lives, before_s, strict=True)
                if life.wish is not None
            ]
            time.sleep(killed_s)  # any moment is right
            for life in lives:
                life.look()
            if self._only_images:
                self._kill_images(lives)
                for it in asking:
                    it.result(PATIENCE_S)
                for life in lives:
                    life.writer.goes_on()
            else:
                gone.set()
                service.kill()
            for life in lives:
                life.writer.end()
            for it in asking:
                it.result(PATIENCE_S)
            if self._only_images:
                for life in lives:
                    life.writer.over.wait(PATIENCE_S)
                service.stop()
        self.hits += Counter(life.disk.verb for life in lives if life.is_hit)
        self.writes += sum(life.writer.answered - life.disk.first + 1 for life in lives)
        self.pause_s = max(self.pause_s, *(life.writer.longest_s for life in lives))

    @staticmethod
    def _kill_images(lives: list[Life]) -> None:
        for life in lives:
            if process := daemon_of(life.disk.images):  # a rollback has none for a moment
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def _faults(self, life: Life, number: int) -> Iterator[str]:
        disk, name = life.disk, f"s{number}"
        yield from filter(None, (life.refusal, life.writer.error))
        with disk.working() as work:
            fading = bool(work.volumes["disk"].fading)
            left = [it for it in work.leftovers if "volume merge" not in it.remedy]
            if left or not (fading or is_whole(work)):
                yield f"the pool is not whole: {left}"
            yield from _damaged(disk.images)
            state = self._state(work, work.volumes["disk"].head)
            begun = [(disk.state, disk.first)]
            kept = {it.name: it.image for it in work.volumes["disk"].snapshots}
            match disk.verb:
                case "rollback":
                    back = [it for it in kept if it != "golden"]
                    if back:
                        last = life.moment(self._state(work, kept[back[0]]))
                        begun = []
                        if last is None:
                            yield "what was before the rollback is not kept as it was"
                        else:  # a number may be sent again, and then it may be in both
                            begun = [(EMPTY, last), (EMPTY, last + 1)]
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
                    if self._state(work, kept["kept"]) != disk.state:
                        yield "the snapshot has changed"
                case _:
                    made = list(kept.values())
                    made += [it.head for of, it in work.volumes.items() if of != "disk"]
                    if any(life.moment(self._state(work, it)) is None for it in made):
                        yield "what was kept is of no one moment"
                    if life.done and name not in (kept if disk.verb == CUT else work.volumes):
                        yield "it was made, and is not there"
            if not any(life.may_end(state, *it) for it in begun):
                yield "the disk is not as clients left it"
        disk.state, disk.first = state, life.writer.answered + 1

    def _state(self, work: Work, image: Image) -> State:
        path = Path(work.where(image))
        if image.format != "raw":
            raw = self._work / "read.raw"
            tool("qemu-img", "convert", "-f", image.format, "-O", "raw", path, raw)
            path = raw
        with path.open("rb") as file:
            them = [os.pread(file.fileno(), 8, place * (image.size // PLACES)) for place in range(PLACES)]
        return tuple(int.from_bytes(it, "little") for it in them)


def _damaged(images: Path) -> Iterator[str]:
    """Room that is lost there is no damage."""
    for path in images.glob("*.qcow2"):
        done = subprocess.run(["qemu-img", "check", "-q", path], capture_output=True, text=True, check=False)
        if done.returncode not in (0, 3):
            yield f"{path.name} is damaged: {done.stdout}{done.stderr}"


def _fragment(image: Path, kind: Kind) -> None:
    """In the middle of each piece is something, so it takes a while to clone."""
    with image.open("r+b") as file:
        for at in range(kind.piece // 2, kind.size, kind.piece):
            os.pwrite(file.fileno(), b"\xff" * 4096, at)
        os.fsync(file.fileno())
