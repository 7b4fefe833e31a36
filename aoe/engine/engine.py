"""The compiled engine as a Python object. What its functions mean stands in csrc/engine.h."""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from aoe import limits, timing
from aoe.errors import AoeError
from aoe.link.packet_sockets import Ring
from aoe.metrics.table import CLIENT, EXPORT, TARGET, THREAD, length_of
from aoe.wire.stamp import StreamLeft

_ffi: Any = None
_lib: Any = None
_reason: str | None = None
try:
    from aoe.engine import _engine  # type: ignore[attr-defined,unused-ignore]

    _ffi, _lib = _engine.ffi, _engine.lib
except ImportError as error:
    _reason = f"it is not built ({error}); install gcc, python3-dev and liburing-dev, then this package again"

NO_EXPORT = 0xFFFFFFFF

_COUNTED = tuple(row for row in TARGET if row.at >= 0)
_CLIENT_WORDS = length_of(CLIENT) + 1


class EngineUnavailable(AoeError):
    """The engine cannot be used here; the text says why and what to do."""


class PortFacts(NamedTuple):
    """`sectors` is the most a request may carry there; 0 serves nothing."""

    mac: bytes
    sectors: int


class ExportFacts(NamedTuple):
    """An export as the gate in C sees it. `base` is in bytes, `block` too; `sectors` are 512 bytes.

    `memory` says that the store never makes anyone wait, `failed` that a sync failed: whatever changes or
    syncs is then left to Python, `remote` that another program serves it, as with FUSE and NFS; `instance` is
    the id that IDENTIFY tells. `trust` is how often a disk was trusted again after a sync that failed.
    `image`: a process of ours serves the store, and ends without that the store has failed.
    `device` is the number of the disk beneath, from 0; `room` how many requests there at a time do not wait.
    `flushes_asked`: Python has each FLUSH. Bit `n` of `elsewhere` is set where the export is not served
    on port `n`. `limits` are requests and bytes a second, of the export and of each host, and the burst in
    nanoseconds; 0: no limit.
    """

    shelf: int
    slot: int
    fd: int
    base: int
    sectors: int
    block: int
    read_only: bool
    durable: bool
    direct: bool
    memory: bool
    failed: bool
    remote: bool
    trust: int
    instance: int
    mask: tuple[bytes, ...]
    reserve: tuple[bytes, ...]
    device: int
    room: int
    elsewhere: int = 0
    flushes_asked: bool = False
    image: bool = False
    limits: tuple[int, ...] = ()


class CutState(NamedTuple):
    """How far a snapshot is: one of AOE_CUT_* in csrc/engine.h, the errno of one that failed, and how many
    ranges are cloned."""

    stage: int
    error: int
    cloned: int

    @property
    def holds(self) -> bool:
        """Whether the changes are over that had begun before it."""
        return bool(self.stage >= _lib.AOE_CUT_HOLDS)

    @property
    def is_over(self) -> bool:
        """Whether it is whole, failed or has been ended."""
        return self.stage in (_lib.AOE_CUT_NONE, _lib.AOE_CUT_WHOLE, _lib.AOE_CUT_FAILED)


class Up(NamedTuple):
    """A frame for Python. `ticket` 0 holds no place; `export` is None for a wildcard address.

    `error` is the errno of the disk where the engine tried in vain, negative where a sync failed, else 0;
    `registered` what an IDENTIFY came to that names its stream (order rule T9): 0 it is not known, 1 it is,
    2 and the last one of its host was ended by another host.
    """

    frame: bytes
    stamp_ns: int
    ticket: int
    port: int
    export: int | None
    error: int
    registered: int


def library() -> tuple[Any, Any]:
    """cffi's view of the engine: ffi and lib. EngineUnavailable if it cannot be loaded."""
    if _reason is not None:
        raise EngineUnavailable(_reason)
    return _ffi, _lib


def why_unavailable() -> str | None:
    """Why the engine cannot be loaded; None if it can."""
    return _reason


class Engine:
    """Threads that serve up to `exports_max` exports on `ports`, and later on up to `ports_max`.
    EngineUnavailable where the kernel refuses.

    An index is free until an export is published there, and again once one that was published as `gone` has
    settled. `frame_max` is in bytes with the Ethernet header, `spin_us` the longest busy wait of a thread.
    """

    def __init__(
        self,
        ports: Sequence[PortFacts],
        *,
        exports_max: int,
        ports_max: int = 0,
        frame_max: int,
        frame_age_ns: int,
        threads: int = 1,
        spin_us: int = limits.SPIN_US,
        plain_io: bool = False,
    ) -> None:
        library()
        self._threads = threads
        self._counted: dict[str, int] = {}
        self._thread: dict[int, list[int]] = {}
        ring_frames = max(limits.RING_FRAMES_MIN, limits.RING_BUFFER // frame_max)
        self.ring = Ring(f"{threads} x {ring_frames} x {frame_max}", self._make_ring)
        """What each socket is given."""
        self._frame = _ffi.new("uint8_t[]", frame_max)
        self._up = _ffi.new("aoe_up *")
        self._export = _ffi.new("uint64_t[]", length_of(EXPORT))
        self._clients = _ffi.new("aoe_client[]", limits.CLIENTS_MAX)
        self._other = _ffi.new("uint64_t[]", length_of(CLIENT))
        handle = _ffi.new("aoe_engine **")
        settings = _ffi.new(
            "aoe_settings *",
            {
                "threads": threads,
                "ports": max(ports_max, len(ports)),
                "exports": exports_max,
                "frame_max": frame_max,
                "ring_frames": ring_frames,
                "spin_us": spin_us,
                "queue_max": limits.ENGINE_QUEUE_MAX,
                "places": limits.ENGINE_PLACES,
                "frame_age_ns": frame_age_ns,
                "plain_io": plain_io,
            },
        )
        _checked(_lib.aoe_engine_open(handle, settings))
        self._engine = handle[0]
        for index, port in enumerate(ports):
            self.set_port(index, port)

    @property
    def event(self) -> int:
        """The descriptor that is readable when `take` or `settled` has news."""
        return int(_lib.aoe_engine_event(self._engine))

    @property
    def uses_uring(self) -> bool:
        """Whether the kernel allowed io_uring; if not, threads do its work."""
        return bool(_lib.aoe_engine_uses_uring(self._engine))

    def acknowledge(self) -> None:
        """Make `event` unreadable until there is more."""
        os.eventfd_read(self.event)

    def _make_ring(self, socket: int) -> None:
        _checked(_lib.aoe_engine_make_ring(self._engine, socket))

    def attach(self, thread: int, port: int, socket: int, *, was_used: bool = False) -> None:
        """Give a thread its packet socket, with a `ring`, on a port that has none; one that `was_used` was
        another engine's, and has what came since."""
        _checked(_lib.aoe_engine_attach(self._engine, thread, port, socket, was_used))

    def detach(self, port: int) -> None:
        """Take nothing more from the sockets of a port. `detached` says when they may be closed."""
        _lib.aoe_engine_detach(self._engine, port)

    def detached(self, port: int) -> bool:
        """Whether all that came by a port is over; `event` is readable when it may be."""
        return bool(_lib.aoe_engine_detached(self._engine, port))

    def start(self, cpus: Sequence[int] = ()) -> None:
        """Start the threads, the i-th on cpus[i] where that is given."""
        chosen = [*cpus, *[-1] * self._threads][: self._threads]
        _checked(_lib.aoe_engine_start(self._engine, chosen))

    def set_port(self, index: int, facts: PortFacts) -> None:
        """From now on the port is like this."""
        _lib.aoe_engine_set_port(self._engine, index, _ffi.new("aoe_port *", tuple(facts)))

    def pass_exports(self) -> None:
        """Let the kernel pass requests for the exports that there are, and no others."""
        _checked(_lib.aoe_engine_filter(self._engine))

    def publish(
        self, index: int, facts: ExportFacts, *, gone: bool = False, streams: Sequence[StreamLeft] = ()
    ) -> int:
        """From now on the export is like this, or `gone`: it admits nothing more. A new one goes on with
        these streams (order rule T9). The number to wait for in `settled`."""
        flags = (
            facts.read_only * _lib.AOE_READ_ONLY
            | facts.durable * _lib.AOE_DURABLE
            | facts.direct * _lib.AOE_DIRECT
            | facts.memory * _lib.AOE_INSTANT
            | facts.failed * _lib.AOE_PASS
            | facts.remote * _lib.AOE_REMOTE
            | facts.flushes_asked * _lib.AOE_FLUSHES_UP
            | facts.image * _lib.AOE_IMAGE
            | gone * _lib.AOE_GONE
        )
        macs = _ffi.from_buffer("uint8_t[]", b"".join((*facts.mask, *facts.reserve)))
        left = _ffi.new("aoe_stream[]", [_stream(one) for one in streams])
        export = {
            "fd": facts.fd,
            "shelf": facts.shelf,
            "slot": facts.slot,
            "flags": flags,
            "block": facts.block,
            "base": facts.base,
            "sectors": facts.sectors,
            "instance": facts.instance,
            "trust": facts.trust,
            "device": facts.device,
            "room": facts.room,
            "elsewhere": facts.elsewhere,
            "masked": len(facts.mask),
            "reserved": len(facts.reserve),
            "macs": macs,
            "streams": left,
            "streams_count": len(streams),
            "limits": facts.limits,
        }
        return _checked(_lib.aoe_engine_set_export(self._engine, index, _ffi.new("aoe_export *", export)))

    def cut(self, index: int, of: int, into: int, length: int, step: int) -> int:
        """Begin a snapshot of an export, in a file of `length` bytes, by ranges of `step` bytes; its number.
        OSError."""
        cut = _ffi.new("aoe_cut *", (of, into, length, step, timing.CUT_REST_MAX_NS, limits.CUT_BATCH))
        number = _lib.aoe_engine_cut(self._engine, index, cut)
        if number < 0:
            raise OSError(-number, os.strerror(-number))
        return int(number)

    def cut_goes(self, index: int, number: int) -> None:
        """Let changes go on, each when what it touches is cloned."""
        _lib.aoe_engine_cut_ask(self._engine, index, number, _lib.AOE_CUT_GOES)

    def cut_ends(self, index: int, number: int) -> None:
        """Let changes go on as without a snapshot."""
        _lib.aoe_engine_cut_ask(self._engine, index, number, _lib.AOE_CUT_ENDS)

    def cut_state(self, index: int, number: int) -> CutState:
        """How far it is; `event` is readable when that may have changed."""
        state = _ffi.new("aoe_cut_state *")
        _lib.aoe_engine_cut_look(self._engine, index, number, state)
        return CutState(state.stage, state.error, state.cloned)

    def set_frame_age(self, frame_age_ns: int) -> None:
        """Drop changes that waited longer (order rule T3)."""
        _lib.aoe_engine_set_age(self._engine, frame_age_ns)

    def settled(self, index: int) -> int:
        """The number before which everything admitted to the export is complete (order rule T5)."""
        return int(_lib.aoe_engine_settled(self._engine, index))

    def numbers(self, index: int) -> tuple[list[int], list[tuple[bytes, list[int]]], list[int]]:
        """Of an export, by the rows of EXPORT; and by those of CLIENT, of each client by its MAC, and of all
        others together. No thread is asked for them."""
        count = _lib.aoe_engine_numbers(self._engine, index, self._export, self._clients, self._other)
        words = _ffi.unpack(_ffi.cast("uint64_t *", self._clients), count * _CLIENT_WORDS)
        clients = [
            (words[at].to_bytes(8, "little")[:6], words[at + 1 : at + _CLIENT_WORDS])
            for at in range(0, len(words), _CLIENT_WORDS)
        ]
        return list(self._export), clients, list(self._other)

    def thread(self, number: int) -> list[int]:
        """Of one of its threads, by the rows of THREAD."""
        numbers = _ffi.new("uint64_t[]", length_of(THREAD))
        _lib.aoe_engine_thread(self._engine, number, numbers)
        found = list(numbers)  # they were not read at one time: what was told before stays
        self._thread[number] = [
            max(pair) for pair in zip(found, self._thread.get(number, found), strict=True)
        ]
        return self._thread[number]

    def take(self) -> Up | None:
        """The next frame that came up."""
        up = self._up
        if not _lib.aoe_engine_take(self._engine, up, self._frame, len(self._frame)):
            return None
        export = None if up.export_index == NO_EXPORT else up.export_index
        frame = _ffi.buffer(self._frame, up.length)[:]
        return Up(frame, up.stamp_ns, up.ticket, up.port, export, up.error, up.registered)

    def release(self, index: int, ticket: int) -> None:
        """Python is done with this ticket of the export."""
        _lib.aoe_engine_release(self._engine, index, ticket)

    def drain(self) -> int:
        """Take no more frames; how many requests are still pending."""
        return int(_lib.aoe_engine_drain(self._engine))

    def resume(self) -> None:
        """Take frames again."""
        _lib.aoe_engine_resume(self._engine)

    def counters(self) -> Counter[str]:
        """What the threads counted, by the names that Python uses for the same."""
        if self._engine is not None:
            numbers = _ffi.new("uint64_t[]", length_of(_COUNTED))
            _lib.aoe_engine_count(self._engine, numbers)
            self._counted = {row.name: numbers[row.at] for row in _COUNTED}
        return Counter(self._counted)

    def stop(self) -> bool:
        """Stop the threads; false if requests at a disk that hangs are left behind."""
        return bool(_lib.aoe_engine_stop(self._engine))

    def streams(self, index: int) -> list[StreamLeft]:
        """Those of an export, once nothing was left behind when the threads stopped."""
        room = _ffi.new("aoe_stream[]", limits.STREAMS_MAX)
        count = _lib.aoe_engine_streams(self._engine, index, room)
        return [_left(one) for one in room[0:count]]

    def close(self) -> None:
        """Stop the threads. Of the methods, only `counters` may be called after that."""
        self.counters()
        _lib.aoe_engine_close(self._engine)
        self._engine = None


def _stream(one: StreamLeft) -> dict[str, Any]:
    seen = one.seen.to_bytes(limits.REPLAY_WINDOW // 8, "little")
    words = [int.from_bytes(seen[at : at + 8], "little") for at in range(0, len(seen), 8)]
    return {**one._asdict(), "mac": list(one.mac), "seen": words}


def _left(one: Any) -> StreamLeft:
    seen = b"".join(word.to_bytes(8, "little") for word in one.seen)
    return StreamLeft(
        bytes(one.mac), one.number, one.epoch, bool(one.forged), one.newest, int.from_bytes(seen, "little")
    )


def _checked(result: int) -> int:
    if result < 0:
        raise EngineUnavailable(f"the engine cannot start: {os.strerror(-result)}")
    return int(result)
