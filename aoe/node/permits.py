"""Which verbs a pool's opener does for the process that serves: what a person asked for, or a schedule is due
to do. The process that serves has no rights in that."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from aoe import limits, timing
from aoe.errors import ConfigurationError
from aoe.pool.asked import Wish, name_of
from aoe.pool.requests import Clone, Cut
from aoe.pool.volume import FOR_CLONE


class _Permit:
    """To do, once, each part of what was asked for. It lapses unless that is begun in time."""

    def __init__(self, pool: str, asked: Wish, until_s: float) -> None:
        self._pool = pool
        self._asked = asked
        self._until_s = until_s
        self._done: list[Wish] = []

    def take(self, pool: str, wanted: Wish, now_s: float) -> bool:
        """Whether it permits that now."""
        is_late = not self._done and now_s > self._until_s
        if is_late or pool != self._pool or wanted in self._done or not self._has(wanted):
            return False
        self._done.append(wanted)
        return True

    def _has(self, wanted: Wish) -> bool:
        asked = self._asked
        if wanted == asked:
            return True
        if isinstance(asked, Cut) and isinstance(wanted, Cut):  # of several volumes at one moment
            one = replace(asked, volume=wanted.volume, others=())
            return wanted == one and wanted.volume in asked.volumes
        return isinstance(asked, Clone) and not asked.snapshot and self._is_of_clone(asked, wanted)

    def _is_of_clone(self, asked: Clone, wanted: Wish) -> bool:
        """Of a volume that is served a snapshot is cut first, whose name has a number where that is taken."""
        cut = cut_for(asked)
        if isinstance(wanted, Clone):
            of_cut = wanted.snapshot.startswith(cut.snapshot) and cut in self._done
            return of_cut and replace(wanted, snapshot="") == asked
        return wanted == cut


def cut_for(asked: Clone) -> Cut:
    """The snapshot of a volume in use that a clone of it begins as."""
    return Cut(asked.source, f"clone-{asked.volume}", cause=FOR_CLONE)


class Permits:
    """Those of one opener, by its `clock` (seconds). Any thread may call."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._asked: deque[_Permit] = deque(maxlen=limits.PERMITS_MAX)
        self._due: list[_Permit] = []

    def asked(self, pool: str, wish: Wish) -> None:
        """A person asked for it that may."""
        self._asked.append(_Permit(pool, wish, self._until_s))

    def due(self, them: Iterable[tuple[str, Wish]]) -> None:
        """By the schedules of root's file, now; what was due before is not any more."""
        self._due = [_Permit(pool, wish, self._until_s) for pool, wish in them]

    @property
    def _until_s(self) -> float:
        return self._clock() + timing.PERMIT_S

    def check(self, pool: str, wanted: Wish) -> None:
        """ConfigurationError for what nothing permits, or has permitted once."""
        now_s = self._clock()
        if not any(it.take(pool, wanted, now_s) for it in (*self._asked, *self._due)):
            raise ConfigurationError(
                f"the opener has heard no person ask for {name_of(wanted)} in pool {pool}; ask "
                "again, with aoe-target volume"
            )
