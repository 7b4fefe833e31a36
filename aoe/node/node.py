"""A storage node: serves what a file says, and when the file changes, does only the difference."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aoe import timing
from aoe.config.values import Config, ExportConfig, TargetConfig
from aoe.disk.threads import aside
from aoe.errors import AoeError, ConfigurationError
from aoe.link.base import Link
from aoe.node.ailing import Ailing
from aoe.node.done import Done, Wanting, settled
from aoe.node.drains import DRAINED
from aoe.node.hands import Hands, Live, Ready
from aoe.node.links import Links, Names
from aoe.node.lives import Lives
from aoe.node.needs import Opener, There
from aoe.node.placing import Watch
from aoe.node.plan import USED, Key, Store, plan, unused
from aoe.node.rooms import Rooms
from aoe.node.schedules import Background, Schedules
from aoe.node.standing import engine_of, standing
from aoe.node.state import State
from aoe.node.status import ExportStatus, InterfaceStatus, Status, sentence
from aoe.node.steps import ALL, Adjust, Note, Plan
from aoe.node.told import Told
from aoe.node.volumes import Volumes
from aoe.pool.asked import Wish
from aoe.target.target import Target
from aoe.wire.address import parse_address
from aoe.wire.frame import format_mac

log = logging.getLogger("aoe.node")


class Node:
    """Call `prepare` before there are threads, `start` inside the event loop, then `apply` for each change,
    and `stop`."""

    def __init__(self, file: Path, opener: Opener, state: State, served: Callable[[Live], None]) -> None:
        self._file = file
        self._opener = opener
        self._state = state
        self._links = Links(opener.open_link)
        self._hands = Hands(opener, state.records, self._links, served)
        self.volumes = Volumes(opener, self._hands, self._change, self._failed_again)
        self.rooms = Rooms(opener.rooms, lambda: bool(self._wanted.pools))
        self._schedules = Schedules(opener.dues, self._by_schedule, lambda: bool(self._wanted.schedules))
        self._merges = Background(opener.merges, lambda: bool(self._wanted.pools))
        self._wanted = Config()
        self._ready: dict[Key, Ready] = {}
        self._left: dict[str, ExportStatus] = {}
        """Of the addresses that are not as wanted, why."""
        self._absent: frozenset[str] = frozenset()
        """Places where there was no disk."""
        self._held: frozenset[Key] = frozenset()
        """What stays although the file has it otherwise, since it was in use."""
        self._busy: dict[str, Store] = {}
        """Stores that earlier processes may still change, by the addresses that wait for that."""
        self._notes: tuple[str, ...] = ()
        self._ailing = Ailing()
        self._told = Told()
        self._turn = asyncio.Lock()
        self._changing = ""
        self._since_s = 0.0
        self._arrivals: asyncio.Task[None] | None = None
        self._lives = Lives(opener, self._turn, self._go_on)
        self._only: str | None = None
        """The interface that was meant as none was named."""
        self._waiting: list[Note] = []
        """What is said of interfaces that are not there."""
        self._interfaces: Watch | None = None

    @property
    def target(self) -> Target:
        """What serves, once it is started."""
        return self._hands.target

    @property
    def wanted(self) -> Config:
        """What was applied last."""
        return self._wanted

    @property
    def settings(self) -> TargetConfig:
        """How everything is served."""
        return self._hands.settings

    @property
    def configs(self) -> list[ExportConfig]:
        """Of what is to be served, and of what is served: as that is, where they differ."""
        return [*self._wanted.exports, *(it.config for it in self._hands.live.values())]

    # The start

    def prepare(self, wanted: Config) -> Done:
        """Open and lock what there is of that. Blocks. With the exit status 2 it cannot be served at all."""
        self._wanted = wanted
        self._hands.settings = wanted.target
        there = self._find(wanted)
        steps = self._plan(wanted, there, remove=False)
        self._absent = _absent(wanted, there)
        if steps.problems:
            return Done(steps, (), self._state.number)
        prepared = self._hands.prepare(steps)
        self._ready, self._busy = prepared.ready, prepared.busy
        self._first = Done(prepared.left_of(steps), tuple(prepared.problems), self._state.number)
        return self._first

    def open_links(self, names: Names) -> list[Link]:
        """Open where it serves. ConfigurationError."""
        if not (self._wanted.target.interfaces or self._wanted.target.links):
            self._only = next(iter(names.common), None)
        self._links.open(names)
        self._first = self._first._replace(plan=self._with_waiting(self._first.plan, names))
        return self._links.all

    def _with_waiting(self, plan: Plan, names: Names) -> Plan:
        self._waiting = self._links.waits(names)
        return plan._replace(waits=(*plan.waits, *self._waiting))

    def _names(self, wanted: Config) -> Names:
        return Names(wanted, self._opener.look, lambda: self._only or self._opener.only())

    async def _turn_interfaces(self) -> list[Note]:
        """They changed: serve on what the words of the file mean now; what failed."""
        async with self._turn, self._changing_for("interfaces that changed"):
            names = await aside(lambda: self._names(self._wanted))
            failed = await self._hands.go_to(names, self._wanted)
            self._waiting = self._links.waits(names)
            return failed

    async def start(self, target: Target) -> Done:
        """Serve what was prepared, on a target that has the links."""
        self._hands.start(target, self._wanted.target)
        async with self._change("start"):
            done = await self._carry_out(self._first, self._ready)
        self._lives.watch(frozenset(self._busy.values()))
        self._arrivals = asyncio.get_running_loop().create_task(self._watch())
        self.rooms.start()
        self._schedules.start()
        self._merges.start()
        watching = await aside(self._opener.watching)
        self._interfaces = Watch(watching, self._turn_interfaces)
        self._opener.when_answering(self._interfaces.look_again)
        self._opener.when_answering(target.server.look_again)
        return done

    def give_up(self) -> None:
        """Close what was prepared, and never started."""
        self._opener.hurry()
        self._hands.give_up(self._ready.values())
        for link in self._links.all:
            link.close()

    async def stop(self) -> bool:
        """Let what was admitted finish; false if it did not in time."""
        self._opener.hurry()
        await self._lives.stop()
        if self._arrivals is not None:
            self._arrivals.cancel()
            with suppress(asyncio.CancelledError):
                await self._arrivals
        await self.rooms.stop()
        await self._schedules.stop()
        await self._merges.stop()
        if self._interfaces is not None:
            await self._interfaces.close()
        async with self._turn:
            return await self._hands.stop()

    # Changes

    async def apply(
        self,
        wanted: Config | Wanting,
        by: str,
        *,
        remove: bool = False,
        expect: int | None = None,
    ) -> Done:
        """Go to what a file says. ConfigurationError where another change is under way for too long, or was
        made since the one that is expected."""
        async with self._change(f"apply by {by}"):
            self._check(expect)
            wanting = settled(wanted) if isinstance(wanted, Config) else wanted(self._wanted)
            return await Done.of(wanting, lambda it: self._apply(it, remove=remove, lenient=False))

    async def plan(
        self,
        wanted: Config,
        *,
        remove: bool = False,
        expect: int | None = None,
        there: Mapping[str, Store] = {},
    ) -> Done:
        """Tell what `apply` would do now. Of another file it is said what its paths lead to.
        ConfigurationError."""
        self._check(expect)
        found = await aside(lambda: self._find(wanted))
        found.update(there)
        steps = self._plan(wanted, found, remove=remove)
        waits = self._links.waits(await aside(lambda: self._names(wanted)))
        steps = steps._replace(waits=(*steps.waits, *waits))
        return Done(steps, (), self._state.number, only_planned=True)

    async def apply_one(self, key: Key, wanted: Wanting, by: str) -> Done:
        """Go to a configuration that is as the last one, but for one export, by a word about that: whether
        clients use it is no matter. ConfigurationError."""
        async with self._change(by):
            address = "e{}.{}".format(*key)
            others = {
                it.address: it
                for it in self._left.values()
                if it.state == "failed" or it.address in self._busy
            }
            done = await Done.of(
                wanted(self._wanted), lambda it: self._apply(it, remove=False, lenient=False, meant=key)
            )
            others.pop(address, None)
            self._left = others | self._left
            return done.about(address)

    async def release(self, key: Key, by: str) -> None:
        """Give back what hosts reserved. ConfigurationError where that cannot be kept."""
        async with self._change(by):
            await self._hands.patiently(key, lambda: self.target.restate(*key, reserve=()))
            self._state.count()

    async def reopen(self, key: Key, by: str) -> None:
        """End the failed state of a disk (order rule T6), or open one anew that was gone, and is back.
        ConfigurationError for one that has not failed, DiskError where it still fails: nothing has changed
        then. DiskHangs."""
        async with self._change(by):
            await self._hands.patiently(key, lambda: self._reopen(key))
            self._state.count()

    async def _reopen(self, key: Key) -> None:
        one = self._hands.live.get(key) if key in self._ailing.reasons else None
        anew = one is not None and await self._is_anew(one)
        if one is not None and anew:
            await self._take_up(one)
        if not await self.target.reopen(*key) and not anew:
            raise ConfigurationError("e{}.{} has not failed; look at aoe-target status".format(*key))

    async def _apply(self, wanted: Config, *, remove: bool, lenient: bool, meant: Key | None = None) -> Done:
        try:
            return await self._go(wanted, remove=remove, lenient=lenient, meant=meant)
        finally:
            self._lives.watch(frozenset(self._busy.values()))

    async def _go(self, wanted: Config, *, remove: bool, lenient: bool, meant: Key | None) -> Done:
        """`lenient`: what cannot be prepared does not keep the rest from being done. What is `meant` is no
        matter of how it is used, and the others stay as they are."""
        self._hands.ask_ahead(wanted.by_key.keys() - self._wanted.by_key.keys())
        there = await aside(lambda: self._find(wanted))
        names = await aside(lambda: self._names(wanted))
        held = self._held if lenient else ()
        if meant is None:
            steps = self._plan(wanted, there, remove=remove, held=held)
        else:
            steps = self._one(wanted, there, meant)
        prepared = await aside(lambda: self._hands.prepare(steps))
        problems = prepared.problems
        stuck = {parse_address(it.address) for it in (*problems, *prepared.waits)} & self._hands.live.keys()
        if stuck and lenient:  # nothing is taken away for what cannot be had
            await self._hands.give_back(prepared.ready.values())
            steps = self._plan(wanted, there, remove=remove, held={*held, *stuck})
            prepared = await aside(lambda: self._hands.prepare(steps))
            problems = [it for it in problems if parse_address(it.address) in stuck] + prepared.problems
        if problems and not lenient:
            await self._hands.give_back(prepared.ready.values())
            refused = steps._replace(steps=(), problems=tuple(problems))
            return Done(refused, (), self._state.number)
        if steps.problems:
            return Done(steps, (), self._state.number)
        if wanted.pools != self._wanted.pools:
            self.rooms.stir()
        self._wanted, self._absent = wanted, _absent(wanted, there)
        others = {} if meant is None else self._busy
        self._busy = {it: store for it, store in others.items() if parse_address(it) != meant} | prepared.busy
        problems = [*problems, *await self._hands.go_to(names, wanted)]
        steps = self._with_waiting(steps, names)
        return await self._carry_out(Done(prepared.left_of(steps), tuple(problems), 0), prepared.ready)

    async def _carry_out(self, prepared: Done, ready: dict[Key, Ready]) -> Done:
        steps = prepared.plan
        if steps.steps:
            self._state.count()
        failed = (*prepared.failed, *await self._hands.carry_out(steps, ready))
        left = [("kept", it) for it in steps.kept] + [("waiting", it) for it in steps.waits]
        left += [("failed", it) for it in failed]
        self._held = frozenset(parse_address(it.address) for it in steps.kept if it.text == USED)
        self._left = {it.address: self._unserved(state, it) for state, it in left if it.address != ALL}
        of_all = (it for it in (*steps.notes, *steps.waits, *failed) if it.address == ALL)
        self._notes = tuple(it.sentence for it in of_all if it not in self._waiting)
        self._hands.settle(self._wanted, self._left)
        for it in self._told.news(failed):
            log.error("%s", it.sentence)
        return Done(steps, failed, self._state.number)

    def _plan(self, wanted: Config, there: There, *, remove: bool, held: Collection[Key] = ()) -> Plan:
        return plan(wanted, self._hands.running(), there, remove=remove, held=held, why=there.why)

    def _one(self, wanted: Config, there: There, key: Key) -> Plan:
        """The steps for one export; the others stay as they are."""
        found = self._hands.running()
        meant = {it: one._replace(used=unused) for it, one in found.exports.items() if it == key}
        running = found._replace(exports={**found.exports, **meant})
        steps = plan(wanted, running, there, held=self._held - {key}, why=there.why)
        mine = [it for it in steps.steps if not isinstance(it, Adjust) and it.export.key == key]
        return steps._replace(steps=tuple(mine))

    def _check(self, expect: int | None) -> None:
        if expect not in (None, self._state.number):
            raise ConfigurationError(
                f"the last change is number {self._state.number}, not {expect}; look at what it did"
            )

    def _find(self, wanted: Config) -> There:
        return self._opener.find(export.place for export in wanted.exports)

    @asynccontextmanager
    async def _change(self, what: str) -> AsyncIterator[None]:
        """One at a time."""
        try:
            await asyncio.wait_for(self._turn.acquire(), timing.CHANGE_WAIT_S)
        except TimeoutError as error:
            since_s = time.monotonic() - self._since_s
            raise ConfigurationError(
                f"a change is under way for {since_s:.0f} s ({self._changing}); try again when it is done"
            ) from error
        try:
            async with self._changing_for(what):
                yield
        finally:
            self._turn.release()

    @asynccontextmanager
    async def _changing_for(self, what: str) -> AsyncIterator[None]:
        """It is this one's turn."""
        self._changing, self._since_s = what, time.monotonic()
        try:
            yield
        finally:
            self._changing = ""

    # What is not there yet

    async def _watch(self) -> None:
        tried_s = time.monotonic()
        while True:
            await asyncio.sleep(timing.ARRIVAL_S if self._left else timing.FAILED_AGAIN_S)
            with suppress(AoeError):
                await self._look_for_ailing()
            again = time.monotonic() - tried_s > timing.FAILED_AGAIN_S
            with suppress(AoeError):
                if await self._may_go_on(failed_too=again):
                    tried_s = time.monotonic()
                    async with self._change("a disk that came"):
                        self._said(await self._apply(self._wanted, remove=False, lenient=True))

    async def _go_on(self) -> None:
        """Nothing changes a disk any more that is to be served."""
        with suppress(ConfigurationError):
            async with self._change("a disk that is free now"):
                self._said(await self._apply(self._wanted, remove=False, lenient=True))

    async def _may_go_on(self, *, failed_too: bool) -> bool:
        if failed_too and any(it.state == "failed" for it in self._left.values()):
            return True
        return bool(self._absent) and bool(await aside(lambda: self._opener.find(self._absent)))

    async def _look_for_ailing(self) -> None:
        """Where disks are that failed something. One that is there again, by an id of its own, is served."""
        live = {key: one for key, one in self._hands.live.items() if one.going is None}
        for key in self._ailing.suspects({key: self.target.errors(one.export) for key, one in live.items()}):
            before = self._ailing.reasons.get(key)
            if await self._is_anew(live[key]) and live[key].held.key.own:
                async with self._change(f"the disk of {live[key].config.address}, which is back"):
                    await self._take_up(live[key])
                    self._state.count()
            elif before != (now := self._ailing.reasons.get(key)) and now is not None:
                log.error("%s: %s", live[key].config.address, now)

    async def _is_anew(self, one: Live) -> bool:
        """Whether the path of an export leads to something else than what is served."""
        place = one.config.place
        there = await aside(lambda: self._opener.find([place]))
        return self._ailing.saw(one.config.key, place, one.held.store, there.get(place))

    async def _take_up(self, one: Live) -> None:
        """Open a disk anew. ConfigurationError where that cannot be."""
        problems = await self._hands.take_up(one)
        self._ailing.forget(one.config.key)
        self._failed_again(problems)
        if problems:
            raise ConfigurationError(problems[0].sentence)

    async def _by_schedule(self, pool: str, request: Wish, by: str) -> None:
        """A verb that no user asked for."""
        await self.volumes.do(pool, request, self._wanted.exports, by, force=False)
        self.rooms.stir()

    def _failed_again(self, failed: list[Note]) -> None:
        """What was served could not be served again; that is tried on."""
        self._left |= {it.address: self._unserved("failed", it) for it in failed}

    def _said(self, done: Done) -> None:
        """What was done: not what is tried again."""
        left = {it.address for it in done.failed}
        for step in done.plan.steps:
            if isinstance(step, Adjust) or step.export.address not in left:
                log.info("%s", step.sentence)

    # How it is

    def status(self) -> Status:
        """As things stand."""
        served = {one.config.address: self._served(one) for one in self._hands.live.values()}
        links = tuple(
            InterfaceStatus(it.name, format_mac(it.mac), it.mtu, it.up, it.frames_that_fit)
            for it in self._links.all
        )
        return Status(
            self._state.number,
            str(self._file.absolute()),
            self._changing,
            tuple((self._left | served)[address] for address in sorted(self._left | served)),
            links,
            (*self._notes, *(it.sentence for it in self._waiting)),
            dict(self.target.counters()),
            engine_of(self.target),
            pools=self.rooms.pools,
        )

    @property
    def number(self) -> int:
        """Of the last change."""
        return self._state.number

    @property
    def unserved(self) -> frozenset[Key]:
        """Addresses that something keeps from being served yet."""
        return frozenset(map(parse_address, self._left)) - self._hands.live.keys()

    @property
    def states(self) -> dict[str, tuple[str, str]]:
        """How each address stands, with the reason; no figures are asked for."""
        left = {it.address: (it.state, it.reason) for it in self._left.values()}
        return left | {one.config.address: self._state_of(one) for one in self._hands.live.values()}

    @property
    def sentence(self) -> str:
        """The same in one line."""
        return sentence(self.states, self._state.number)

    def _state_of(self, one: Live) -> tuple[str, str]:
        """And the reason."""
        address = one.config.address
        left = self._left.get(address)
        if one.going:
            return "draining", left.reason if left else ""
        if one.config.key in self._ailing.reasons:
            return "failed", self._ailing.reasons[one.config.key]
        failure = self.target.failure(one.export)
        if failure is not None:
            return "failed", failure.sentence(address)
        if left is None and one.export.identity.draining:
            return "draining", DRAINED
        return (left.state, left.reason) if left else ("serving", self.target.lost(one.export))

    def _served(self, one: Live) -> ExportStatus:
        cut = self.volumes.cuts.progress(one.config.key)
        return standing(one, self.target, *self._state_of(one), cut)

    def _unserved(self, state: str, why: Note) -> ExportStatus:
        path = next((it.path for it in self._wanted.exports if it.address == why.address), "")
        return ExportStatus(why.address, path, state, why.text)


def _absent(wanted: Config, there: Mapping[str, Store]) -> frozenset[str]:
    return frozenset(export.place for export in wanted.exports) - there.keys()
