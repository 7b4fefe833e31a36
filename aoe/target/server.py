"""The target with its I/O: links, disks, clocks and state files around the responder (asyncio)."""

import asyncio
import functools
import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Coroutine, Iterable, Sequence
from typing import NamedTuple

from aoe import limits
from aoe.disk.base import Disk
from aoe.disk.file import FileDisk
from aoe.drive.command import Kind, Operation
from aoe.engine import EngineUnavailable, Up
from aoe.errors import ConfigurationError, DiskError
from aoe.link.base import Link, Received
from aoe.link.packet import PacketLink
from aoe.target import advertise, claims
from aoe.target.accelerator import Accelerator, EngineOptions
from aoe.target.claims import AddressCheck
from aoe.target.export import Change, Export, Job, Port
from aoe.target.merge import Merge
from aoe.target.responder import Claimed, Effect, Peek, Persist, Responder, Send, Submit
from aoe.target.store import Record
from aoe.wire.frame import FLAG_RESPONSE

log = logging.getLogger("aoe.target")

_VERIFY_CHUNK = 1 << 20
_CLAIM_LOG_INTERVAL_S = 1.0
_STOP_POLL_S = 0.01
_STALE_BATCHES = 1000


class Served(NamedTuple):
    """An export, the disk behind it and, if it is to survive a restart, its record."""

    export: Export
    disk: Disk
    record: Record | None = None


class Server:
    """Serves exports over links. Call `claim`, `serve`, `stop`; or `aoe.serve`, which does all three."""

    def __init__(
        self,
        served: Sequence[Served],
        links: Sequence[Link],
        *,
        frame_age_s: float = limits.FRAME_AGE_DEFAULT_S,
        buffer_count: int | None = None,
        remote_admin: bool = True,
        remote_masks: bool = True,
        rng: random.Random | None = None,
        engine: EngineOptions | None = None,
    ) -> None:
        """`engine` needs links that all are packet sockets and disks that are paths; EngineUnavailable
        where it cannot run."""
        self._served = {one.export: one for one in served}
        self._ports = {Port(link.name, link.mac, link.mtu): link for link in links}
        self._port_of = {link: port for port, link in self._ports.items()}
        self.responder = Responder(
            self._served,
            self._ports,
            frame_age_ns=int(frame_age_s * 1e9),
            buffer_count=buffer_count or buffers_that_fit(links),
            remote_admin=remote_admin,
            remote_masks=remote_masks,
        )
        self._merge: Merge[Port] = Merge(self._ports)
        self._rng = rng or random.Random()
        self._accelerator = self._accelerate(engine) if engine is not None else None
        self.responder.heeds_streams = self._accelerator is None
        self._check: AddressCheck | None = None
        self._listening = False
        self._stopping = False
        self.left_behind = 0
        """Requests that `stop` did not see finish."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._paced: deque[Send] = deque()
        self._claim_logged: dict[Export, float] = {}

    # Life

    async def claim(self, *, force: bool = False) -> None:
        """See whether the addresses are free. ConfigurationError if they are taken."""
        self._check = AddressCheck(self.responder.exports, [link.mac for link in self._port_of])
        self._listen()
        for _ in range(claims.QUERIES):
            for link in self._port_of:
                for query in self._check.queries(link.mac):
                    link.send(query)
            await asyncio.sleep(claims.INTERVAL_S)
        if self._check.waiting:
            await asyncio.sleep(claims.PATIENCE_S)
        self._judge(self._check, force)

    def serve(self) -> None:
        """Answer from now on, and advertise. What was asked before is left unanswered."""
        self._listen()
        for link in self._port_of:
            for _ in range(_STALE_BATCHES):
                if not link.take().frames:
                    break
        self._check = None
        if self._accelerator is not None:
            self._accelerator.start(self._handed_up)
        self._spawn(self._advertise())

    async def stop(self, timeout_s: float = limits.STOP_TIMEOUT_S) -> bool:
        """Take nothing more in, let what was admitted finish and be answered; false if it did not in time."""
        self._stopping = True
        for link in self._port_of:
            link.stop()
        deadline = time.monotonic() + timeout_s
        while (self.active or self._paced) and time.monotonic() < deadline:
            await asyncio.sleep(_STOP_POLL_S)
        self.left_behind = self.active
        if self._accelerator is not None:
            self._accelerator.close()
        for task in self._tasks:
            task.cancel()
        for link in self._port_of:
            link.close()
        for one in self._served.values():
            if self.left_behind:  # where requests hang, closing may hang, too
                threading.Thread(target=one.disk.close, daemon=True).start()
            else:
                one.disk.close()
            if one.record is not None:
                one.record.close()
        return not self.left_behind

    def refresh(self) -> list[Export]:
        """Look at every disk's size again; the exports that changed."""
        changed = []
        for export, one in self._served.items():
            one.disk.refresh()
            sectors = one.disk.size // limits.SECTOR
            if sectors != export.drive.sectors:
                export.describe(export.identity._replace(sectors=sectors))
                self._after(export)
                changed.append(export)
        return changed

    @property
    def active(self) -> int:
        """Requests admitted and not yet finished."""
        return self.responder.active + (
            self._accelerator.engine.drain() if self._accelerator and self._stopping else 0
        )

    def counters(self) -> Counter[str]:
        """Everything counted so far, by reason; what links counted has their name before it."""
        total = Counter(self.responder.counters)
        for link in self._port_of:
            total.update({f"{link.name}.{reason}": n for reason, n in link.counters.items()})
        if self._accelerator is not None:
            served = self._accelerator.engine.counters()
            total.update(served)
            for kind in (Kind.READ, Kind.WRITE, Kind.FLUSH):
                total[kind] += served[f"engine_{kind}"]
        return total

    # What links tell us

    def ready(self, link: Link) -> None:
        """One pass: over the link, or over all of them in the order of reception (rule T2)."""
        if self._stopping:
            return
        if self._check is not None:
            self._ask_back(self._check, link)
            return
        if self._accelerator is not None:
            self._watch(link)
            return
        now_ns = self._look_at_clocks()
        if len(self._ports) == 1:
            batch = link.take()
            port = self._port_of[link]
            for received in batch.frames:
                self._receive(port, received)
            if batch.drained:
                self.responder.drained(port)
            return
        empty = []
        for port, other in self._ports.items():
            batch = other.take()
            self._merge.add(port, batch, now_ns)
            if batch.drained:
                empty.append(port)
        suspect = any(port.suspect for port in self._ports)
        for port, received in self._merge.flush() if suspect else self._merge.due():
            self._receive(port, received)
        for port in empty:
            self.responder.drained(port)
        if self._merge:
            asyncio.get_running_loop().call_soon(self.ready, link)

    def _receive(self, port: Port, received: Received) -> None:
        frame, stamp_ns, origin = received
        self._perform(self.responder.receive(port, origin, frame, stamp_ns, time.time_ns()))

    def _look_at_clocks(self) -> int:
        """REALTIME now; whoever may let a change go to the disk calls this first (rule T3)."""
        now_ns = time.time_ns()
        self.responder.clock(now_ns, time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        return now_ns

    def _watch(self, link: Link) -> None:
        """The engine has the requests: what is left to see is who claims our addresses."""
        for received in link.take().frames:
            if len(received.frame) > 14 and received.frame[14] & FLAG_RESPONSE:
                self._receive(self._port_of[link], received)

    def _handed_up(self, port: Port, up: Up, export: Export | None) -> None:
        """A frame that the engine left to us."""
        now_ns = self._look_at_clocks()
        port.suspect = False  # the engine judges what it holds itself
        self._perform(self.responder.receive(port, None, up.frame, up.stamp_ns, now_ns))
        if export is not None:
            self._after(export)

    def _after(self, export: Export) -> None:
        """Something was done for an export: if no disk operation is left, the engine need not wait for us.

        A change that is on its way does not count: it waits for the engine, and holds no ticket."""
        if self._accelerator is not None and not export.jobs:
            self._accelerator.release(export)

    def _accelerate(self, options: EngineOptions) -> Accelerator:
        disks = {e: one.disk for e, one in self._served.items() if isinstance(one.disk, FileDisk)}
        links = {port: link for port, link in self._ports.items() if isinstance(link, PacketLink)}
        if len(disks) < len(self._served) or len(links) < len(self._ports):
            raise EngineUnavailable("it serves files and block devices on Ethernet interfaces only")
        accelerator = Accelerator(links, options, self.responder.age.age_max_ns, len(disks))
        for export, disk in disks.items():
            accelerator.add(export, disk)
        return accelerator

    def _ask_back(self, check: AddressCheck, link: Link) -> None:
        for received in link.take().frames:
            for query in check.receive(link.mac, received.frame):
                link.send(query, received.origin)

    def changed(self, link: Link, came_up: bool) -> None:
        port = self._port_of[link]
        if self._accelerator is None:
            port.change(link.mac, link.mtu)
        else:
            port.change(link.mac, min(link.mtu, self._accelerator.mtu_max))
            self._accelerator.port_changed(port)
        log.info("%s: MTU %d, MAC %s%s", link.name, link.mtu, link.mac.hex(":"), ", up" if came_up else "")
        if not port.sectors:
            log.warning("%s: MTU %d is too small to serve over", link.name, link.mtu)
        elif came_up and self._check is None:
            self._perform(self.responder.advertise(port))

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
            elif isinstance(effect, Persist):
                self._spawn(self._persist(effect.change))
            else:
                self._warn_claimed(effect)

    def _send(self, effect: Send, burst: int) -> None:
        """Many answers to one question leave in bursts: they would overflow the asker (rule T7)."""
        if burst <= limits.PACE_BURST:
            self._ports[effect.port].send(effect.frame, effect.origin)
        elif len(self._paced) >= limits.PACED_FRAMES_MAX:
            self.responder.counters["paced_queue_full"] += 1
        else:
            if not self._paced:
                asyncio.get_running_loop().call_later(limits.PACE_INTERVAL_S, self._send_paced)
            self._paced.append(effect)

    def _send_paced(self) -> None:
        for _ in range(min(limits.PACE_BURST, len(self._paced))):
            effect = self._paced.popleft()
            self._ports[effect.port].send(effect.frame, effect.origin)
        if self._paced:
            asyncio.get_running_loop().call_later(limits.PACE_INTERVAL_S, self._send_paced)

    def _submit(self, job: Job) -> list[Effect]:
        if job.operation.kind is Kind.READ:
            data = self._try_read(job.export, job.operation)
            if data is not None:
                return self.responder.complete(job, data, None, time.time_ns())
        self._spawn(self._run(job))
        return []

    def _try_read(self, export: Export, read: Operation) -> bytes | None:
        ((lba, sectors),) = read.extents
        return self._served[export].disk.try_read(lba * limits.SECTOR, sectors * limits.SECTOR)

    async def _run(self, job: Job) -> None:
        data, failure = b"", None
        try:
            data = await self._execute(job)
        except DiskError as error:
            failure = error
            log.error("%s: %s at sector %d", job.export.address, error, error.offset // limits.SECTOR)
        self._perform(self.responder.complete(job, data, failure, self._look_at_clocks()))
        self._after(job.export)

    async def _execute(self, job: Job) -> bytes:
        disk, operation = self._served[job.export].disk, job.operation
        if operation.kind in (Kind.READ, Kind.WRITE):
            (extent,) = operation.extents
            offset = extent.lba * limits.SECTOR
            if operation.kind is Kind.READ:
                return await disk.read(offset, extent.sectors * limits.SECTOR)
            await disk.write(offset, operation.data, job.durable)
            return b""
        for lba, sectors in operation.extents:
            offset, length = lba * limits.SECTOR, sectors * limits.SECTOR
            if operation.kind is Kind.TRIM:
                await disk.trim(offset, length)
            else:
                for at in range(offset, offset + length, _VERIFY_CHUNK):
                    await disk.read(at, min(_VERIFY_CHUNK, offset + length - at))
        if operation.kind is not Kind.VERIFY:
            await disk.flush()
        return b""

    async def _persist(self, change: Change) -> None:
        record = self._served[change.export].record
        saved = True
        if record is not None and change.before != change.verdict.state:
            save = functools.partial(record.save, change.verdict.state)
            try:
                await asyncio.get_running_loop().run_in_executor(None, save)
            except OSError as error:
                saved = False
                log.error("%s: state not saved: %s", change.export.address, error)
        if saved and self._accelerator is not None:
            await self._accelerator.fence(change.export)
        self._perform(self.responder.persisted(change, saved, self._look_at_clocks()))
        self._after(change.export)

    def _warn_claimed(self, effect: Claimed) -> None:
        now = time.monotonic()
        if now - self._claim_logged.get(effect.export, -_CLAIM_LOG_INTERVAL_S) < _CLAIM_LOG_INTERVAL_S:
            return
        self._claim_logged[effect.export] = now
        log.error(
            "%s: %s answers for this address too: clients will mix the two disks",
            effect.export.address,
            effect.mac.hex(":"),
        )

    # Around it

    def _listen(self) -> None:
        if not self._listening:
            self._listening = True
            for link in self._port_of:
                link.start(self)

    def _judge(self, check: AddressCheck, force: bool) -> None:
        for key, found in check.claims.items():
            export = self.responder.exports[key]
            record = self._served[export].record
            who = ", ".join(mac.hex(":") for mac in found)
            if claims.siblings_only(found, export.identity.serial):
                log.warning("%s: %s serves the same disk: a sibling primary", export.address, who)
            elif force or (record is not None and export.address in record.addresses):
                log.warning("%s: %s answers for this address too, with another disk", export.address, who)
            else:
                raise ConfigurationError(
                    f"{export.address} is already served by {who}, with another disk; "
                    "choose another address, or say --force"
                )

    async def _advertise(self) -> None:
        for delay in advertise.delays(self._rng):
            await asyncio.sleep(delay)
            for port in self._ports:
                self._perform(self.responder.advertise(port))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.critical("defect: a request was not finished", exc_info=task.exception())


def buffers_that_fit(links: Iterable[Link]) -> int:
    """Buffer Count that the smallest receive buffer granted can hold."""
    fits = (link.frames_that_fit for link in links)
    return max(limits.BUFFER_COUNT_MIN, min(limits.BUFFER_COUNT_DEFAULT_MAX, *fits))
