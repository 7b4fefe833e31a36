"""The pools that a file names, opened by the one process that works on them, and what a volume is there."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from aoe import timing
from aoe.config.values import PoolConfig, ScheduleConfig, volume_of
from aoe.disk.base import StoreName
from aoe.drive.identify import StoreKind
from aoe.errors import AoeError, ConfigurationError
from aoe.node.patient import Call, NoAnswer, Patient
from aoe.pool.figures import Measured
from aoe.pool.names import Format, VolumeName
from aoe.pool.volume import Image, Volume
from aoe.pool.work import Work

T = TypeVar("T")


class _Which(NamedTuple):
    """What answers, or does not: a pool where the file has it."""

    pool: str
    place: str


def _which(pool: PoolConfig) -> _Which:
    return _Which(pool.name, pool.place)


class Sight(NamedTuple):
    """The state of a disk that a volume or snapshot has now: its image, the size of the disk in bytes, and
    which disk it is, wherever its image is and however it is called."""

    path: Path
    size: int
    format: Format
    read_only: bool
    name: StoreName


class Opened(NamedTuple):
    """A pool that was opened as one of a file, whose turn it is there, and what its images hold."""

    pool: PoolConfig
    work: Work
    turn: threading.Lock
    measured: Measured


class Pools:
    """Each is this process's from the moment at which it is there (with `locked=False` it is only looked at);
    what is wrong with one is no matter to the others: one that does not answer is left alone until it does.
    Its methods block."""

    def __init__(
        self, pools: Iterable[PoolConfig] = (), *, locked: bool = True, patient: Patient | None = None
    ) -> None:
        """`patient` asks what may not answer."""
        self._locked = locked
        self._patient = patient or Patient()
        self._wanted: dict[str, PoolConfig] = {}
        self._open: dict[str, Opened] = {}
        self._looking = threading.RLock()
        self._changing = threading.Lock()
        """What is open; it is held for no disk."""
        self.schedules: tuple[ScheduleConfig, ...] = ()
        self.problems: dict[str, str] = {}
        """Of those that are not open, by name, why."""
        self.follow(pools)

    @property
    def names(self) -> list[str]:
        """Of all that the file names."""
        return list(self._wanted)

    def follow(self, pools: Iterable[PoolConfig], schedules: Iterable[ScheduleConfig] = ()) -> None:
        """What the file names now."""
        self.schedules = tuple(schedules)
        with self._looking:
            self._wanted = {it.name: it for it in pools}
            self.problems = {name: it for name, it in self.problems.items() if name in self._wanted}
            gone = [it for it in self._open.values() if it.pool != self._wanted.get(it.pool.name)]
            self._ask_each(self._leaving(gone))

    def close(self) -> None:
        """Let others work on them; on one where a verb is under way, once this process ends."""
        self._ask_each(self._leaving(self._open.values()))

    def _leaving(self, them: Iterable[Opened]) -> list[Call[None]]:
        return [self._call(it.pool, partial(self._leave, it)) for it in them]

    def _leave(self, found: Opened) -> None:
        """Not while a verb is under way there."""
        if not found.turn.acquire(blocking=False):
            return
        try:
            with self._changing:
                if self._open.get(found.pool.name) is found:
                    del self._open[found.pool.name]
            found.work.close()
        finally:
            found.turn.release()  # what waits for it looks again

    def look(self, patience_s: float = 0) -> None:
        """Open what is not open, and leave what has gone, or is not wanted. Another process that works on one
        is waited for, for `patience_s` (seconds) the first time."""
        with self._looking:
            gone = [it for it in self._open.values() if it.pool.name not in self._wanted]
            calls = [self._call(it, partial(self._renew, it, patience_s)) for it in self._wanted.values()]
            self._ask_each([*self._leaving(gone), *calls], patience_s)

    @staticmethod
    def _call(
        pool: PoolConfig, call: Callable[[], T], late: Callable[[T], object] = lambda _: None
    ) -> Call[T]:
        return Call(_which(pool), f"pool {pool.name} ({pool.place})", call, late)

    def _ask_each(self, calls: Iterable[Call[None]], patience_s: float = 0) -> None:
        """All at once; one that does not answer has that problem until it does."""
        for it in self._patient.ask_each(calls, patience_s + timing.OPENER_PATIENCE_S):
            try:
                it.result()
            except NoAnswer as error:
                assert isinstance(it.which, _Which), "each is of a pool"
                self.problems[it.which.pool] = str(error)

    def ask(
        self,
        pool: str,
        call: Callable[[], T],
        patience_s: float = timing.OPENER_PATIENCE_S,
        late: Callable[[T], object] = lambda _: None,
    ) -> T:
        """What comes of something that blocks, and is about one pool, as of `Patient.ask`.
        ConfigurationError."""
        return self._patient.ask(self._call(self.config(pool), call, late), patience_s)

    def _renew(self, pool: PoolConfig, patience_s: float) -> None:
        found = self._open.get(pool.name)
        if found is not None and (found.pool != pool or not found.work.is_there):
            self._leave(found)
        if pool.name not in self._open:
            self._try(pool, 0 if pool.name in self.problems else patience_s)
        else:
            self.problems.pop(pool.name, None)

    def _try(self, pool: PoolConfig, patience_s: float) -> None:
        try:
            work = Work(
                pool.place,
                kind=pool.kind,
                name=pool.name,
                reserve=pool.reserve,
                patience_s=patience_s,
                locked=self._locked,
            )
        except AoeError as error:
            self.problems[pool.name] = str(error)
        else:
            self._put(Opened(pool, work, threading.Lock(), Measured()))

    def _put(self, made: Opened) -> None:
        """Unless that is another pool by now: it may have taken long."""
        name = made.pool.name
        with self._changing:
            is_wanted = self._wanted.get(name) == made.pool and name not in self._open
            if is_wanted:
                self._open[name] = made
                self.problems.pop(name, None)
        if not is_wanted:
            made.work.close()

    def config(self, pool: str) -> PoolConfig:
        """What the file says of a pool. ConfigurationError."""
        if pool not in self._wanted:
            raise ConfigurationError(f"there is no pool {pool} in the file that the daemon has applied")
        return self._wanted[pool]

    def work(self, pool: str) -> Work:
        """What works on a pool. ConfigurationError, with the reason, where nothing does."""
        return self._found(pool).work

    def _found(self, pool: str) -> Opened:
        wanted = self.config(pool)
        found = self._open.get(pool)
        if found is None or wanted.kind != "lvm-thin":  # each command of LVM is bounded by itself
            self._patient.check(_which(wanted))
        if pool not in self.problems and (found is None or found.pool != wanted):
            self.look()
            found = self._open.get(pool)
        if found is None:
            raise ConfigurationError(self.problems.get(pool, f"pool {pool} was left just now; try again"))
        if found.pool != wanted:
            raise ConfigurationError(
                f"pool {pool} is another one by now, and the last verb there has not ended"
            )
        return found

    def check_same(self, place: str, path: Path, size: int | None) -> None:
        """ConfigurationError where a volume has another image, or size, than it had when that was locked."""
        name = volume_of(place)
        if name is None or name.pool not in self._wanted:
            return
        work = self.work(name.pool)
        image = work.image_of(name.volume, name.snapshot)
        if (work.where(image), image.size) != (str(path), size):
            raise ConfigurationError(f"{place} was changed while it was opened; try again")

    @contextmanager
    def turn(self, pool: str) -> Iterator[Work]:
        """Work on a pool while nothing else changes it, and it is not left. ConfigurationError."""
        while True:
            found = self._found(pool)
            if not found.turn.acquire(timeout=timing.OPENER_PATIENCE_S):
                continue
            try:
                if self._open.get(pool) is found:
                    yield found.work
                    return
            finally:
                found.turn.release()

    @contextmanager
    def idle(self, pool: str) -> Iterator[Opened | None]:
        """The same, but nothing where a verb is under way. ConfigurationError."""
        found = self._found(pool)
        if not found.turn.acquire(blocking=False):
            yield None
            return
        try:
            yield found if self._open.get(pool) is found else None
        finally:
            found.turn.release()

    def sight(self, place: str) -> Sight | None:
        """What a place of the file is, if it is one of a pool; a path is not. ConfigurationError where a pool
        or volume cannot be used. It waits for the pool, unless that is asked for it."""
        name = volume_of(place)
        if name is None or name.pool not in self._wanted:
            return None
        work = self.work(name.pool)
        return _sight(work, name, work.ready if self._locked else work.path_of)


def _sight(work: Work, name: VolumeName, path_of: Callable[[str, str], str]) -> Sight:
    problem = work.found.taken.get(name.volume)
    if problem is not None:
        raise ConfigurationError(f"{name}: the record of {name.volume}: {problem}; put back a copy of it")
    volume = work.tree.volume(name.volume)
    image = work.image_of(name.volume, name.snapshot)
    path, is_kept = Path(path_of(name.volume, name.snapshot)), bool(name.snapshot) or volume.template
    return Sight(path, image.size, image.format, is_kept, StoreName(StoreKind.VOLUME, text_of(volume, image)))


def text_of(volume: Volume, image: Image) -> str:
    """What a state of a disk is told by: a snapshot's goes with its image, that of now with the volume."""
    return volume.uuid if image is volume.head else f"{volume.uuid}/{image.id}"
