"""A responder with a memory for a disk: frames in, frames out, no event loop and no clock.

The frames are built here by hand, so that a mistake of `aoe.wire` is not made twice.
"""

import struct
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

from aoe.drive.command import Kind
from aoe.drive.identify import Identity
from aoe.errors import DiskError
from aoe.target.effects import EVERYONE, Conflict, Delay, Effect, Peek, Persist, Send, Submit
from aoe.target.export import Change, Export, Job, Port
from aoe.target.responder import Responder

CLIENT = bytes.fromhex("020000000001")
RIVAL = bytes.fromhex("020000000002")
STRANGER = bytes.fromhex("020000000003")
SERVER = bytes.fromhex("0200000000fe")
BROADCAST = b"\xff" * 6
SHELF, SLOT = 7, 3
TAG = 0x01020304
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
SECOND = 1000 * MS

_HEADER = struct.Struct("!6s6sHBBHBBI")


# Requests


def framed(
    command: int,
    body: bytes = b"",
    *,
    dst: bytes = SERVER,
    src: bytes = CLIENT,
    verfl: int = 0x10,
    error: int = 0,
    shelf: int = SHELF,
    slot: int = SLOT,
    tag: int = TAG,
) -> bytes:
    return _HEADER.pack(dst, src, 0x88A2, verfl, error, shelf, slot, command, tag) + body


def registers(status: int, count: int, command: int, lba: int, aflags: int = 0) -> bytes:
    return bytes((aflags, status, count, command)) + lba.to_bytes(6, "little") + bytes(2)


def ata(
    command: int,
    count: int = 1,
    lba: int = 0,
    data: bytes = b"",
    *,
    feature: int = 0,
    aflags: int = 0,
    **to: Any,
) -> bytes:
    return framed(0, registers(feature, count, command, lba, aflags) + data, **to)


def read(lba: int, count: int = 1, **to: Any) -> bytes:
    return ata(0x24, count, lba, aflags=0x40, **to)


def write(lba: int, data: bytes, **to: Any) -> bytes:
    return ata(0x34, len(data) // 512, lba, data, aflags=0x41, **to)


def identify(**to: Any) -> bytes:
    return ata(0xEC, **to)


def flush(**to: Any) -> bytes:
    return ata(0xEA, 0, **to)


def cache(on: bool, **to: Any) -> bytes:
    return ata(0xEF, 0, feature=0x02 if on else 0x82, **to)


def trim(*ranges: tuple[int, int], **to: Any) -> bytes:
    data = b"".join(struct.pack("<Q", lba | sectors << 48) for lba, sectors in ranges)
    blocks = max(1, -(-len(data) // 512))
    return ata(0x06, blocks, 0, data.ljust(512 * blocks, b"\0"), feature=1, aflags=0x41, **to)


def config(ccmd: int, text: bytes = b"", length: int | None = None, **to: Any) -> bytes:
    declared = len(text) if length is None else length
    return framed(1, bytes((0, 0, 0, 0, 0, ccmd)) + declared.to_bytes(2, "big") + text, **to)


def mask(
    mcmd: int, *directives: tuple[int, bytes], count: int | None = None, merror: int = 0, **to: Any
) -> bytes:
    entries = b"".join(bytes((0, dcmd)) + mac for dcmd, mac in directives)
    return framed(2, bytes((0, mcmd, merror, len(directives) if count is None else count)) + entries, **to)


def reserve(rcmd: int, *macs: bytes, count: int | None = None, **to: Any) -> bytes:
    return framed(3, bytes((rcmd, len(macs) if count is None else count)) + b"".join(macs), **to)


TRAILER = bytes.fromhex("d31fb64a")


def stamped(raw: bytes, stream: int, epoch: int, instance: int, tag: int) -> bytes:
    """A frame of our initiator: a stream, an epoch, the highest bit of its tag, a trailer behind the data."""
    end = 36 if raw[27] in (0xE7, 0xEA, 0xEC) else 36 + 512 * raw[26]
    at = 28 if raw[27] == 0x06 else 25
    head = raw[:20] + (1 << 31 | tag).to_bytes(4, "big") + raw[24:at] + bytes((epoch,)) + raw[at + 1 : 34]
    return head + stream.to_bytes(2, "big") + raw[36:end] + TRAILER + instance.to_bytes(8, "little")


# Replies


class Reply(NamedTuple):
    """A reply's header and all the bytes after it."""

    dst: bytes
    src: bytes
    ethertype: int
    verfl: int
    error: int
    shelf: int
    slot: int
    command: int
    tag: int
    body: bytes

    @property
    def status(self) -> tuple[int, int]:
        """ATA status and error register."""
        return self.body[3], self.body[1]

    @property
    def lba(self) -> int:
        return int.from_bytes(self.body[4:10], "little")

    @property
    def data(self) -> bytes:
        return self.body[12:]

    @property
    def text(self) -> bytes:
        """The config string."""
        return self.body[8 : 8 + int.from_bytes(self.body[6:8], "big")]

    @property
    def listed(self) -> list[bytes]:
        """The MACs of a mask or reserve list."""
        if self.command == 3:
            return [self.body[2 + 6 * i : 8 + 6 * i] for i in range(self.body[1])]
        return [self.body[6 + 8 * i : 12 + 8 * i] for i in range(self.body[3])]


def parse(raw: bytes) -> Reply:
    dst, src, ethertype, verfl, error, shelf, slot, command, tag = _HEADER.unpack_from(raw)
    return Reply(dst, src, ethertype, verfl, error, shelf, slot, command, tag, raw[24:])


def message_length(reply: Reply) -> int:
    """Where the message ends and the padding begins, by the reply's own lengths."""
    if reply.error == 1 or (reply.error and reply.command not in (1, 2, 3)):
        return 36
    if reply.command == 0:
        return 24 + len(reply.body) if len(reply.body) >= 12 + 512 else 36
    if reply.command == 1:
        return 32 + len(reply.text)
    if reply.command == 2:
        return 28 if reply.body[2] else 28 + 8 * reply.body[3]
    return 26 + 6 * reply.body[1]


def check_reply(raw: bytes, port: Port, keys: Iterable[tuple[int, int]]) -> None:
    """What holds of every frame that a target sends."""
    reply = parse(raw)
    assert 60 <= len(raw) <= port.mtu + 14
    assert (reply.src, reply.ethertype) == (port.mac, 0x88A2)
    assert reply.verfl == (0x1C if reply.error else 0x18)
    assert (reply.shelf, reply.slot) in keys
    end = message_length(reply)
    assert len(raw) == max(60, end)
    assert not any(raw[end:])


# The driver


class Touch(NamedTuple):
    """One operation that reached the disk."""

    kind: Kind
    extents: tuple[tuple[int, int], ...]
    data: bytes = b""


class Asked(NamedTuple):
    src: bytes
    command: int
    port: Port
    origin: Hashable


class Driver:
    """Hands frames to a responder and does what it says, at once or, where `held`, when told to.

    `log` is what reached the disks, `jobs` and `changes` what is held, `now_ns` the clock.
    """

    def __init__(self, responder: Responder) -> None:
        self.responder = responder
        self.disks = {key: bytearray(512 * e.drive.sectors) for key, e in responder.exports.items()}
        self.now_ns = START_NS
        self.held = False
        self.checked = True
        self.log: list[Touch] = []
        self.jobs: list[Job] = []
        self.changes: list[Change] = []
        self.conflicts: list[Conflict] = []
        self.delays: list[Delay] = []
        self.saves = True
        self.error: DiskError | None = None
        self._asked: dict[int, Asked] = {}

    @property
    def port(self) -> Port:
        return self.responder.ports[0]

    @property
    def export(self) -> Export:
        return next(iter(self.responder.exports.values()))

    @property
    def disk(self) -> bytearray:
        return self.disks[self.export.key]

    @property
    def counters(self) -> dict[str, int]:
        return dict(self.responder.counters)

    def send(
        self, raw: bytes, *, port: Port | None = None, age_ns: int = 0, origin: Hashable = "origin"
    ) -> list[bytes]:
        """A frame comes in, received `age_ns` ago; the frames that leave because of it."""
        port = port or self.port
        if self.checked and len(raw) >= 24:
            header = parse(raw)
            self._asked[header.tag] = Asked(header.src, header.command, port, origin)
        return self.perform(self.responder.receive(port, origin, raw, self.now_ns - age_ns, self.now_ns))

    def ask(self, raw: bytes, **how: Any) -> Reply:
        """The one reply to a frame."""
        (reply,) = self.send(raw, **how)
        return parse(reply)

    def perform(self, effects: Iterable[Effect]) -> list[bytes]:
        """Do effects in their order; the frames that were sent."""
        todo, sent = deque(effects), []
        while todo:
            effect = todo.popleft()
            if isinstance(effect, Send):
                if self.checked:
                    self._check(effect)
                sent.append(effect.frame)
            elif isinstance(effect, Peek):
                todo.extend(self.responder.peeked(effect, self._peek(effect), self.now_ns))
            elif isinstance(effect, Submit):
                self.jobs.append(effect.job)
                if not self.held:
                    todo.extend(self._run(effect.job))
            elif isinstance(effect, Delay):
                self.delays.append(effect)
            elif isinstance(effect, Persist):
                self.changes.append(effect.change)
                if not self.held:
                    todo.extend(self._persisted(effect.change, self.saves))
            else:
                self.conflicts.append(effect)
        return sent

    def finish(self, job: Job | None = None, error: DiskError | None = None) -> list[bytes]:
        """The disk is done with a held job, the oldest unless told which."""
        return self.perform(self._run(job or self.jobs[0], error))

    def wait(self, ns: int) -> list[bytes]:
        """So much time passes; what a limit had delayed begins."""
        until_ns = self.now_ns + ns
        sent = []
        while (first := min(self.delays, key=lambda it: it.until_ns, default=None)) is not None:
            if first.until_ns > until_ns:
                break
            self.delays.remove(first)
            self.clock(first.until_ns, first.until_ns)
            sent += self.perform(self.responder.due(first, self.now_ns))
        self.clock(until_ns, until_ns)
        return sent

    def persist(self, ok: bool = True) -> list[bytes]:
        """The oldest held change was stored, or not."""
        return self.perform(self._persisted(self.changes[0], ok))

    def clock(self, realtime_ns: int, boottime_ns: int) -> None:
        self.now_ns = realtime_ns
        self.responder.clock(realtime_ns, boottime_ns)

    def _run(self, job: Job, error: DiskError | None = None) -> list[Effect]:
        self.jobs.remove(job)
        error = error or self.error
        data = b"" if error else self._touch(job)
        return self.responder.complete(job, data, error, self.now_ns)

    def _persisted(self, change: Change, ok: bool) -> list[Effect]:
        self.changes.remove(change)
        return self.responder.persisted(change, ok, self.now_ns)

    def _peek(self, peek: Peek) -> bytes | None:
        """A disk that holds requests back, or fails, has nothing at hand."""
        return None if self.held or self.error else self._touch(peek)

    def _touch(self, job: Job | Peek) -> bytes:
        operation, disk = job.operation, self.disks[job.export.key]
        self.log.append(Touch(operation.kind, operation.extents, operation.data))
        for lba, sectors in operation.extents:
            place = slice(512 * lba, 512 * (lba + sectors))
            assert place.stop <= len(disk), "outside the disk"
            if operation.kind is Kind.READ:
                return bytes(disk[place])
            if operation.kind is Kind.WRITE:
                disk[place] = operation.data
            elif operation.kind is Kind.TRIM:
                disk[place] = bytes(512 * sectors)
        return b""

    def _check(self, effect: Send) -> None:
        check_reply(effect.frame, effect.port, self.responder.exports)
        reply = parse(effect.frame)
        if effect.origin is EVERYONE:
            assert (reply.tag, reply.command, reply.verfl) == (0, 1, 0x18)
            return
        asked = self._asked[reply.tag]
        assert asked == Asked(reply.dst, reply.command, effect.port, effect.origin)


def make_export(shelf: int = SHELF, slot: int = SLOT, sectors: int = 2048, **how: Any) -> Export:
    """An export with TRIM, of 1 MiB unless told."""
    about = {"trim_blocks": 8, "trim_zeroes": True, **how.pop("identity", {})}
    return Export(shelf, slot, Identity(sectors, f"SERIAL{shelf}.{slot}", **about), **how)


def make_driver(*exports: Export, mtu: int = 9000, ports: int = 1, **how: Any) -> Driver:
    """A driver over `ports` interfaces; the first has the MAC `SERVER`, the next ones count up."""
    first = int.from_bytes(SERVER, "big")
    over = [Port(f"port{i}", (first + i).to_bytes(6, "big"), mtu) for i in range(ports)]
    responder = Responder(over, **how)
    for export in exports or [make_export()]:
        responder.admit(export)
    return Driver(responder)
