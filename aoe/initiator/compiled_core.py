"""The initiator's arithmetic in C (csrc/initiator), behind the interface of `aoe.initiator.core.Core`."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from aoe.engine.engine import library
from aoe.initiator.debts import NO_LEGACY, Debt, Legacy
from aoe.initiator.exchange import Peer
from aoe.initiator.facts import Reason
from aoe.initiator.life import State
from aoe.initiator.path import Address, PathSnapshot, Policy, Port
from aoe.initiator.request import Outcome, Result, Verb
from aoe.initiator.sizes import Narrow
from aoe.limits import DEBTS_MAX, PATHS_MAX
from aoe.wire.protocol import SECTOR
from aoe.wire.stamp import Stamp

COUNTERS = (
    "retransmits",
    "late_replies",
    "unanswered",
    "drains",
    "unfit_reply",
    "unknown_tag",
    "too_many_paths",
)


def settings(
    ffi: Any,
    ports: int,
    addresses: Sequence[Address],
    first_tag: int,
    policy: Policy,
    legacy: Legacy = NO_LEGACY,
) -> Any:
    """`aoe_core_settings *`, and what must live as long as it is used."""
    debts = ffi.new("aoe_debt[]", [_debt_in_c(debt) for debt in legacy.debts])
    numbers = ffi.new("uint32_t[]", [shelf << 8 | slot for shelf, slot in addresses])
    failback_ns = -1 if policy.failback_ns is None else policy.failback_ns
    made = ffi.new(
        "aoe_core_settings *",
        {
            "ports": ports,
            "addresses": len(addresses),
            "address": numbers,
            "first_tag": first_tag,
            "spread": policy.spread,
            "hold": policy.hold,
            "require": policy.require,
            "background": policy.background,
            "failback_ns": failback_ns,
            "timing": policy.timing._asdict(),
            "debt": debts,
            "debts": len(debts),
            "since_ns": legacy.since_ns,
        },
    )
    return made, numbers, debts


def _debt_in_c(debt: Debt) -> dict[str, object]:
    own, mac, shelf, slot = debt.peer
    there = {"port": debt.port, "own": own, "mac": mac, "shelf": shelf, "slot": slot}
    times = {"until_ns": debt.until_ns, "quiesce_ns": debt.quiesce_ns}
    return {**there, **debt.stamp._asdict(), **times, "tag": debt.tag, "cached": debt.cached}


def _debt_of(it: Any) -> Debt:
    peer = Peer(bytes(it.own), bytes(it.mac), it.shelf, it.slot)
    stamp = Stamp(it.stream, it.epoch, it.instance)
    return Debt(it.port, peer, stamp, it.tag, it.until_ns, it.quiesce_ns, bool(it.cached))


def had(pointer: Any) -> Any:
    """What C has made; MemoryError where it could not."""
    if not pointer:
        raise MemoryError("no memory for a request, or for a disk")
    return pointer


class View:
    """What a core in C says of itself."""

    def __init__(self, ffi: Any, lib: Any, core: Any) -> None:
        self._ffi = ffi
        self._lib = lib
        self._core = core
        self._paths = ffi.new("aoe_path[]", PATHS_MAX)
        self._debts = ffi.new("aoe_debt[]", DEBTS_MAX)
        self._identity = ffi.new("uint8_t[]", SECTOR)
        self._numbers = ffi.new("uint64_t[]", len(COUNTERS))

    @property
    def news(self) -> int:
        """Rises with every change of a path or of the disk."""
        return int(self._lib.aoe_core_news(self._core))

    @property
    def chosen(self) -> bool:
        """Whether a path was found and chosen."""
        return bool(self._lib.aoe_core_chosen(self._core))

    @property
    def comparing(self) -> bool:
        """Whether samples of a server are compared with the owner's."""
        return bool(self._lib.aoe_core_comparing(self._core))

    @property
    def debts(self) -> list[Debt]:
        """What the next life is to know before what is in `out` is sent."""
        count = self._lib.aoe_core_debts(self._core, self._debts)
        return [_debt_of(self._debts[n]) for n in range(count)]

    @property
    def left(self) -> int:
        """How much of what an earlier life had under way is not over."""
        return int(self._lib.aoe_core_left(self._core))

    @property
    def identity(self) -> bytes:
        """What IDENTIFY said of the disk, empty until it did."""
        known = self._lib.aoe_core_identity(self._core, self._identity)
        return bytes(self._ffi.buffer(self._identity)) if known else b""

    @property
    def pulse_ns(self) -> int:
        """How soon `tick` is wanted."""
        return int(self._lib.aoe_core_pulse(self._core))

    @property
    def paths(self) -> list[PathSnapshot]:
        """The paths to the disk, the preferred one first."""
        count = self._lib.aoe_core_paths(self._core, self._paths, PATHS_MAX)
        return [self._path(self._paths[n]) for n in range(count)]

    def _path(self, path: Any) -> PathSnapshot:
        return PathSnapshot(
            path.number,
            path.port,
            bytes(path.mac),
            path.shelf,
            path.slot,
            State(path.state),
            Reason(path.reason),
            bool(path.owner),
            path.rtt_ns,
            path.sectors,
            path.sectors_max,
            Narrow(path.narrow),
            path.unsettled,
            path.renewed,
            bool(path.proved),
            path.lba,
            bool(path.draining),
            bool(path.copy),
        )

    @property
    def counters(self) -> Counter[str]:
        """What was counted on all paths, by reason."""
        self._lib.aoe_core_count(self._core, self._numbers)
        return Counter({name: number for name, number in zip(COUNTERS, self._numbers, strict=True) if number})


def result_of(ffi: Any, request: Any) -> Result:
    """How a request in C ended."""
    if request.outcome:
        return Result(Outcome(request.outcome), request.status, request.error, request.lba)
    return Result(data=ffi.buffer(request.data, request.data_length)[:] if request.data_length else b"")


class Request:
    """A request in C, and the bytes that it refers to."""

    __slots__ = ("data", "inside", "result")

    def __init__(self, data: Any) -> None:
        self.data = data
        self.inside: Any = None
        self.result: Result | None = None


class _Done:
    """The requests that have ended, as the deque that `Core.done` is."""

    def __init__(self, core: "CompiledCore") -> None:
        self._core = core
        self._next: Request | None = None

    def __bool__(self) -> bool:
        if self._next is None:
            self._next = self._core.take_done()
        return self._next is not None

    def popleft(self) -> Request:
        """The next one."""
        if not self:
            raise IndexError("nothing has ended")
        assert self._next is not None, "just looked"
        request, self._next = self._next, None
        return request


class _Out:
    """The frames to be sent, as the list that `Core.out` is."""

    def __init__(self, ffi: Any, lib: Any, core: Any) -> None:
        self._ffi = ffi
        self._lib = lib
        self._core = core
        self._frames = ffi.new("aoe_out **")

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        count = self._lib.aoe_core_out(self._core, self._frames)
        for n in range(count):
            out = self._frames[0][n]
            parts = (out.head, out.head_length), (out.data, out.data_length), (out.tail, out.tail_length)
            yield out.port, b"".join(self._ffi.buffer(at, length)[:] for at, length in parts if length)

    def clear(self) -> None:
        """They were sent."""
        self._lib.aoe_core_sent(self._core)


class CompiledCore(View):
    """As `Core`, in C. EngineUnavailable where it is not built."""

    def __init__(
        self,
        ports: int,
        addresses: Sequence[Address],
        first_tag: int,
        policy: Policy = Policy(),
        legacy: Legacy = NO_LEGACY,
    ) -> None:
        ffi, lib = library()
        made, *_kept = settings(ffi, ports, addresses, first_tag, policy, legacy)
        core = ffi.gc(had(lib.aoe_core_open(made)), lib.aoe_core_close)
        super().__init__(ffi, lib, core)
        self.out = _Out(ffi, lib, core)
        self.done = _Done(self)
        self._requests: dict[int, Request] = {}
        self._number = 0

    def own_time_ns(self, now_ns: int) -> int:
        """It is `now_ns`; the time in which we ran until then."""
        return int(self._lib.aoe_core_own_time(self._core, now_ns))

    def set_port(self, number: int, port: Port, now_ns: int) -> None:
        """A port is like this from now on."""
        self._lib.aoe_core_set_port(self._core, number, self._ffi.new("aoe_core_port *", tuple(port)), now_ns)

    def received(self, port: int, raw: bytes, now_ns: int) -> None:
        """A frame came in on a port."""
        self._lib.aoe_core_receive(self._core, port, raw, len(raw), now_ns)

    def tick(self, now_ns: int) -> None:
        """Time has passed."""
        self._lib.aoe_core_tick(self._core, now_ns)

    def switch(self, number: int, now_ns: int) -> bool:
        """Make a path the owner, if it is usable."""
        return bool(self._lib.aoe_core_switch(self._core, number, now_ns))

    def fenced(self, number: int, now_ns: int) -> None:
        """The server of a path was made sure to do nothing any more."""
        self._lib.aoe_core_fenced(self._core, number, now_ns)

    def left_is_over(self, now_ns: int, server: tuple[bytes, int, int] | None = None) -> None:
        """What an earlier life had under way at a server, or at any, can do nothing any more."""
        mac, shelf, slot = server or (self._ffi.NULL, 0, 0)
        self._lib.aoe_core_left_is_over(self._core, mac, shelf << 8 | slot, now_ns)

    def late(self, since_ns: int, until_ns: int) -> None:
        """What was made since then had left only by `until_ns`."""
        self._lib.aoe_core_late(self._core, since_ns, until_ns)

    def start(
        self, verb: Verb, offset: int, length: int, data: bytes, now_ns: int, number: int = 0
    ) -> Request:
        """Begin what is asked for, in bytes; ASK goes to the server of the path of that number."""
        request = Request(self._ffi.from_buffer("uint8_t[]", data) if data else self._ffi.NULL)
        self._number += 1
        started = self._lib.aoe_core_start(
            self._core, verb, offset, length, request.data, len(data), number, self._number, now_ns
        )
        request.inside = had(started)
        self._requests[self._number] = request
        return request

    def abandon(self, request: Request, now_ns: int) -> None:
        """No caller waits any more. What was sent stays of unknown fate."""
        if request.result is None:
            del self._requests[request.inside.user]
            self._lib.aoe_core_abandon(self._core, request.inside, now_ns)

    def take_done(self) -> Request | None:
        """The next request that has ended."""
        inside = self._lib.aoe_core_done(self._core)
        if inside == self._ffi.NULL:
            return None
        request = self._requests.pop(inside.user)
        request.result = result_of(self._ffi, inside)
        self._lib.aoe_core_free(self._core, inside)
        return request
