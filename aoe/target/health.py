"""How the disks are that a target serves: whose sync failed (order rule T6), and whose file lost its name."""

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Callable, Hashable
from datetime import UTC, datetime

from aoe import timing
from aoe.disk.file import FileDisk
from aoe.disk.image import ImageDisk
from aoe.disk.threads import aside
from aoe.disk.watch import Add, Lost, NameWatch
from aoe.errors import DiskError, NoThread
from aoe.target.export import Export, Job
from aoe.target.marks import Marks, name_of
from aoe.target.notices import Notices, file_lost, words_of_lost
from aoe.target.served import Served


class Failure:
    """A disk whose sync failed, `since` when (UTC; empty where that is not known). `problem` is why that is
    not kept over a restart, empty where it is or where nothing is."""

    def __init__(self, since_s: float, *, is_kept: bool) -> None:
        self.since_s = since_s
        self.is_kept = is_kept
        self.problem = ""
        self.writing: asyncio.Task[None] | None = None
        self.again_s = 0.0
        """When keeping it is tried again (CLOCK_MONOTONIC)."""

    @property
    def since(self) -> str:
        """In words."""
        if not self.since_s:
            return ""
        return datetime.fromtimestamp(self.since_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    def sentence(self, address: str) -> str:
        """What it is, and what ends it."""
        when = f" on {self.since}" if self.since else ""
        forgotten = f" (a restart would forget it: {self.problem})" if self.problem else ""
        return f"a sync failed{when}; repair the disk, then aoe-target reopen {address}{forgotten}"


class Health:
    """Of the disks of one server. `served` are those that are served now."""

    def __init__(
        self,
        served: dict[Export, Served],
        notices: Notices,
        marks: Marks | None,
        add_watches: Add,
        changed: Callable[[Export], None],
    ) -> None:
        """`changed` is told of an export that is served otherwise from now on."""
        self._served = served
        self._notices = notices
        self._marks = marks
        self._changed = changed
        self._failures: dict[Hashable, Failure] = {}
        """By store: one that is opened again under another address is the same."""
        self._told: set[Hashable] = set()
        """Failures of which the other parts of the store know."""
        self._errors: Counter[Export] = Counter()
        self._lost: dict[Export, str] = {}
        self._names = NameWatch(self._name_lost, add_watches)
        if marks is not None:
            self._failures |= {name: Failure(it, is_kept=True) for name, it in marks.found.items()}
            self._told |= self._failures.keys()

    def admit(self, *served: Served) -> None:
        """They are about to be served. A disk that is known to have failed stays so, opened anew or not."""
        for one in served:
            failure = self._failures.get(_name(one))
            if failure is not None:
                one.disk.distrust()
                self._notices.still_failed(one.export, failure.since)
        files = (it.disk for it in served if isinstance(it.disk, FileDisk))
        self._names.watch(*(it.store.fd for it in files if not isinstance(it, ImageDisk)))

    def look_again(self) -> None:
        """What could not be asked for can be now."""
        self._names.look_again()

    def dismiss(self, one: Served) -> None:
        """It is not served any more."""
        if isinstance(one.disk, FileDisk):
            self._names.forget(one.disk.store.fd)
        self._errors.pop(one.export, None)
        self._lost.pop(one.export, None)
        if one.record is None:
            self._failures.pop(one.export, None)

    def close(self) -> None:
        """Watch nothing more; before the disks are closed."""
        self._names.close()

    def failure(self, export: Export) -> Failure | None:
        """Whether the sync of a disk failed, and since when."""
        one = self._served[export]
        return self._failure(one) if one.disk.failed else None

    def errors(self, export: Export) -> int:
        """How often its disk could not do what it was to do."""
        return self._errors[export]

    def lost(self, export: Export) -> str:
        """What became of the name of its file; empty where it has it."""
        return self._lost.get(export, "")

    async def failed(self, job: Job, error: DiskError) -> None:
        """A disk could not do something, which may be answered when this returns."""
        self._notices.failed(job, error)
        self._errors[job.export] += not isinstance(error, NoThread)
        await self.keep(self._served[job.export])

    async def write_back(self, export: Export) -> None:
        """Have its disk put on stable storage what it has, without a client that asked for it. DiskError.
        It goes on where its caller is cancelled, or the disk is served no more: a sync that fails then has
        failed for what is served of its store, and after a restart."""
        work = asyncio.ensure_future(self._write_back(self._served[export]))
        work.add_done_callback(lambda it: it.cancelled() or it.exception())
        await asyncio.shield(work)

    async def _write_back(self, one: Served) -> None:
        try:
            await one.disk.flush()
        finally:
            await self.keep(one)

    async def keep(self, one: Served) -> None:
        """If its sync failed: return when that is on stable storage, or cannot be put there. Other parts of
        its store have failed with it: the sync was of the store, and what it lost may be theirs. It may be
        served no more."""
        if not one.disk.failed:
            return
        if _name(one) not in self._told:
            self._tell(one)
        await asyncio.gather(*map(self._mark, (one, *self._parts(one))))

    def _tell(self, one: Served) -> None:
        self._told.add(_name(one))
        if self._served.get(one.export) is one:
            self._changed(one.export)
        for part in self._parts(one):
            self._told.add(_name(part))
            part.disk.distrust()
            self._notices.failed_with(part.export, one.export)
            self._changed(part.export)

    async def _mark(self, one: Served) -> None:
        if self._marks is None or one.record is None or not one.disk.failed:
            return
        failure = self._failure(one)
        if failure.writing is None and not failure.is_kept and time.monotonic() >= failure.again_s:
            failure.writing = asyncio.ensure_future(self._write(one, failure, self._marks))
        if failure.writing is not None:
            await asyncio.shield(failure.writing)

    async def trusted(self, export: Export) -> None:
        """A disk is well again, by the operator's word."""
        one = self._served[export]
        failure = self._failures.pop(_name(one), None)
        self._told.discard(_name(one))
        if failure is None or self._marks is None or one.record is None:
            return
        if failure.writing is not None:
            await failure.writing
        try:
            await aside(functools.partial(self._marks.remove, one.record.key))
        except (OSError, NoThread) as error:
            self._notices.mark_stays(export, error)

    # Inside

    def _parts(self, one: Served) -> list[Served]:
        """The others of its store that can be changed."""
        store = _store(one)
        if store is None:
            return []
        return [it for it in self._served.values() if it is not one and _store(it) == store]

    def _failure(self, one: Served) -> Failure:
        return self._failures.setdefault(_name(one), Failure(time.time(), is_kept=False))

    async def _write(self, one: Served, failure: Failure, marks: Marks) -> None:
        assert one.record is not None, "it is kept beside that"
        try:
            await aside(functools.partial(marks.put, one.record.key, failure.since_s))
            failure.is_kept, failure.problem = True, ""
        except (OSError, NoThread) as error:
            failure.problem = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            failure.again_s = time.monotonic() + timing.MARK_AGAIN_S
            self._notices.not_marked(one.export, failure.problem)
        finally:
            failure.writing = None

    def _name_lost(self, file: Lost) -> None:
        for export, one in self._served.items():
            if isinstance(one.disk, FileDisk) and one.disk.store.fd == file.fd:
                self._lost[export] = words_of_lost(export, file)
                file_lost(export, self._lost[export])


def _store(one: Served) -> Hashable | None:
    return one.disk.token if isinstance(one.disk, FileDisk) and not one.disk.read_only else None


def _name(one: Served) -> Hashable:
    return one.export if one.record is None else name_of(one.record.key)
