"""Verbs on pools that another process asks for, each on a thread of its own; of a pool one at a time."""

import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from aoe import limits
from aoe.disk.threads import begin
from aoe.errors import AoeError, ConfigurationError
from aoe.node.pools import Pools, text_of
from aoe.pool.asked import Wish
from aoe.pool.facts import listed
from aoe.pool.requests import Rename
from aoe.pool.steps import Plan
from aoe.pool.work import UNUSED, InUse, Work

Facts = dict[str, Any]


class _Chore:
    """What comes of one: facts, or why not."""

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.over = threading.Event()
        self.facts: Facts = {}
        self.error = ""

    def run(self, call: Callable[[], Facts]) -> None:
        """On a thread."""
        try:
            self.facts = call()
        except AoeError as error:
            self.error = str(error)
        except OSError as error:
            self.error = error.strerror or str(error)
        except BaseException as error:
            self.error = f"defect in the opener: {error!r}"
            raise
        finally:
            self.over.set()


class Chores:
    """Those of one process. `ours` tells whether a path is that of an image which it has for an export."""

    def __init__(
        self,
        pools: Pools,
        ours: Callable[[str], bool],
        after: Callable[[], None] = lambda: None,
        in_use: InUse = UNUSED,
    ) -> None:
        """`after` is called when a verb was done, or has failed, before another one is. `in_use` as of
        `Work.do`."""
        self._after = after
        self._pools = pools
        self._ours = ours
        self._in_use = in_use
        self._numbers = count(1)
        self._them: dict[int, _Chore] = {}

    def do(self, pool: str, request: Wish, *, only_plan: bool = False) -> Facts:
        """What was done, or is to be. Blocks. ConfigurationError, PoolError."""
        with self._pools.turn(pool) as work:
            names = {it.id: text_of(one, it) for one in work.volumes.values() for it in one.images}
            plan = work.plan(request) if only_plan else self._done(work, request)
            images = [it for it in (*plan.idle, *plan.held) if it.id in names]
            touched = [names[it.id] for it in images if self._ours(work.where(it))]
            after = {} if only_plan else _after(work, request)
            return {**_facts(plan, touched), **after}

    def _done(self, work: Work, request: Wish) -> Plan:
        """One that fails may have happened all the same."""
        try:
            return work.do(request, self._ours, self._in_use)
        finally:
            self._after()

    def listed(self, pool: str, after: str) -> Facts:
        """As `aoe.pool.facts.listed`. Blocks."""
        self._pools.work(pool).measure()  # no verb waits for that
        with self._pools.turn(pool) as work:
            return listed(work, after)

    def begin(self, pool: str, request: Wish, *, only_plan: bool) -> int:
        """The same on a thread; its number. ConfigurationError, NoThread."""
        self._pools.look()  # it may have been made, or mounted, just now
        self._pools.work(pool)  # what is wrong with that is said at once
        return self.start(lambda: self.do(pool, request, only_plan=only_plan), pool)

    def start(self, call: Callable[[], Facts], pool: str = "") -> int:
        """Do it on a thread, something about one pool, or all; its number. ConfigurationError, NoThread."""
        self._check_few(pool)
        if len(self._them) >= limits.CHORES_MAX:  # some may be over that nothing asks for any more
            self._them = {it: chore for it, chore in self._them.items() if not chore.over.is_set()}
        if len(self._them) >= limits.CHORES_MAX:
            raise ConfigurationError(f"{limits.CHORES_MAX} verbs are under way; wait for one of them")
        number, chore = next(self._numbers), _Chore(pool)
        begin(lambda: chore.run(call), "chore")
        self._them[number] = chore
        return number

    def _check_few(self, pool: str) -> None:
        """One pool that does not answer leaves room for others."""
        many = sum(it.pool == pool and not it.over.is_set() for it in self._them.values())
        if pool and many >= limits.CHORES_OF_POOL_MAX:
            raise ConfigurationError(f"{many} verbs are under way in pool {pool}; wait for one of them")

    def look(self, number: int, patience_s: float) -> Facts | None:
        """What came of it, once; None while it is under way. ConfigurationError where that could not be."""
        chore = self._them.get(number)
        if chore is None:
            raise ConfigurationError(
                "the opener ended while it was at work; look at aoe-target volume list what was done"
            )
        if not chore.over.wait(patience_s):
            return None
        del self._them[number]
        if chore.error:
            raise ConfigurationError(chore.error)
        return chore.facts


def _after(work: Work, request: Wish) -> Facts:
    """The volume that a verb has left, as far as that is known without measuring it; its name alone where it
    is gone."""
    name = request.new if isinstance(request, Rename) else request.volume
    volume = work.volumes.get(name)
    said = {"volume": work.tree.said(name)}
    if volume is None:
        return said
    facts = {"uuid": volume.uuid, "bytes": volume.size, "format": volume.head.format, "made": volume.made}
    return {**said, **facts, "path": work.path_of(name)}


def _facts(plan: Plan, touched: Sequence[str]) -> Facts:
    """As JSON; it `touches` states of disks that this process serves, and `live` is that they may be."""
    steps = plan.sentences
    more = len(steps) - limits.CHORE_STEPS_MAX
    return {
        "steps": [*steps[: limits.CHORE_STEPS_MAX], *([f"{more} steps more"] if more > 0 else [])],
        "done": plan.done,
        "notes": list(plan.notes),
        "touches": list(touched),
        "live": plan.live,
    }
