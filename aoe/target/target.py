"""A target: which disks it serves where. The only way to build one, and to change it while it serves."""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Self

from aoe import limits, timing
from aoe.disk.base import Disk
from aoe.drive.identify import Identity
from aoe.errors import ConfigurationError, DiskError
from aoe.home import Home, Rooted
from aoe.link.base import Link
from aoe.metrics.snapshot import ExportNumbers, Snapshot
from aoe.target import advertise
from aoe.target.cutting import Cuts, Cutting
from aoe.target.draining import Draining
from aoe.target.export import Export
from aoe.target.health import Failure
from aoe.target.legacy import Legacy, continued, legacy_of
from aoe.target.marks import Marks
from aoe.target.measure import Measure
from aoe.target.offer import Key, Offer, check_all, check_new, identity_of, judge, made, with_states
from aoe.target.rates import Limits
from aoe.target.rivals import Rivals
from aoe.target.server import Server, TargetOptions
from aoe.target.state import AoeState
from aoe.target.streams import Streams
from aoe.target.system import System
from aoe.wire import protocol

log = logging.getLogger("aoe.target")


class Target(Rooted):
    """Serves disks on links. `open` it, `add` disks, `change` and `remove` them, `stop` it."""

    def __init__(
        self, server: Server, options: TargetOptions, rng: Random, legacy: Legacy = MappingProxyType({})
    ) -> None:
        self.server = server
        self.draining = Draining(server)
        self._cuts = Cuts(server)
        self.rivals = Rivals(server)
        self._home = Home("this target")
        self._options = options
        self._frame_age_s = options.frame_age_s
        self._rng = rng
        self._coming: set[Key] = set()
        self._leaving: dict[Key, asyncio.Task[None]] = {}
        self._retiring: dict[Link, asyncio.Task[None]] = {}
        self._left: dict[Key, float] = {}
        """When the last of what was served there was answered (CLOCK_MONOTONIC, s)."""
        self._measure = Measure()
        self._from_last = dict(legacy)
        self._paused = False
        self.without_engine = ""
        """Why the compiled engine does not serve that was meant."""
        self.legacy: Legacy = {}
        """After a clean `stop`: what the next life may go on with. It is for one life only."""

    @classmethod
    def open(
        cls,
        links: Sequence[Link],
        options: TargetOptions | None = None,
        rng: Random | None = None,
        before_threads: Callable[[], None] = lambda: None,
        legacy: Legacy | None = None,
        paused: bool = False,
        system: System | None = None,
        marks: Marks | None = None,
    ) -> Self:
        """A target without disks, inside the running event loop. Its links are closed when it stops. A
        process gives up privileges in `before_threads`: everything is open then, and no thread is there yet.
        Exports that are as in the `legacy` of an earlier life go on as the same instance. One that is opened
        `paused` leaves what comes where it is until it is to `resume`, and asks no other target for its
        addresses. The `system` is asked for what is needed later; by default this process. `marks` are of
        disks whose sync failed.

        ConfigurationError without a link, unless some are to come; EngineUnavailable where the engine that is
        asked for cannot run.
        """
        chosen = options or TargetOptions()
        if not links and not chosen.links_come:
            raise ConfigurationError("there is no link to serve on; give one")
        server = Server(links, chosen, system or System(), marks)
        server.start(before_threads, paused=paused)
        made = cls(server, chosen, rng or Random(), legacy or {})
        made._paused = paused
        return made

    def resume(self) -> None:
        """Begin, also with what came since links were opened, as far as it is not too old (order rule T3)."""
        self._home.check()
        if self._paused:
            self._paused = False
            self.server.resume()

    @property
    def exports(self) -> list[Export]:
        """What is served."""
        return list(self.server.exports.values())

    @property
    def left_behind(self) -> int:
        """Requests that `stop` did not see finish."""
        return self.server.left_behind

    def counters(self) -> Counter[str]:
        """Everything counted so far, by reason; what links counted has their name before it."""
        return self.server.counting.counters()

    def snapshot(self, exports: Sequence[ExportNumbers] | None = None) -> Snapshot:
        """All numbers at one time (`aoe.metrics.table` says what each is). A caller that has no time for all
        `exports` at once asks for their `numbers` before that."""
        return self.server.counting.snapshot(exports)

    async def add(
        self,
        *offers: Offer,
        force: bool = False,
        check: bool = True,
        check_interval_s: float = timing.ADDRESS_QUERY_S,
        lock_wait_s: float | None = None,
    ) -> list[Export]:
        """Serve disks; all of them, or after an error none. They are closed when they are removed or the
        target stops; after an error they are still the caller's.

        ConfigurationError if an address, a serial or a record cannot be used, or if another target answers
        for an address with another disk, unless `force`; without `check` none is asked, which saves 0.3 s:
        the three questions are `check_interval_s` seconds apart. Unfit names all that cannot be served for
        one kind of reason, Taken those that another process here still has after `lock_wait_s` seconds, or as
        long as usual.
        """
        self._home.check()
        keys = [offer.key for offer in offers]
        self._check_offers(offers)
        self._coming.update(keys)
        try:
            await self.server.locks.take(keys, force=force, wait_s=lock_wait_s)
            if check and not self._paused:
                await self._check_addresses(offers, force, check_interval_s)
            await self._outlive(keys)
            served = await with_states(offers, [self._export(offer) for offer in offers])
            self.server.admit(*served)
        except BaseException:
            self.server.locks.free(keys)
            raise
        finally:
            self._coming.difference_update(keys)
        exports = [one.export for one in served]
        self.server.spawn(self._advertise(exports))
        return exports

    async def remove(self, shelf: int, slot: int, timeout_s: float = timing.STOP_TIMEOUT_S) -> bool:
        """Take no request for an address any more, let what was taken be answered, then close the disk. False
        if requests still hang in the disk after `timeout_s`: it is removed when they end.

        The address may be added again at once; other bytes are served there when no old frame can be carried
        out any more (order rule T11)."""
        export = self._find(shelf, slot)
        if export.key not in self._leaving:
            self._leaving[export.key] = asyncio.ensure_future(self._remove(export))
        done, _ = await asyncio.wait([self._leaving[export.key]], timeout=timeout_s)
        return bool(done)

    def add_link(self, link: Link) -> None:
        """Serve on one more link: at once what is served on all, else what is to `place` there. It is closed
        when it is removed or the target stops; after an error it is still the caller's.

        ConfigurationError beyond `limits.ENGINE_PORTS_MAX` (64) links; EngineUnavailable where the engine
        that serves cannot use it."""
        self._home.check()
        if len(self.server.ports) + len(self._retiring) >= limits.ENGINE_PORTS_MAX:
            raise ConfigurationError(f"a target serves on {limits.ENGINE_PORTS_MAX} links at most")
        self.server.add_link(link)

    async def remove_link(self, link: Link, timeout_s: float = timing.STOP_TIMEOUT_S) -> bool:
        """Take nothing more from a link, let what came by it be answered, then close it. False if requests
        still hang in a disk after `timeout_s`: it is closed when they end. Exports on no other one are
        served nowhere then. ConfigurationError for a link that it does not serve on."""
        self._home.check()
        if link not in self._retiring:
            if link not in self.links:
                raise ConfigurationError(f"{link.name} is not served on")
            self._retiring[link] = asyncio.ensure_future(self._retire(link))
        done, _ = await asyncio.wait([self._retiring[link]], timeout=timeout_s)
        return bool(done)

    async def _retire(self, link: Link) -> None:
        try:
            await self.server.remove_link(link)
        finally:
            del self._retiring[link]

    @property
    def links(self) -> list[Link]:
        """What it serves on."""
        return self.server.links

    def place(self, shelf: int, slot: int, links: Sequence[Link] | None) -> None:
        """Serve a disk on these links only from now on, or (None) on all."""
        self.place_all({self._find(shelf, slot).key: links})

    def place_all(self, places: Mapping[Key, Sequence[Link] | None]) -> None:
        """The same for many disks; an address that is not served (any more) is passed over."""
        self._home.check()
        moved: list[Export] = []
        for key, links in places.items():
            export, ports = self.server.exports.get(key), self.server.ports_of(links)
            if export is not None and export.only_on != ports:
                export.serve_on(ports)
                self.server.changed_export(export)
                moved.append(export)
        self.server.advertise(moved)

    def limit(self, shelf: int, slot: int, limits: Limits) -> None:
        """Take no more than so much of a disk's requests from now on. Those that were delayed begin when they
        would have."""
        export = self._find(shelf, slot)
        export.limit(limits)
        self.server.changed_export(export)

    async def restate(
        self,
        shelf: int,
        slot: int,
        *,
        mask: tuple[bytes, ...] | None = None,
        reserve: tuple[bytes, ...] | None = None,
        remote_masks: bool | None = None,
    ) -> None:
        """Replace the lists of hosts that are served (`mask`) and that hold the reservation; empty: any host,
        and whether the network may change the mask list. What was admitted under the old lists is over when
        this returns (order rule T5). ConfigurationError where that cannot be kept: nothing has changed."""
        export = self._find(shelf, slot)
        if mask is not None or reserve is not None:
            before = export.state

            def state(now: AoeState) -> AoeState:
                masked = now if mask is None else now._replace(mask=mask)
                return masked if reserve is None else masked._replace(reserve=reserve)

            if not await self.server.restate(export, state):
                raise ConfigurationError(
                    f"{export.address}: the state directory takes no change; see the log"
                )
            if set(before.mask) != set(export.state.mask):
                self.server.advertise([export])
        if remote_masks is not None:
            export.let_masks(remote_masks)

    async def change(
        self, shelf: int, slot: int, *, write_back: bool | None = None, read_only: bool | None = None
    ) -> None:
        """Serve a disk otherwise from now on. What was acknowledged under write-back is on stable storage
        before writes alone count as that. ConfigurationError for what its disk cannot do."""
        export = self._find(shelf, slot)
        if read_only is False and self.server.served(export).disk.read_only:
            raise ConfigurationError(f"{export.address}: the disk was opened for reading only; open it again")
        with self.server.held(export):
            if read_only is not None:
                export.set_read_only(read_only)
            if write_back is False and export.identity.cache:
                export.switch_cache(False)
                await self.server.fence(export)
                await self.server.health.write_back(export)
            if write_back not in (None, export.identity.cache):
                export.describe(_renewed(export.identity)._replace(cache=write_back, cache_on=write_back))
            self.server.changed_export(export)
            self.server.advertise([export])

    def failure(self, export: Export) -> Failure | None:
        """Whether a sync of its disk failed (order rule T6), and since when."""
        return self.server.health.failure(export)

    def errors(self, export: Export) -> int:
        """How often its disk could not do what it was to do, since it is served."""
        return self.server.health.errors(export)

    def lost(self, export: Export) -> str:
        """What became of the name that its file was opened by; empty where it has it."""
        return self.server.health.lost(export)

    async def reopen(self, shelf: int, slot: int) -> bool:
        """End the failed state of a disk (order rule T6): what it holds is what it gives to read from now on.
        It is another instance, so initiators learn that what they were told of it may be lost. False if it
        had not failed; DiskError if it still fails, and it stays failed."""
        export = self._find(shelf, slot)
        with self.server.held(export) as disk:
            await self.server.fence(export)
            if not disk.failed:
                return False
            export.renew(secrets.randbits(64))
            await self.server.fence(export)
            await disk.reopen()
            await self.server.health.trusted(export)
            self.server.changed_export(export)
            self.server.advertise([export])
        return True

    async def cut(self, into: Mapping[Key, int]) -> Cutting:
        """Begin snapshots of disks, all of one moment, which is over when this returns: what was acknowledged
        before is in them, what is sent from now on is not. They are made in files, empty ones, each open for
        writing on the file system of its disk's; the descriptors stay the caller's.

        Until `Cutting.whole` returns a file is no snapshot, and a crash leaves it like that: it gets its name
        after that. ConfigurationError for an address
        that is not served, and for a disk that is no file of its own, or that another host serves, too;
        CutError where it did not come about, as its disk hung for 250 ms, or is full."""
        return await self._cuts.begin({self._find(*key): fd for key, fd in into.items()})

    async def set_frame_age(self, frame_age_s: float) -> None:
        """Let a change wait so long for the disk, in seconds (order rule T3). Initiators build on what was
        advertised, so never more is enforced: a longer age is told first, as by another process, and is in
        force when all have asked that had to."""
        self._home.check()
        grows = frame_age_s > self._frame_age_s
        if not grows:
            self.server.set_frame_age(frame_age_s)
        for export in self.exports:
            identity = export.identity._replace(frame_age_ms=int(frame_age_s * 1000))
            export.describe(_renewed(identity) if grows else identity)
        self.server.advertise(self.exports)
        last_s, self._frame_age_s = self._frame_age_s, frame_age_s
        if grows:
            await asyncio.sleep(last_s + (timing.NETWORK_LIFETIME_NS + timing.COMPLETION_NS) / 1e9)
            self.server.set_frame_age(min(frame_age_s, self._frame_age_s))

    async def refresh(
        self, timeout_s: float = timing.MEASURE_S, only: Sequence[Export] | None = None
    ) -> list[Export]:
        """Look at every disk's size again, or at these `only`; the exports that changed. A disk that does not
        answer within `timeout_s` (seconds) keeps its size, which is said."""
        self._home.check()
        disks = {
            export: self.server.served(export).disk for export in (self.exports if only is None else only)
        }
        problems = await self._measure.ask(disks.values(), timeout_s)
        return [export for export, disk in disks.items() if self._resized(export, disk, problems[disk])]

    def numbers(self, export: Export) -> ExportNumbers:
        """What was done of it since it is served, and for which clients."""
        return self.server.counting.export(export)

    def unused_s(self, export: Export) -> float | None:
        """Seconds since a client last read or changed it; None if none did since it is served."""
        used_ns = self.numbers(export).heard_ns
        return (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - used_ns) / 1e9 if used_ns else None

    def allow_remote(self, *, admin: bool, masks: bool) -> None:
        """Whether the network may change config strings and lists of hosts (`admin`), and mask lists."""
        self.server.responder.remote_admin = admin
        self.server.responder.remote_masks = admin and masks

    async def stop(self, timeout_s: float = timing.STOP_TIMEOUT_S) -> bool:
        """Take nothing more in, let what was admitted finish and be answered; false if it did not in time. In
        a child that was forked nothing is done: the parent goes on."""
        if self._home.forked:
            return True
        self._home.check()
        self._cuts.give_up("the target stops")
        for task in (*self._leaving.values(), *self._retiring.values()):
            task.cancel()
        self._measure.close()
        clean = await self.server.stop(timeout_s)
        if clean:
            self.legacy = legacy_of(self.exports)
        return clean

    # Inside

    def _resized(self, export: Export, disk: Disk, problem: DiskError | None) -> bool:
        """Whether it is served with another size from now on."""
        if problem is not None:
            self.server.notices.size_unknown(export, problem)
        sectors = disk.size // protocol.SECTOR
        if sectors == export.drive.sectors or self.server.exports.get(export.key) is not export:
            return False
        export.describe(export.identity._replace(sectors=sectors))
        self.server.changed_export(export)
        return True

    def _find(self, shelf: int, slot: int) -> Export:
        self._home.check()
        export = self.server.exports.get((shelf, slot))
        if export is None:
            raise ConfigurationError(f"e{shelf}.{slot} is not served here")
        return export

    def _check_offers(self, offers: Sequence[Offer]) -> None:
        taken = {*self.server.exports, *self._leaving, *self._coming}
        check_new(offers, taken, {export.identity.serial for export in self.exports}, self.server.can_serve)
        if len(taken) + len(offers) > self._options.exports_max:
            raise ConfigurationError(
                f"{len(taken) + len(offers)} disks are too many; "
                f"this target was opened for {self._options.exports_max}"
            )

    def _export(self, offer: Offer) -> Export:
        mtu = min([limits.UDP_MTU_MAX, *(port.mtu for port in self.server.ports)])
        identity = identity_of(offer, protocol.sectors_per_frame(mtu), self._frame_age_s)
        identity, streams = continued(identity, self._from_last.pop(offer.key, None))
        export = made(offer, identity, Streams(streams, time.time_ns()))
        export.serve_on(self.server.ports_of(offer.links))
        self.draining.take_up(export)
        return export

    async def _check_addresses(self, offers: Sequence[Offer], force: bool, interval_s: float) -> None:
        found = await self.rivals.found([offer.key for offer in offers], interval_s)
        check_all(offers, lambda it: judge(it, found.answers.get(it.key, {}), force))

    async def _outlive(self, keys: Sequence[Key]) -> None:
        """An address gets other bytes when frames for those before have grown too old (order rule T11)."""
        left_s = [self._left.pop(key) for key in keys if key in self._left]
        if left_s:
            await asyncio.sleep(max(0.0, max(left_s) + self._frame_age_s - time.monotonic()))

    async def _remove(self, export: Export) -> None:
        self._cuts.leave(export)
        try:
            (await self.server.dismiss(export)).close()
            self._left[export.key] = time.monotonic()
            self.server.locks.free([export.key])
        finally:
            del self._leaving[export.key]

    async def _advertise(self, exports: list[Export]) -> None:
        for delay in advertise.delays(self._rng):
            await asyncio.sleep(delay)
            exports = [export for export in exports if self.server.exports.get(export.key) is export]
            if not exports:
                return
            self.server.advertise(exports)


def _renewed(identity: Identity) -> Identity:
    """As another process says it: an initiator that built on the last one has to ask again. Here both may
    have requests for a moment."""
    return identity._replace(instance=secrets.randbits(64), alone=False)
