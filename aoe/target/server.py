"""The target with its I/O: links, disks, clocks and state files around the responder (asyncio)."""

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from aoe import limits, timing
from aoe.disk.base import Disk
from aoe.disk.cloning import Cloning
from aoe.disk.file import FileDisk
from aoe.disk.threads import aside
from aoe.drive.command import Kind, Operation
from aoe.engine import Up
from aoe.errors import DiskError, NoThread, Outdated
from aoe.link.base import Link, Received, buffers_that_fit
from aoe.link.packet import PacketLink
from aoe.target.accelerator import Accelerator, EngineOptions
from aoe.target.address_check import AddressCheck
from aoe.target.address_locks import AddressLocks
from aoe.target.counting import Counting
from aoe.target.effects import Delay, Effect, Forged, Met, Peek, Persist, Send, Submit
from aoe.target.engine_cut import EngineCut
from aoe.target.export import Change, Export, Job, Port
from aoe.target.health import Health
from aoe.target.joining import Joining, of_engine
from aoe.target.marks import Marks
from aoe.target.notices import Notices
from aoe.target.plain_cut import PlainCut
from aoe.target.ports import Ports
from aoe.target.reception import Reception
from aoe.target.responder import Responder
from aoe.target.returned import Returned
from aoe.target.served import Served
from aoe.target.state import AoeState
from aoe.target.streams import Place
from aoe.target.system import System
from aoe.wire import protocol
from aoe.wire.frame import is_reply


class TargetOptions(NamedTuple):
    """How a target serves, whatever it serves.

    A change that waited longer than `frame_age_s` (seconds, 0.5 to 3600) for the disk is dropped (order rule
    T3). `buffer_count` (2 to 65535) is advertised; by default what the receive buffers hold, up to 64.
    Without `remote_admin` the network may change neither config string nor lists of hosts, without
    `remote_masks` not the mask list. The `engine` needs links that all are packet sockets, and disks that are
    files or block devices. `exports_max` is how many disks are served at a time at most. Where `links_come`
    none need be there at first.
    """

    frame_age_s: float = timing.FRAME_AGE_DEFAULT_S
    buffer_count: int | None = None
    remote_admin: bool = True
    remote_masks: bool = True
    engine: EngineOptions | None = None
    exports_max: int = limits.EXPORTS_MAX
    links_come: bool = False


class Server:
    """Answers on links for the exports that are admitted, from the start on. `Target` decides which."""

    def __init__(
        self, links: Sequence[Link], options: TargetOptions, system: System, marks: Marks | None = None
    ) -> None:
        """Needs a running event loop. EngineUnavailable where the engine that is asked for cannot run."""
        self._served: dict[Export, Served] = {}
        self._holders: Counter[Export] = Counter()
        self._ports = Ports(links)
        self.locks = AddressLocks(links, system)
        """Addresses are taken there before their exports are admitted."""
        self.responder = Responder(
            self._ports.links,
            frame_age_ns=int(options.frame_age_s * 1e9),
            buffer_count=options.buffer_count or buffers_that_fit(links),
            remote_admin=options.remote_admin,
            remote_masks=options.remote_masks,
        )
        self._reception: Reception[Port] = Reception(self._ports.links)
        self._accelerator = self._accelerate(options)
        self._joining = Joining(
            self._ports,
            self._reception,
            self.responder,
            self.locks,
            self._accelerator,
            options.buffer_count,
        )
        self._checks: list[AddressCheck] = []
        """Are told which other targets answer for addresses that are to be ours."""
        self._stopping = self._listens = False
        self.left_behind = 0
        """Requests that `stop` did not see finish."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.notices = Notices()
        self.health = Health(self._served, self.notices, marks, system.add_watches, self.changed_export)
        self.counting = Counting(self.responder, self._ports, self.health, self._accelerator)
        self._returned = Returned(system, self.counting.export, self._tell, self.fence, self.spawn)

    # Life

    def start(self, before_threads: Callable[[], None] = lambda: None, *, paused: bool = False) -> None:
        """Listen, unless it is `paused`. What was asked before is left unanswered. Everything is open when
        `before_threads` is called, and threads start after it, with what it left them of privileges."""
        try:
            before_threads()
            for link in self._ports.of if not paused else ():
                self._listen(link)
                self._forget_earlier(link)
            self._listens = not paused
            if self._accelerator is not None:
                self._accelerator.start(self._handed_up, paused=paused)
        except BaseException:
            if self._accelerator is not None:
                self._accelerator.close()
            self.health.close()
            for link in self._ports.of:
                link.stop()
            raise

    def resume(self) -> None:
        """Listen, after a start that was paused: also to what came before, as far as it is not too old."""
        self._listens = True
        for link in self._ports.of:
            self._listen(link)
        if self._accelerator is not None:
            self._accelerator.engine.resume()

    def make_ready(self, link: Link) -> None:
        """Open ahead what `add_link` will need. Blocks. ConfigurationError."""
        if self._accelerator is not None and isinstance(link, PacketLink):
            self._accelerator.open_ahead(link)

    def add_link(self, link: Link) -> None:
        """Serve on a link, too. EngineUnavailable where the engine cannot; the link is the caller's then."""
        port = self._joining.add(link)
        if self._listens:
            self._listen(link)
            self._perform(self.responder.advertise(port, self.exports.values()))

    async def remove_link(self, link: Link) -> None:
        """Take nothing more from a link, and close it once what came by it is answered."""
        port, held = self._joining.retire(link)
        for other, received in held:
            self._receive(other, received)
        await self._joining.drop(port, self._all_answered())

    async def _all_answered(self) -> None:
        await asyncio.gather(*(self._answered(export) for export in self.exports.values()))

    def _forget_earlier(self, link: Link) -> None:
        for _ in range(limits.STALE_BATCHES_MAX):
            if not link.take().frames:
                break

    def _listen(self, link: Link) -> None:
        link.start(self)
        self.notices.link(link)

    def look_again(self) -> None:
        """What could not be asked of the system can be now."""
        self.locks.look_again()
        self.health.look_again()
        for link in self._ports.of:
            if isinstance(link, PacketLink):
                link.look_again()

    @property
    def exports(self) -> dict[tuple[int, int], Export]:
        """Those that are served, by address."""
        return self.responder.exports

    def ports_of(self, links: Iterable[Link] | None) -> frozenset[Port] | None:
        """The ports on some of the links (None: all, which are None, too)."""
        return None if links is None else frozenset(self._ports.of[link] for link in links)

    def links_of(self, export: Export) -> list[Link]:
        """The links that an export is served on."""
        return [link for port, link in self._ports.links.items() if export.is_on(port)]

    def served(self, export: Export) -> Served:
        """What is behind an export that was admitted and is not gone."""
        return self._served[export]

    @contextmanager
    def held(self, export: Export) -> Iterator[Disk]:
        """Its disk, which is not closed meanwhile, also where the export is removed."""
        self._holders[export] += 1
        try:
            yield self._served[export].disk
        finally:
            self._holders[export] -= 1

    def can_serve(self, disk: Disk) -> bool:
        """Whether what moves the sectors here can move those of a disk."""
        return self._accelerator is None or isinstance(disk, FileDisk)

    def admit(self, *served: Served) -> None:
        """Serve exports from now on."""
        self._look_at_clocks()
        self._served |= {one.export: one for one in served}
        self.health.admit(*served)
        for one in served:
            self._returned.admit(one)
        if self._accelerator is not None:
            disks = {one.export: one.disk for one in served if isinstance(one.disk, FileDisk)}
            assert len(disks) == len(served), "the engine can serve them"
            self._accelerator.add(disks)
        for one in served:
            self.responder.admit(one.export)

    async def dismiss(self, export: Export) -> Served:
        """Take no request for an export any more; return when all that were taken are answered."""
        if self._accelerator is None:
            self.responder.dismiss(export)
        else:
            await self._accelerator.drain(export)
        while export.busy or self._holders[export]:
            await asyncio.sleep(timing.STOP_POLL_S)
        if self._accelerator is not None:
            self.responder.dismiss(export)
            self._accelerator.forget(export)
        del self._holders[export]
        gone = self._served.pop(export)
        self.health.dismiss(gone)
        self._returned.dismiss(export)
        return gone

    @property
    def links(self) -> list[Link]:
        """Where frames are taken."""
        return list(self._ports.of)

    @property
    def ports(self) -> list[Port]:
        """Where it serves."""
        return list(self._ports.links)

    def set_frame_age(self, frame_age_s: float) -> None:
        """Changes that waited longer are dropped from now on (order rule T3)."""
        self.responder.age.age_max_ns = int(frame_age_s * 1e9)
        if self._accelerator is not None:
            self._accelerator.set_frame_age(self.responder.age.age_max_ns)

    async def fence(self, export: Export) -> None:
        """Return when everything that was admitted to an export until now is over."""
        if self._accelerator is not None:
            await self._accelerator.fence(export)
        await self._answered(export)

    async def _answered(self, export: Export) -> None:
        before = set(export.queue.tickets())
        while not before.isdisjoint(export.queue.tickets()):
            await asyncio.sleep(timing.STOP_POLL_S)

    def cut(self, export: Export, disk: FileDisk, cloning: Cloning) -> PlainCut | EngineCut:
        """What makes a snapshot of its disk, of a moment that is to come."""
        if self._accelerator is not None:
            return self._accelerator.cut(export, cloning)

        def go_on() -> None:
            self._perform(self.responder.go_on(export, self._look_at_clocks()))

        return PlainCut(export, disk, cloning, go_on)

    async def restate(self, export: Export, state: Callable[[AoeState], AoeState]) -> bool:
        """Change the AoE state of an export as its administrator (order rule T5); false if it could not be
        kept, and is as it was."""
        with self.held(export):
            while export.changing is not None:
                await asyncio.sleep(timing.STOP_POLL_S)
            effects = self.responder.restate(export, state(export.state), self._look_at_clocks())
            change = export.changing
            assert change is not None, "it is not persisted yet"
            self._perform(effects)
            while export.changing is change:
                await asyncio.sleep(timing.STOP_POLL_S)
            return not change.failed

    def changed_export(self, export: Export) -> None:
        """What is told of an export, or how it is served, has changed."""
        if self._accelerator is not None:
            self._accelerator.refresh(export)

    def _tell(self, export: Export) -> None:
        self.changed_export(export)
        self.advertise([export])

    def advertise(self, exports: Sequence[Export]) -> None:
        """Say unasked that they are there, as far as they are."""
        exports = [export for export in exports if self.exports.get(export.key) is export]
        for port in self._ports.links:
            self._perform(self.responder.advertise(port, exports))

    async def ask_who_answers(self, check: AddressCheck, interval_s: float = timing.ADDRESS_QUERY_S) -> None:
        """Look for others that answer for addresses, by so many questions `interval_s` seconds apart."""
        self._checks.append(check)
        try:
            for _ in range(limits.ADDRESS_QUERIES):
                for link in self._ports.of:
                    for query in check.queries(link.mac):
                        link.send(query)
                await asyncio.sleep(interval_s)
            if check.waiting:
                await asyncio.sleep(timing.ADDRESS_PATIENCE_S)
        finally:
            self._checks.remove(check)

    async def stop(self, timeout_s: float = timing.STOP_TIMEOUT_S) -> bool:
        """Take nothing more in, let what was admitted finish and be answered; false if it did not in time."""
        self._stopping = True
        for link in self._ports.of:
            link.stop()
        self._take_last()
        deadline = time.monotonic() + timeout_s
        while (self.active or self._ports.busy) and time.monotonic() < deadline:
            await asyncio.sleep(timing.STOP_POLL_S)
        self.left_behind = self.active
        if self._accelerator is not None:
            self._accelerator.stop()
            self._accelerator.close()
        for task in self._tasks:
            task.cancel()
        for link in self._ports.open_links:
            link.close()
        self.health.close()
        self.notices.finish()
        for one in self._served.values():
            one.close(may_hang=bool(self.left_behind))
        self.locks.close()
        return not self.left_behind

    @property
    def uses_uring(self) -> bool | None:
        """Whether the kernel lets the compiled engine use io_uring; None without the engine."""
        return None if self._accelerator is None else self._accelerator.uses_uring

    @property
    def active(self) -> int:
        """Requests admitted and not yet finished."""
        return self.responder.active + (
            self._accelerator.engine.drain() if self._accelerator and self._stopping else 0
        )

    # What links tell us

    def ready(self, link: Link) -> None:
        """One pass: over the link, or over all of them in the order of reception (rule T2)."""
        if self._stopping:
            return
        if self._accelerator is not None:
            self._watch(link)
            return
        if len(self._ports.links) == 1:
            self._look_at_clocks()
            batch = link.take()
            port = self._ports.of[link]
            for received in batch.frames:
                self._receive(port, received)
            if batch.drained:
                self.responder.drained(port)
            return
        self._pass()
        if self._reception:
            asyncio.get_running_loop().call_soon(self.ready, link)

    def _pass(self) -> None:
        """Over all links: what none can precede any more."""
        now_ns, empty = self._look_at_clocks(), list[Port]()
        for port, other in self._ports.links.items():
            batch = other.take()
            self._reception.add(port, batch, now_ns)
            if batch.drained:
                empty.append(port)
        suspect = any(port.suspect for port in self._ports.links)
        for port, received in self._reception.flush() if suspect else self._reception.due():
            self._receive(port, received)
        for port in empty:
            self.responder.drained(port)

    def _take_last(self) -> None:
        """What was taken from one link, and waits for what another may have before it, no later process finds
        there any more. It has its turn, unless there is no end to what comes."""
        for _ in range(limits.LAST_PASSES_MAX):
            if not self._reception:
                return
            self._pass()

    def _receive(self, port: Port, received: Received) -> None:
        frame, stamp_ns, origin = received
        for check in self._checks:
            for query in check.receive(port.mac, frame):
                self._ports.links[port].send(query, origin)
        self._perform(self.responder.receive(port, origin, frame, stamp_ns, time.time_ns()))

    def _look_at_clocks(self) -> int:
        """REALTIME now; to be called before a change may go to the disk (rule T3)."""
        now_ns = time.time_ns()
        self.responder.clock(now_ns, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        return now_ns

    def _watch(self, link: Link) -> None:
        """The engine has the requests: what is left to see is which targets answer for our addresses."""
        for received in link.take().frames:
            if is_reply(received.frame):
                self._receive(self._ports.of[link], received)

    def _handed_up(self, port: Port, up: Up, export: Export | None) -> None:
        """A frame that the engine left to us."""
        now_ns = self._look_at_clocks()
        port.suspect = False  # the engine judges what it holds itself
        effects = self.responder.receive(
            port, None, up.frame, up.stamp_ns, now_ns, Place(up.registered), up.ticket
        )
        self._perform(effects)
        if export is not None:
            self._after(export)
            if up.error < 0:  # also where that request is not answered
                self.spawn(self.health.keep(self._served[export]))

    def _after(self, export: Export) -> None:
        """Something was done for an export: the engine need not wait for that any more.

        A change that is on its way does not count: it waits for the engine, and holds no ticket."""
        if self._accelerator is not None:
            self._accelerator.release(export)

    def _accelerate(self, options: TargetOptions) -> Accelerator | None:
        if options.engine is None:
            return None
        links = {port: of_engine(link) for port, link in self._ports.links.items()}
        return Accelerator(links, options.engine, self.responder.age.age_max_ns, options.exports_max)

    def changed(self, link: Link, came_up: bool) -> None:
        port = self._ports.of[link]
        port.name = link.name
        before = port.sectors
        if self._accelerator is None:
            port.change(link.mac, link.mtu)
        else:
            port.change(link.mac, min(link.mtu, self._accelerator.mtu_max))
            self._accelerator.port_changed(port)
        self.locks.follow(link)
        self.notices.link(link)
        if port.sectors and (came_up or port.sectors != before):
            self._perform(self.responder.advertise(port, self.exports.values()))

    # Effects

    def _perform(self, effects: list[Effect]) -> None:
        burst = 0
        for effect in effects:  # what they lead to is added behind
            if isinstance(effect, Send):
                burst += 1
                self._send(effect, burst)
            elif isinstance(effect, Peek):
                data = self._try_read(effect.export, effect.operation)
                effects += self.responder.peeked(effect, data, time.time_ns())
            elif isinstance(effect, Submit):
                effects += self._submit(effect.job)
            elif isinstance(effect, Delay):
                self.spawn(self._delay(effect))
            elif isinstance(effect, Persist):
                self.spawn(self._persist(effect.change))
            elif isinstance(effect, Met):
                self.notices.met(effect)
            elif isinstance(effect, Forged):
                self.notices.forged(effect)
            else:
                self.notices.conflict(effect)

    def _send(self, effect: Send, burst: int) -> None:
        """Many answers to one question leave in bursts: they would overflow the asker (rule T7)."""
        if burst <= limits.PACE_BURST:
            self._ports.send(effect)
        elif not self._ports.send_paced(effect):
            self.responder.counters["paced_queue_full"] += 1

    def _submit(self, job: Job) -> list[Effect]:
        if job.operation.kind is Kind.READ and not job.peeked:
            data = self._try_read(job.export, job.operation)
            if data is not None:
                return self.responder.complete(job, data, None, time.time_ns())
        self.responder.waits(job)
        self.spawn(self._run(job))
        return []

    def _try_read(self, export: Export, read: Operation) -> bytes | None:
        ((lba, sectors),) = read.extents
        return self._served[export].disk.try_read(lba * protocol.SECTOR, sectors * protocol.SECTOR)

    async def _run(self, job: Job) -> None:
        data, failure = b"", None
        try:
            data = await self._served[job.export].carry_out(job.operation, durable=job.durable)
            self._returned.vouch(job)
        except DiskError as error:
            failure = error
            if not isinstance(error, Outdated):
                await self.health.failed(job, error)
        self._perform(self.responder.complete(job, data, failure, self._look_at_clocks()))
        self._after(job.export)

    async def _delay(self, delay: Delay) -> None:
        await asyncio.sleep((delay.until_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1e9)
        self._perform(self.responder.due(delay, self._look_at_clocks()))

    async def _persist(self, change: Change) -> None:
        record = self._served[change.export].record
        saved = True
        if record is not None and change.before != change.verdict.state:
            save = functools.partial(record.save, change.verdict.state)
            try:
                await aside(save)
            except (OSError, NoThread) as error:
                saved = False
                self.notices.not_saved(change, error)
        if saved and self._accelerator is not None:
            await self._accelerator.fence(change.export)
        self._perform(self.responder.persisted(change, saved, self._look_at_clocks()))
        self._after(change.export)

    # Around it

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Do something meanwhile, at the latest until the stop."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.notices.defect(error)
