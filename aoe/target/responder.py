"""The target without its I/O: frames, clocks and finished work go in, effects come out.

One call in, a list of effects out, in the order in which they are to be done.
"""

from collections import Counter
from collections.abc import Hashable, Iterable

from aoe import limits, timing
from aoe.drive import command as drive
from aoe.drive.command import A_READ, CHANGES_DATA, Identify, Kind, Operation
from aoe.errors import DiskError, NoThread, Outdated
from aoe.target.age import AgeGate
from aoe.target.background import Leeway
from aoe.target.effects import EVERYONE, Conflict, Delay, Effect, Forged, Met, Peek, Persist, Send, Submit
from aoe.target.export import Arrival, Change, Export, Job, Port
from aoe.target.rates import Rates, patience_ns
from aoe.target.state import AoeState, Verdict, bounds, decide, mask_body
from aoe.target.streams import Place
from aoe.target.work import ANSWERED, READ, WRITTEN, Crowd, Work
from aoe.wire import ata, config, frame, mask, opcodes, protocol, reserve
from aoe.wire.ata import AtaReply, AtaRequest
from aoe.wire.config import ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_RESPONSE, Command, Error, Fault, Header
from aoe.wire.reserve import Reserve
from aoe.wire.stamp import BACKGROUND, stamp_of

_LIMITED = frozenset({Kind.READ, Kind.WRITE, Kind.VERIFY, Kind.TRIM})
"""What counts against the limits of an export."""
_ATA = int(Command.ATA)
"""Members of an enumeration are looked up in Python, for each request."""
_READ_ANSWERED = ANSWERED[Kind.READ]
_SWITCHES = frozenset({Kind.CACHE_ON, Kind.CACHE_OFF})
FIRMWARE = 1
"""Firmware Version in config replies."""


class Responder:
    """Answers on `ports` for the exports that are admitted. Unsafe for threads; owns the gate, the order and
    the counters.

    `frame_age_ns` bounds how long a change may have waited (rule T3), `buffer_count` is advertised,
    `remote_admin` false refuses changes of config string, mask list and reservation from the network.
    """

    def __init__(
        self,
        ports: Iterable[Port],
        *,
        frame_age_ns: int = int(timing.FRAME_AGE_DEFAULT_S * 1e9),
        buffer_count: int = limits.BUFFER_COUNT_DEFAULT_MAX,
        remote_admin: bool = True,
        remote_masks: bool = True,
    ) -> None:
        self.exports: dict[tuple[int, int], Export] = {}
        self.ports = list(ports)
        self.age = AgeGate(frame_age_ns)
        self.buffer_count = buffer_count
        self.remote_admin = remote_admin
        self.remote_masks = remote_admin and remote_masks
        self.counters: Counter[str] = Counter()
        self._crowd = Crowd()
        self._leeway = Leeway()
        self._works: list[Work] = []
        self.active = 0
        """Jobs and changes admitted and not yet finished."""
        self._held_bytes = 0
        self._boottime_ns = 0

    def admit(self, export: Export) -> None:
        """Answer for one more."""
        assert export.key not in self.exports, "its address is free"
        self.exports[export.key] = export
        export.work.begin(self._crowd, self._boottime_ns)
        export.queue.share(self._leeway)
        self._works.append(export.work)

    def dismiss(self, export: Export) -> None:
        """Take no request for an export any more. What was admitted comes to its end."""
        del self.exports[export.key]
        export.work.end()
        self._works.remove(export.work)

    # What happens outside

    def clock(self, realtime_ns: int, boottime_ns: int) -> bool:
        """Both clocks, before the frames of a pass are taken; whether REALTIME was stepped."""
        self._boottime_ns = boottime_ns
        self._crowd.sweep(self._works, boottime_ns)
        stepped = self.age.observe(realtime_ns, boottime_ns)
        if stepped:
            self.counters["clock_stepped"] += 1
            for port in self.ports:
                port.suspect = True
            for export in self.exports.values():
                export.streams.clock_stepped(realtime_ns)
        return stepped

    def receive(
        self,
        port: Port,
        origin: Hashable,
        raw: bytes,
        stamp_ns: int,
        now_ns: int,
        judged: Place | None = None,
        ticket: int = 0,
    ) -> list[Effect]:
        """A frame came in: `stamp_ns` is when the kernel received it, both times CLOCK_REALTIME. `judged`: an
        engine, which sees more frames than come up to us, took care of streams; and what an IDENTIFY came to.
        `ticket` (0: none) is its place there: in `Export.tickets` as long as there is something to do.
        """
        header = frame.decode(raw)
        if isinstance(header, Fault):
            return self._drop(header)
        if header.flags & FLAG_RESPONSE:
            return self._conflict(header)
        if header.dst not in (port.mac, BROADCAST):
            return self._drop("foreign_destination")
        if frame.is_group(header.src):
            return self._drop("group_source")
        era = self.age.era - 1 if port.suspect else self.age.era
        export = self.exports.get((header.shelf, header.slot))
        if export is not None and export.is_on(port):
            return self._gate(
                export, Arrival(port, origin, header, raw, stamp_ns, era, False, judged, ticket), now_ns
            )
        if header.shelf != protocol.SHELF_ALL and header.slot != protocol.SLOT_ALL:
            return self._drop("other_address")
        arrival = Arrival(port, origin, header, raw, stamp_ns, era, True)
        here = (export for export in self.exports.values() if export.is_on(port))
        matching = [export for export in here if export.matches(header.shelf, header.slot)]
        return [effect for export in matching for effect in self._gate(export, arrival, now_ns)]

    def drained(self, port: Port) -> None:
        """Everything the port held when the last pass began has been handed in."""
        port.suspect = False

    def complete(self, job: Job, data: bytes, error: DiskError | None, now_ns: int) -> list[Effect]:
        """The disk is done with a job: `data` is what a READ returned."""
        effects: list[Effect] = []
        if isinstance(error, NoThread | Outdated):  # the client asks again
            self._count("no_thread" if isinstance(error, NoThread) else "stale", job.export)
        else:
            if error is not None:
                self._count("disk_errors", job.export)
            job.answered(error, now_ns, self._boottime_ns)
            reply = drive.conclude(job.request, job.operation, data, error)
            effects += self._reply_ata(job.export, job.arrival, reply)
        effects += self._finish(job)
        return self._pump(job.export, now_ns, effects)

    def waits(self, job: Job) -> None:
        """The disk has it."""
        job.submitted_ns = self._boottime_ns

    def persisted(self, change: Change, ok: bool, now_ns: int) -> list[Effect]:
        """The state of a change is on stable storage, or could not be put there."""
        change.persisted = True
        if not ok:
            self._count("state_not_saved", change.export)
            change.export.revert(change)
        return self._settle(change, now_ns)

    def advertise(self, port: Port, exports: Iterable[Export]) -> list[Effect]:
        """The unsolicited config reply of exports: to all, or one for each MAC of a mask list."""
        effects: list[Effect] = []
        if not port.sectors:
            return effects
        for export in exports:
            for dst in (export.state.mask or (BROADCAST,)) if export.is_on(port) else ():
                to = Header(dst, port.mac, frame.VERSION, FLAG_RESPONSE, 0, *export.key, Command.CONFIG, 0)
                body = self._config_body(export.state.config, port, ConfigCommand.READ)
                effects.append(Send(port, EVERYONE, frame.encode(to, body)))
        return effects

    # The gate

    def _gate(self, export: Export, arrival: Arrival, now_ns: int) -> list[Effect]:
        """Which host may do what, for every message, in one place."""
        header = arrival.header
        if not export.admits(header.src):
            return self._drop("masked", export)
        if arrival.wildcard and not self._wildcard_runs(arrival):
            return self._drop("wildcard", export)
        if header.version != frame.VERSION:
            self._count("bad_version", export)
            return self._refuse_version(export, arrival)
        if not arrival.port.sectors:
            return self._drop("mtu_too_small", export)
        if header.command == _ATA:
            return self._ata(export, arrival, now_ns)
        if header.command in (Command.CONFIG, Command.MASK, Command.RESERVE):
            return self._admin(export, arrival, now_ns)
        self._count("unknown_command", export)
        return self._refuse(export, arrival, Error.UNRECOGNIZED_COMMAND)

    def _wildcard_runs(self, arrival: Arrival) -> bool:
        """Order rule T7: an address that means many runs only what cannot harm many."""
        header = arrival.header
        if header.version != frame.VERSION:
            return False
        if header.command == Command.ATA:
            return ata.command_of(arrival.frame) == opcodes.IDENTIFY_DEVICE
        return header.command == Command.CONFIG

    def _expired(self, export: Export, arrival: Arrival, now_ns: int) -> bool:
        if not self.age.expired(arrival.stamp_ns, now_ns, arrival.era):
            return False
        self._count("expired", export)
        return True

    # ATA

    def _stale(self, export: Export, arrival: Arrival, opcode: int, now_ns: int) -> bool:
        """Order rule T9. What is older than the age test allows says nothing of epochs: it may be of one that
        was there before the present ones came round. A FLUSH that old must not vouch for its epoch."""
        stamp = stamp_of(arrival.frame) if arrival.judged is None else None
        if stamp is None:
            return False
        src, tag = arrival.header.src, arrival.header.tag
        if stamp.instance != export.identity.instance or export.streams.stale(src, stamp, tag):
            return True
        if self.age.expired(arrival.stamp_ns, now_ns, arrival.era):
            return opcode in opcodes.FLUSHES
        export.streams.see(src, stamp, tag, arrival.stamp_ns)
        return False

    def _place(self, export: Export, arrival: Arrival, now_ns: int) -> Place | None:
        """Whether the stream that an IDENTIFY names is known from now on (order rule T9); None where it names
        none, or names it to an earlier life of ours. One that is too old may be a repetition of long ago: it
        makes no stream known, and is told which are."""
        stamp = stamp_of(arrival.frame)
        if stamp is None or stamp.instance != export.identity.instance:
            return None
        if arrival.judged is not None:
            return arrival.judged
        if arrival.wildcard:
            return Place.NONE
        if self.age.expired(arrival.stamp_ns, now_ns, arrival.era):
            return export.streams.place(arrival.header.src, stamp, arrival.header.tag)
        since_ns = arrival.stamp_ns - timing.NETWORK_LIFETIME_NS - self.age.age_max_ns
        return export.streams.register(
            arrival.header.src, stamp, arrival.header.tag, arrival.stamp_ns, since_ns
        )

    def _ata(self, export: Export, arrival: Arrival, now_ns: int) -> list[Effect]:
        request = ata.decode_request(arrival.frame)
        if isinstance(request, Fault):
            return self._drop(request, export)
        identifies = request.command == opcodes.IDENTIFY_DEVICE
        if identifies and not arrival.wildcard and export.meets(arrival.header.src):
            return [Met(export, arrival.port, arrival.header.src), *self._ata(export, arrival, now_ns)]
        if not identifies and not export.holds(arrival.header.src):
            self._count("reserved", export)
            return self._refuse(export, arrival, Error.RESERVED)
        if request.command in drive.STAMPED:
            if self._stale(export, arrival, request.command, now_ns):
                return self._drop("stale", export)
            if request.command == opcodes.DATA_SET_MANAGEMENT and stamp_of(arrival.frame) is not None:
                request = request._replace(lba=0)  # its epoch is where replies name the sector that failed
        meant = drive.interpret(request, export.drive, arrival.port.sectors)
        if isinstance(meant, Operation):
            return self._admit(export, arrival, request, meant, now_ns)
        if meant is Identify.DEVICE:
            self._count("identify", export)
            place = self._place(export, arrival, now_ns)
            if not (arrival.wildcard or arrival.judged is not None):  # an engine was told, too
                can_wait = place is not None and request.lba & BACKGROUND != 0
                export.background.says(arrival.header.src, can_wait)
            if place is not None:
                export.departures.tell(arrival.header.src, request.lba, self._boottime_ns)
            answer = self._reply_ata(export, arrival, drive.done(request, export.identify_for(place)))
            return [Forged(export, arrival.header.src), *answer] if place is Place.ANEW else answer
        self._count("refused_ata" if meant.status & drive.ERROR else "no_data_commands", export)
        return self._reply_ata(export, arrival, meant)

    def _admit(
        self, export: Export, arrival: Arrival, request: AtaRequest, operation: Operation, now_ns: int
    ) -> list[Effect]:
        kind = operation.kind
        if kind in CHANGES_DATA and self._expired(export, arrival, now_ns):
            return []
        if export.rates is not None and arrival.judged is None and kind in _LIMITED:  # else the engine did
            return self._limit(export.rates, export, arrival, request, operation, now_ns)
        if kind is A_READ and export.queue.lets_read:
            return [Peek(export, arrival, request, operation)]
        return self._queue(export, arrival, request, operation, now_ns)

    def _limit(
        self,
        rates: Rates,
        export: Export,
        arrival: Arrival,
        request: AtaRequest,
        operation: Operation,
        now_ns: int,
    ) -> list[Effect]:
        """The same within limits: at once, later, or not at all."""
        until_ns = rates.begins_ns(arrival.header.src, self._boottime_ns)
        if until_ns - self._boottime_ns > patience_ns(self.age.age_max_ns):
            return self._drop("limited", export)
        if operation.kind is A_READ and export.queue.lets_read and until_ns <= self._boottime_ns:
            self._pay(rates, arrival, operation)
            return [Peek(export, arrival, request, operation)]
        return self._queue(export, arrival, request, operation, now_ns, until_ns=until_ns)

    def _pay(self, rates: Rates, arrival: Arrival, operation: Operation) -> None:
        """What a limit counts are the bytes on the wire: a VERIFY and a TRIM are a request alone."""
        rates.pay(arrival.header.src, operation.moves, self._boottime_ns)

    def go_on(self, export: Export, now_ns: int) -> list[Effect]:
        """Something does not wait for a snapshot any more."""
        return self._pump(export, now_ns, [])

    def due(self, delay: Delay, now_ns: int) -> list[Effect]:
        """Its time has come."""
        if delay.ticket is None:
            delay.export.queue.rested(delay.until_ns)
        else:
            delay.export.queue.let_go(delay.ticket)
        return self._pump(delay.export, now_ns, [])

    def peeked(self, peek: Peek, data: bytes | None, now_ns: int) -> list[Effect]:
        """What a Peek brought; None if it would have had to wait, and takes its place in the order."""
        if data is None:
            return self._queue(*peek, now_ns, peeked=True)
        self.counters["reads"] += 1
        export, arrival = peek.export, peek.arrival
        if arrival.judged is None:
            header = arrival.header
            export.work.asked(header.src, header.tag, READ, len(data), self._boottime_ns)
        export.work.answered(_READ_ANSWERED, len(data), now_ns - arrival.stamp_ns)
        return self._reply_ata(export, arrival, drive.done(peek.request, data))

    def _queue(
        self,
        export: Export,
        arrival: Arrival,
        request: AtaRequest,
        operation: Operation,
        now_ns: int,
        *,
        peeked: bool = False,
        until_ns: int | None = None,
    ) -> list[Effect]:
        # Only the operation holds the payload on.
        job = Job(export, arrival._replace(frame=b""), request._replace(data=b""), operation, peeked=peeked)
        if not operation.extents:
            job.ask_of(stamp_of(arrival.frame))
        if len(export.queue) >= limits.EXPORT_QUEUE_MAX or not self._has_room(export, job.size):
            return self._drop("queue_full", export)
        kind = operation.kind
        self.counters[kind] += 1
        client = arrival.header.src
        if arrival.judged is None and kind not in _SWITCHES:
            tag, direction = arrival.header.tag, READ if kind is A_READ else WRITTEN
            client = export.work.asked(client, tag, direction, operation.moves, self._boottime_ns)
        export.queue.depth.asks(client, self._boottime_ns)
        self.active += 1
        self._held_bytes += job.size
        if until_ns is not None:
            assert export.rates is not None, "it is limited"
            self._pay(export.rates, arrival, operation)
        if until_ns is None or until_ns <= self._boottime_ns:
            export.begin(job, client)
            return self._pump(export, now_ns, [])
        ticket = export.begin(job, client, held=True)
        return self._pump(export, now_ns, [Delay(export, ticket, until_ns)])

    def _has_room(self, export: Export, size: int) -> bool:
        """Half of the bytes go to whichever export comes first. The other half is shared out, so that disks
        that hang leave each other export its share, or one request."""
        held = self._held_bytes + size
        if 2 * held <= limits.TARGET_BYTES_MAX:
            return True
        share = max(size, limits.TARGET_BYTES_MAX // (2 * len(self.exports)))
        return held <= limits.TARGET_BYTES_MAX and export.held_bytes + size <= share

    def _pump(self, export: Export, now_ns: int, effects: list[Effect]) -> list[Effect]:
        """Start whatever may run now; the age is tested once more, just before the disk gets it."""
        while (entry := export.take(now_ns - self.age.age_max_ns // 2)) is not None:
            if isinstance(entry, Change):
                effects += self._settle(entry, now_ns)
            elif entry.operation.kind in CHANGES_DATA and self._expired(export, entry.arrival, now_ns):
                effects += self._finish(entry)
            else:
                effects.append(Submit(entry))
        return effects

    def _finish(self, job: Job) -> list[Effect]:
        rests_ns = job.export.finish(job, self._boottime_ns)
        self.active -= 1
        self._held_bytes -= job.size
        return [Delay(job.export, None, rests_ns)] if rests_ns else []

    # Config, mask, reserve

    def _admin(self, export: Export, arrival: Arrival, now_ns: int) -> list[Effect]:
        """Messages that arrive while a change is on its way wait for it: no host sees half of one."""
        if export.changing is None:
            return self._decide(export, arrival, now_ns)
        return [] if export.postpone(arrival) else self._drop("queue_full", export)

    def _decide(self, export: Export, arrival: Arrival, now_ns: int) -> list[Effect]:
        header, before = arrival.header, export.state
        bound = bounds(min(port.mtu for port in self.ports if port.sectors))
        masks = self.remote_masks and export.remote_masks
        allowed = masks if header.command == Command.MASK else self.remote_admin
        verdict = decide(before, header.command, arrival.frame, header.src, bound, allowed)
        if isinstance(verdict, Fault):
            return self._drop(verdict, export)
        if verdict.silent:
            return self._drop("config_mismatch", export)
        if not verdict.changes:
            self._count("refused_admin" if verdict.error or verdict.mask_error else "queries", export)
            return self._reply_admin(export, arrival, verdict)
        if self._expired(export, arrival, now_ns):
            return []
        return self._begin(Change(export, arrival, before, verdict), now_ns)

    def restate(self, export: Export, state: AoeState, now_ns: int) -> list[Effect]:
        """As a host may change it, but by the administrator, which no host is told; none may be under way."""
        assert export.changing is None, "one change at a time"
        return self._begin(Change(export, None, export.state, Verdict(state, changes=True)), now_ns)

    def _begin(self, change: Change, now_ns: int) -> list[Effect]:
        self._count("changes", change.export)
        self.active += 1
        change.export.change(change)
        return self._pump(change.export, now_ns, [Persist(change)])

    def _settle(self, change: Change, now_ns: int) -> list[Effect]:
        """Acknowledge a change once it is both stored and drained, then let the waiting ones on."""
        if not (change.persisted and change.drained):
            return []
        export = change.export
        failure = Verdict(change.before, error=Error.DEVICE_UNAVAILABLE)
        effects: list[Effect] = []
        if change.arrival is not None:
            effects = self._reply_admin(export, change.arrival, failure if change.failed else change.verdict)
        export.settle()
        self.active -= 1
        while (arrival := export.resume()) is not None:
            effects += self._gate(export, arrival, now_ns)
        return effects

    # Answers

    def _reply_admin(self, export: Export, arrival: Arrival, verdict: Verdict) -> list[Effect]:
        asked, command = arrival.frame, arrival.header.command
        if command == Command.CONFIG:
            body = self._config_body(verdict.state.config, arrival.port, config.ccmd_of(asked))
        elif command == Command.MASK:
            body = mask_body(verdict, mask.mcmd_of(asked))
        else:
            body = reserve.encode(Reserve(reserve.rcmd_of(asked), verdict.state.reserve))
        return self._reply(export, arrival, verdict.error, body)

    def _config_body(self, text: bytes, port: Port, ccmd: int) -> bytes:
        """A string set under a larger MTU is cut to what fits: discovery must go on."""
        fits = text[: protocol.config_string_max(port.mtu)]
        return config.encode(config.reply(ccmd, fits, self.buffer_count, FIRMWARE, port.sectors))

    def _reply_ata(self, export: Export, arrival: Arrival, reply: AtaReply) -> list[Effect]:
        return self._reply(export, arrival, 0, ata.encode_registers(reply), reply.data)

    def _reply(
        self, export: Export, arrival: Arrival, error: int, body: bytes, data: bytes = b""
    ) -> list[Effect]:
        port = arrival.port
        raw = frame.encode_answer(arrival.header, port.mac, export.shelf, export.slot, error, body, data)
        if len(raw) > port.mtu + protocol.ETHERNET_HEADER:
            return self._drop("reply_too_long", export)
        return [Send(port, arrival.origin, raw)]

    def _refuse_version(self, export: Export, arrival: Arrival) -> list[Effect]:
        """What config, mask and reserve replies say is our state, with the E flag, too."""
        if arrival.header.command in (Command.CONFIG, Command.MASK, Command.RESERVE):
            known = export.changing.before if export.changing else export.state
            verdict = Verdict(known, error=Error.UNSUPPORTED_VERSION)
            return self._reply_admin(export, arrival, verdict)
        return self._refuse(export, arrival, Error.UNSUPPORTED_VERSION)

    def _refuse(self, export: Export, arrival: Arrival, error: Error) -> list[Effect]:
        """An AoE error; RESERVED and the like echo the registers, as clients expect 36 bytes there."""
        return self._reply(export, arrival, error, arrival.frame[protocol.AOE_HEADER : protocol.ATA_HEADER])

    def _conflict(self, header: Header) -> list[Effect]:
        export = self.exports.get((header.shelf, header.slot))
        if export is None or any(header.src == port.mac for port in self.ports):
            return self._drop("response")
        self._count("address_claimed", export)
        return [Conflict(export, header.src)]

    def _drop(self, reason: str, export: Export | None = None) -> list[Effect]:
        if export is None:
            self.counters[reason] += 1
        else:
            self._count(reason, export)
        return []

    def _count(self, what: str, export: Export) -> None:
        self.counters[what] += 1
        export.work.count(what)
