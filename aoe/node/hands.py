"""Carries out the steps of a plan on a target: the only code that does."""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from aoe import limits, timing
from aoe.abreast import abreast
from aoe.config.values import Config, ExportConfig, TargetConfig
from aoe.disk.file import FileDisk
from aoe.disk.open import disk_of
from aoe.disk.threads import aside
from aoe.errors import AoeError, ConfigurationError, DiskError, NoThread, StillHangs
from aoe.node.holds import Busy
from aoe.node.links import Links, Names
from aoe.node.needs import Held, Opener
from aoe.node.pending import Pending
from aoe.node.placing import go_to
from aoe.node.plan import LIMITS, Key, Running, Serving, Store, in_force
from aoe.node.steps import ALL, Add, Adjust, Change, Note, Plan, Remove
from aoe.printable import plain
from aoe.target.address_locks import Taken
from aoe.target.export import Export
from aoe.target.offer import Offer, Unfit
from aoe.target.records import Record, StateStore
from aoe.target.target import Target

log = logging.getLogger("aoe.node")


class Ready(NamedTuple):
    """What an export that is to be added will have: its store, the disk on that, and its record."""

    held: Held
    disk: FileDisk
    record: Record


class Prepared(NamedTuple):
    """What is ready for exports that are to be added, what is in the way of others, and which have to wait:
    an earlier process may still change their stores."""

    ready: dict[Key, Ready]
    problems: list[Note]
    waits: list[Note]
    busy: dict[str, Store]
    """By address."""

    def left_of(self, plan: Plan) -> Plan:
        """Once it is known which stores cannot be opened yet."""
        steps = tuple(it for it in plan.steps if not (isinstance(it, Add) and it.export.address in self.busy))
        return plan._replace(steps=steps, waits=(*plan.waits, *self.waits))


@dataclass
class Live:
    """An export that is served: as which configuration, and with which store. `going` once it is removed,
    and its last requests are waited for."""

    config: ExportConfig
    export: Export
    held: Held
    going: "asyncio.Task[None] | None" = None


class Hands:
    """What is served, and what changes it. `served` is told of each export that is added."""

    def __init__(
        self, opener: Opener, records: StateStore, links: Links, served: Callable[[Live], None]
    ) -> None:
        self._opener = opener
        self._links = links
        self._records = records
        self._served = served
        self._target: Target | None = None
        self.settings = TargetConfig()
        """In force."""
        self.live: dict[Key, Live] = {}
        self._pending = Pending()

    @property
    def target(self) -> Target:
        """What serves, from `start` on."""
        assert self._target is not None, "it was started"
        return self._target

    def start(self, target: Target, settings: TargetConfig) -> None:
        """From now on it can be changed."""
        self._target = target
        self.settings = settings

    def running(self) -> Running:
        """What is served, and how things stand."""
        return Running(self.settings, {key: self._serving(one) for key, one in self.live.items()})

    def _serving(self, one: Live) -> Serving:
        export = one.export
        # What goes is no export any more, whatever the file says: it has to be added anew.
        config = replace(one.config, path="") if one.going else one.config
        return Serving(
            export=config,
            store=one.held.store,
            serial=export.identity.serial,
            mask=export.state.mask,
            used=partial(self._is_used, one),
            writable=not one.held.opened.store.read_only,
        )

    def _is_used(self, one: Live) -> bool:
        unused_s = None if one.going else self.target.unused_s(one.export)
        return unused_s is not None and unused_s < timing.USED_LATELY_S

    # Before the first step

    def prepare(self, plan: Plan) -> Prepared:
        """Open and lock what is to be added, and find its records, as far as can be. Blocks."""
        ready: dict[Key, Ready] = {}
        problems: list[Note] = []
        waits: list[Note] = []
        busy: dict[str, Store] = {}
        leaving = {step.export.key for step in plan.steps if isinstance(step, Remove)}
        serials = {
            one.export.identity.serial: one.config for key, one in self.live.items() if key not in leaving
        }
        exports = [step.export for step in plan.steps if isinstance(step, Add)]
        with self._records.many():
            for export, held in zip(exports, self._opener.open_stores(exports), strict=True):
                try:
                    ready[export.key] = self._ready(export, held, serials)
                except Busy as error:
                    waits.append(Note(export.address, str(error)))
                    busy[export.address] = error.store
                except (AoeError, OSError) as error:
                    problems.append(Note(export.address, str(error)))
        return Prepared(ready, problems, waits, busy)

    def _ready(
        self, export: ExportConfig, held: Held | AoeError | OSError, serials: dict[str, ExportConfig]
    ) -> Ready:
        if not isinstance(held, Held):
            raise held
        disk = disk_of(held.opened)
        try:
            record, note = self._records.find(held.key, export.serial)
            other = serials.setdefault(record.serial, export)
            if other is not export:
                raise ConfigurationError(
                    f"it has serial {record.serial}, as {other.address} has; give it a serial of its own"
                )
        except BaseException:
            _close(held, disk)
            self._opener.release(held)
            raise
        if note:
            log.warning("%s: %s", export.address, note)
        return Ready(held, disk, record)

    async def give_back(self, ready: Iterable[Ready]) -> None:
        """Close what is not needed after all."""
        them = list(ready)
        for one in them:
            _close(one.held, one.disk)
        if them:
            await _beside(lambda: self._opener.release(*(one.held for one in them)))

    def give_up(self, ready: Iterable[Ready]) -> None:
        """Close it all, and what is held for the next life of the service stays so."""
        for one in ready:
            _close(one.held, one.disk)
        self._opener.close()

    async def take_up(self, one: Live) -> list[Note]:
        """Open the store of an export anew that came back as another device or file; what failed of that once
        it was removed. ConfigurationError for one that is another store, or cannot be opened."""
        if self.live.get(one.config.key) is not one:
            raise ConfigurationError(f"{one.config.address}: it was changed meanwhile")
        anew = Add(one.config, ("path",), None, one.config.mask)
        steps = Plan((Remove(one.config, returns=True), anew))
        ready, problems, waits, _ = await aside(lambda: self.prepare(steps))
        if problems or waits:
            raise ConfigurationError((problems + waits)[0].sentence)
        if not _is_same(one.held, ready[one.config.key].held):
            await self.give_back(ready.values())
            said = "leads to another disk by now, or one that cannot be told from others"
            said += "; remove the export and apply, then add it again"
            raise ConfigurationError(f"{one.config.address}: {plain(one.config.path)} {said}")
        return await self.carry_out(steps, ready)

    # The steps

    def ask_ahead(self, keys: Collection[Key]) -> None:
        """Begin to ask for addresses that may be added: if they are few, what else is to be done takes as
        long."""
        if 0 < len(keys) <= limits.ASKED_AHEAD_MAX:
            self.target.rivals.ask_ahead(keys, timing.ADDRESS_QUERY_LATER_S)

    async def carry_out(self, plan: Plan, ready: dict[Key, Ready]) -> list[Note]:
        """All that is possible; what failed. What was ready is used, or given back."""
        failed: list[Note] = []
        removals = [step for step in plan.steps if isinstance(step, Remove)]
        gone = await asyncio.gather(*(self._remove(step.export.key) for step in removals))
        stuck = {step.export.address for step, is_gone in zip(removals, gone, strict=True) if not is_gone}
        failed += [
            Note(address, "requests still hang in its disk; it goes when they end") for address in stuck
        ]
        for kind in (Adjust, Change):
            tried = (step for step in plan.steps if isinstance(step, kind))
            failed += [it async for its in abreast(self._try, tried, limits.CHANGED_AT_ONCE) for it in its]
        adds = [step for step in plan.steps if isinstance(step, Add) and step.export.key in ready]
        free = [step for step in adds if not {step.export.address, step.source} & stuck]
        blocked = [step for step in adds if {step.export.address, step.source} & stuck]
        failed += [Note(it.export.address, "its disk or address is not free yet") for it in blocked]
        await self.give_back(ready[step.export.key] for step in blocked)
        for instead, force in ((False, False), (False, True), (True, False), (True, True)):
            same = [it for it in free if (bool(it.instead), it.export.force) == (instead, force)]
            failed += await self._add(same, ready, force=force)
        return failed

    def settle(self, wanted: Config, left: Iterable[str]) -> None:
        """What needed no step is as the file has it, too; but for the addresses that are `left`."""
        self.settings = in_force(self.settings, wanted.target)
        waiting = set(left)
        for key, export in wanted.by_key.items():
            one = self.live.get(key)
            if one is not None and one.going is None and export.address not in waiting:
                one.config = export

    async def go_to(self, names: Names, wanted: Config) -> list[Note]:
        """Serve on what these names mean now; what failed."""
        now = wanted.by_key
        live = {key: one.config for key, one in self.live.items() if one.going is None}
        exports = {key: now.get(key, config) for key, config in live.items()}
        return await go_to(names, self._links, self.target, exports)

    async def stop(self) -> bool:
        """Serve nothing more. The locks of stores go, as far as the next life of the service does not have
        them, unless requests hang there: false then."""
        await self._pending.stop()
        clean = await self.target.stop()
        if clean:
            await _beside(self._opener.close)
            self.live.clear()
        return clean

    async def _remove(self, key: Key) -> bool:
        """False while requests hang in its disk."""
        one = self.live[key]
        if one.going is None:
            one.going = asyncio.ensure_future(self._gone(key))
        done, _ = await asyncio.wait([one.going], timeout=timing.STOP_TIMEOUT_S)
        return bool(done)

    async def _gone(self, key: Key) -> None:
        hung = False
        while not await self.target.remove(*key):
            if not hung:
                log.warning("e%d.%d: requests hang in the disk; it goes when they end", *key)
            hung = True
        if hung:
            log.info("e%d.%d: the requests that hung have ended, and it is gone", *key)
        one = self.live.pop(key, None)
        if one is not None:  # else everything was stopped meanwhile
            await _beside(lambda: self._opener.release(one.held))

    async def _try(self, step: Change | Adjust) -> list[Note]:
        try:
            if isinstance(step, Change):
                await self.patiently(step.export.key, lambda: self._change(step))
            else:
                await self._adjust(step)
        except AoeError as error:
            address = step.export.address if isinstance(step, Change) else ALL
            return [Note(address, str(error), isinstance(error, StillHangs))]
        return []

    async def patiently(self, key: Key, change: Callable[[], Coroutine[None, None, None]]) -> None:
        """Change an export, whose disk may hang. DiskHangs."""
        one = self.live.get(key)
        if one is None:
            await change()
        else:
            await self._pending.do(key, one.config.path, change)

    async def _change(self, step: Change) -> None:
        now, key = step.export, step.export.key
        one = self.live[key]
        if "mask" in step.what:
            await self.target.restate(*key, mask=now.mask, remote_masks=now.mask is None)
        if "interfaces" in step.what:
            self.target.place(*key, self._links.of(now))
        if {"durability", "read-only"} & set(step.what):
            write_back = now.durability == "write-back"
            read_only = now.read_only or one.held.opened.protected
            await self.target.change(*key, write_back=write_back, read_only=read_only)
        if {*LIMITS} & set(step.what):
            self.target.limit(*key, now.limits)
        one.config = now

    async def _adjust(self, step: Adjust) -> None:
        now = step.target
        self.target.allow_remote(admin=now.remote_admin, masks=now.remote_masks)
        logging.getLogger("aoe").setLevel(now.log_level.upper())
        if "max-frame-age" in step.what:  # a longer one is in force only when all clients know it
            self.target.server.spawn(self.target.set_frame_age(now.max_frame_age))

    def _offer(self, step: Add, ready: Ready) -> Offer:
        export = step.export
        return Offer(
            ready.disk,
            export.shelf,
            export.slot,
            ready.record.serial,
            export.durability == "write-back",
            ready.record,
            step.mask,
            export.reset_state,
            remote_masks=export.mask is None,
            links=self._links.of(export),
            limits=export.limits,
            copy_of=export.copy_of,
        )

    async def _add(
        self, steps: Sequence[Add], ready: Mapping[Key, Ready], *, force: bool, again: bool = False
    ) -> list[Note]:
        """All that can be. What another process has is waited for when the others are served: `again`."""
        if not steps:
            return []
        offers = [self._offer(step, ready[step.export.key]) for step in steps]
        try:
            exports = await self.target.add(
                *offers,
                force=force,
                check_interval_s=timing.ADDRESS_QUERY_LATER_S,
                lock_wait_s=timing.LOCK_WAIT_S if force or again else 0.0,
            )
        except Unfit as error:
            return await self._add_others(steps, ready, error, force=force, again=again)
        except (AoeError, OSError) as error:
            return await self._add_halves(steps, ready, str(error), force=force, again=again)
        for step, export in zip(steps, exports, strict=True):
            one = self.live[export.key] = Live(step.export, export, ready[export.key].held)
            self._served(one)
        return []

    async def _add_others(
        self, steps: Sequence[Add], ready: Mapping[Key, Ready], error: Unfit, *, force: bool, again: bool
    ) -> list[Note]:
        """But for those that cannot be."""
        refused = [step for step in steps if step.export.key in error.why]
        others = [step for step in steps if step.export.key not in error.why]
        failed = await self._add(others, ready, force=force, again=again)
        if isinstance(error, Taken) and not again:
            self.target.resume()
            return failed + await self._add(refused, ready, force=force, again=True)
        await self.give_back([ready[step.export.key] for step in refused])
        return failed + [Note(step.export.address, error.why[step.export.key]) for step in refused]

    async def _add_halves(
        self, steps: Sequence[Add], ready: Mapping[Key, Ready], why: str, *, force: bool, again: bool
    ) -> list[Note]:
        """Fewer of them at a time, where there is not enough for all."""
        if len(steps) > 1:
            half = len(steps) // 2
            first = await self._add(steps[:half], ready, force=force, again=again)
            return first + await self._add(steps[half:], ready, force=force, again=again)
        await self.give_back([ready[steps[0].export.key]])
        return [Note(steps[0].export.address, why)]


async def _beside(call: Callable[[], None]) -> None:
    """Where there is no thread for it, here all the same: it must be done."""
    try:
        await aside(call)
    except NoThread:
        call()


def _close(held: Held, disk: FileDisk) -> None:
    try:
        disk.close()
    except DiskError as error:
        log.error("%s: %s", held.key.place, error)


def _is_same(was: Held, now: Held) -> bool:
    """Whether it is one store, in its old place. One without an id may be that only where another program or
    host serves it."""
    if was.key.name.kind or now.key.name.kind:
        return was.key.name == now.key.name
    both_remote = was.opened.remote and now.opened.remote
    return both_remote and was.opened.store.size == now.opened.store.size
