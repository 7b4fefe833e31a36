"""What carries the requests of a disk in C: in csrc/initiator, core.c is the arithmetic, remote.c the I/O."""

import asyncio
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from aoe import limits, timing
from aoe.engine.engine import library
from aoe.errors import ConfigurationError, RequestError
from aoe.initiator.carrier import Carrier
from aoe.initiator.clock import now_ns
from aoe.initiator.compiled_core import View, had, result_of, settings
from aoe.initiator.load import Job, Loaded, Seen
from aoe.initiator.path import Address, PathSnapshot, Policy
from aoe.initiator.request import Result, Verb
from aoe.link.udp import UdpLink

_DONE = Result()


class EngineCarrier(Carrier):
    """Over Ethernet interfaces, by name, and datagram links; each port is opened in `begin`.

    EngineUnavailable where there is no engine.
    """

    def __init__(
        self,
        links: Sequence[str | UdpLink],
        addresses: Sequence[Address],
        first_tag: int,
        policy: Policy = Policy(),
    ) -> None:
        self._ffi, self._lib = library()
        self._links = list(links)
        self._gap_ns = policy.timing.gap_ns
        self._settings, *self._kept = settings(self._ffi, len(links), addresses, first_tag, policy)
        self._core = had(self._lib.aoe_core_open(self._settings))
        self._view = View(self._ffi, self._lib, self._core)
        self._remote: Any = None
        self._loop: Any = None
        self._user = 0
        self._open: dict[int, tuple[Any, Any]] = {}
        """By user number: the request, and what keeps its bytes."""
        self._flushing = False
        self._heard = 0
        self._loading = False
        self._closed = False
        self._last_paths: list[PathSnapshot] = []
        self._last_counters: Counter[str] = Counter()
        self._last_identity = b""
        self._last_time = 0.0
        self._began_ns = self._stood_ns = 0

    def _keep(self, kind: str, value: Any) -> Any:
        """Memory that C looks at as long as this is."""
        made = self._ffi.new(kind, value)
        self._kept.append(made)
        return made

    # What is known

    @property
    def chosen(self) -> bool:
        return not self._closed and self._view.chosen

    @property
    def comparing(self) -> bool:
        return not self._closed and self._view.comparing

    @property
    def identity(self) -> bytes:
        return self._last_identity if self._closed else self._view.identity

    @property
    def paths(self) -> list[PathSnapshot]:
        return self._last_paths if self._closed else self._view.paths

    @property
    def counters(self) -> Counter[str]:
        if self._closed:
            return self._last_counters
        counted = self._view.counters
        if self._remote is not None:
            lost = self._ffi.new("uint64_t[2]")
            self._lib.aoe_remote_lost(self._remote, lost, lost + 1)
            counted.update({"send_lost": lost[0], "receive_unfit": lost[1]})
        return +counted

    def mac(self, port: int) -> bytes:
        own = self._ffi.new("uint8_t[6]")
        self._lib.aoe_remote_mac(self._remote, port, own)
        return bytes(own)

    def name(self, port: int) -> str:
        link = self._links[port]
        if isinstance(link, UdpLink):
            return link.name
        if self._remote is not None and not self._closed:
            self._links[port] = self._ffi.string(self._lib.aoe_remote_name(self._remote, port)).decode()
        return str(self._links[port])

    @property
    def own_time(self) -> float:
        if not self._closed:
            self._last_time = self._lib.aoe_core_own_time(self._core, now_ns()) / 1e9
        return self._last_time

    # Its life

    def begin(self) -> None:
        ports = self._keep("aoe_remote_port[]", len(self._links))
        for port, link in zip(ports, self._links, strict=True):
            self._describe(port, link)
        handle = self._ffi.new("aoe_remote **")
        result = self._lib.aoe_remote_open(handle, self._core, self._settings, ports)
        if result < 0:
            names = ", ".join(link if isinstance(link, str) else link.name for link in self._links)
            raise ConfigurationError(f"{names}: {os.strerror(-result)}")
        self._remote = handle[0]
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._lib.aoe_remote_fd(self._remote), self._pump)

    def _describe(self, port: Any, link: str | UdpLink) -> None:
        if isinstance(link, str):
            port.interface = self._keep("char[]", link.encode())
            return
        port.socket = link.socket.fileno()
        port.mtu = link.mtu
        port.mac = link.mac
        peers = [
            (int.from_bytes(socket.inet_aton(host), "little"), socket.htons(number))
            for host, number in link.spec.peers
        ]
        port.peers = len(peers)
        port.peer = self._keep("aoe_peer[]", peers)

    def close(self) -> None:
        if self._closed:
            return
        self._last_paths, self._last_counters = self.paths, self.counters
        self._last_identity = self.identity
        self._closed = True
        if self._remote is None:
            self._lib.aoe_core_close(self._core)
            return
        self._loop.remove_reader(self._lib.aoe_remote_fd(self._remote))
        self._lib.aoe_remote_close(self._remote)
        self._open.clear()

    # Requests

    def start(
        self, verb: Verb, offset: int, length: int, data: bytes | memoryview = b"", number: int = 0
    ) -> int:
        user = self._user = self._user + 1
        held = self._ffi.from_buffer("uint8_t[]", data) if data else self._ffi.NULL
        now = now_ns()
        if now - self._began_ns >= self._gap_ns:  # else there was no gap since the last request
            self._stood_ns = now - self._lib.aoe_core_own_time(self._core, now)
        self._began_ns = now
        self.began_s = (now - self._stood_ns) / 1e9
        started = self._lib.aoe_core_start(
            self._core, verb, offset, length, held, len(data), number, user, now
        )
        request = had(started)
        if not self._open:  # nothing to wait for
            self._lib.aoe_remote_send(self._remote)
        self._open[user] = (request, held)
        self._flush_soon()
        return user

    def abandon(self, token: int) -> None:
        opened = self._open.pop(token, None)
        if opened is None or self._closed:
            return
        self._lib.aoe_remote_send(self._remote)  # what is out may refer to its bytes
        self._lib.aoe_core_abandon(self._core, opened[0], now_ns())
        self._flush_soon()

    def switch(self, number: int) -> bool:
        done = bool(self._lib.aoe_core_switch(self._core, number, now_ns()))
        self._flush()
        return done

    def fenced(self, number: int) -> None:
        self._lib.aoe_core_fenced(self._core, number, now_ns())
        self._flush()

    # Inside

    def _pump(self) -> None:
        """A port has frames, or it is time."""
        self._lib.aoe_remote_pump(self._remote)
        self._finish()

    def _flush_soon(self) -> None:
        """Once for all that was asked for in a turn of the loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if not self._closed:
            self._lib.aoe_remote_send(self._remote)
            self._finish()

    def _finish(self) -> None:
        ffi, lib, core = self._ffi, self._lib, self._core
        opened, finished = self._open, self.on_finished
        while request := lib.aoe_core_done(core):
            user = request.user
            held = opened.pop(user, None)
            filled = not request.data_length or (held is not None and request.data == held[1])
            result = _DONE if filled and not request.outcome else result_of(ffi, request)
            lib.aoe_core_free(core, request)
            if held is not None:
                finished(user, result)
        news = self._lib.aoe_core_news(core)
        if news != self._heard:
            self._heard = news
            self.on_news()

    # Load

    async def load(
        self, job: Job, seconds: float, stop: asyncio.Event | None = None, seen: Seen | None = None
    ) -> Loaded:
        """Put it on the disk until the time is over, or `stop` is set: then what is outstanding is given up,
        and is no error. Others may go on to use the disk meanwhile. One at a time."""
        if self._loading:
            raise RequestError("a load runs on this disk already")
        stop = stop or asyncio.Event()
        load = self._ffi.new("aoe_load *", {"histogram": [0] * limits.LOAD_BUCKETS})
        load.random, load.write_percent, load.depth = job.random, job.write_percent, job.depth
        load.block, load.range, load.position, load.seed = job.block, job.range, job.position, job.seed
        data = self._ffi.new("uint8_t[]", os.urandom(job.block))
        load.data = data
        descriptor = self._lib.aoe_remote_fd(self._remote)
        self._loading = True
        self._loop.remove_reader(descriptor)  # only the load takes what has ended
        began = time.monotonic()
        elapsed, outstanding = 0.0, 0
        try:
            looks = None if seen is None else lambda: seen(time.monotonic() - began, self._counted(load))
            outstanding = await self._turns(load, self._lib.AOE_LOAD_ASKS, began + seconds, stop, looks)
            elapsed = time.monotonic() - began
            if not stop.is_set():
                patience = time.monotonic() + timing.LOAD_PATIENCE_S
                outstanding = await self._turns(load, self._lib.AOE_LOAD_WAITS, patience, stop)
        finally:
            self._loading = False
            if not self._closed:
                self._loop.add_reader(descriptor, self._pump)
                self._slice(load, 0.0, self._lib.AOE_LOAD_ENDS)
        given_up = outstanding if stop.is_set() else 0
        return Loaded(load.done, load.errors - given_up, elapsed, list(load.histogram))

    def _counted(self, load: Any) -> list[int]:
        counted: list[int] = self._ffi.unpack(load.histogram, limits.LOAD_BUCKETS)
        return counted

    async def _turns(
        self,
        load: Any,
        phase: int,
        until: float,
        stop: asyncio.Event,
        looks: Callable[[], None] | None = None,
    ) -> int:
        """Slices of a load until it is time, or nothing is left to wait for; what is outstanding then. After
        each it `looks`."""
        waits = phase == self._lib.AOE_LOAD_WAITS
        outstanding = 0
        while not stop.is_set() and not self._closed and (left := until - time.monotonic()) > 0:
            outstanding = self._slice(load, min(left, timing.LOAD_SLICE_S), phase)
            if waits and not outstanding:
                break
            if looks is not None:
                looks()
            await asyncio.sleep(0)
        return outstanding

    def _slice(self, load: Any, seconds: float, phase: int) -> int:
        result: int = self._lib.aoe_remote_load(self._remote, load, int(seconds * 1e9), phase)
        if result < 0:
            raise RequestError(f"the load cannot run: {os.strerror(-result)}")
        self._finish()
        return result
