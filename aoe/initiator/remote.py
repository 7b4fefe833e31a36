"""A disk behind AoE, as a Disk (asyncio)."""

import asyncio
import contextlib
import errno
import logging
import math
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from aoe import limits, timing
from aoe.disk.base import Disk
from aoe.drive import identify
from aoe.errors import (
    DiskError,
    OutOfRangeError,
    RequestError,
    TargetRefused,
    Unreachable,
)
from aoe.home import Home, Rooted
from aoe.initiator.admin import Admin
from aoe.initiator.carrier import Carrier
from aoe.initiator.clock import Alarm, within
from aoe.initiator.fencing import Fencing
from aoe.initiator.life import State
from aoe.initiator.options import Options
from aoe.initiator.path import PathSnapshot
from aoe.initiator.request import Outcome, Result, Verb
from aoe.initiator.standing import PathStatus, Standing, size_words, without_figures
from aoe.wire import protocol
from aoe.wire.frame import Command, error_text
from aoe.wire.octets import octets, room

log = logging.getLogger("aoe.initiator")

_DEFAULTS = Options()
_UNHEEDED = (
    "%s: %s answers no writes: they are sent again as those of another client; "
    "either its disk hangs, or another host ended the stream of our writes"
)


class RemoteDisk(Rooted, Disk):
    """What `attach` gives. Any byte range may be read and written; odd ends are read, patched and written
    back. Writes that overlap are done one after the other, in the order in which they were called.

    A request fails with Unreachable after `timeout_s`. A write that failed so, or was cancelled, may still be
    carried out: its range takes no new write before that is out of the question. All sizes in bytes.
    """

    def __init__(self, name: str, carrier: Carrier, interfaces: Sequence[str], options: Options) -> None:
        self.address = name
        self.timeout_s = options.timeout_s
        self.identity_data = b""
        self.size = 0
        self.carrier = carrier
        """What moves its requests."""
        self._interfaces = list(interfaces)
        self._fencing = Fencing(name, carrier, options.fence)
        self._waiting: dict[Any, asyncio.Future[Result]] = {}
        self._crowded = 0
        """Requests that sleep until there is room for them."""
        self._deadlines: dict[Any, float] = {}
        self._alarm: Alarm | None = None
        self._alarm_s = math.inf
        """When it goes off: `timeout_s` can be changed, so a later request may have an earlier deadline."""
        self._news = asyncio.Event()
        self._shown: list[PathStatus] = []
        self._standing = Standing(carrier.name, hold=options.hold)
        self._renewed: dict[int, int] = {}
        """How often writes were not heeded, by the number of the path."""
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._home = Home(f"the disk {name}", "attach it here, or use aoe.open, which any thread may use")
        carrier.on_finished = self._finished
        carrier.on_news = self._hear
        self.admin = Admin(self._ask_servers, self._own, self._within)
        """Config string, mask list and reservation."""

    # Disk

    async def read(self, offset: int, length: int) -> bytes:
        self._check(offset, length)
        return (await self._ask(Verb.READ, offset, length)).data

    async def read_into(self, offset: int, buffer: bytearray) -> None:
        view = room("buffer", buffer)
        self._check(offset, len(view))
        await self._ask(Verb.READ, offset, len(view), view)

    async def write(self, offset: int, data: bytes, fua: bool = False) -> None:
        kept = octets("data", data)  # every copy of a frame has the same bytes (order rule I1)
        self._check(offset, len(kept))
        await self._ask(Verb.WRITE_FUA if fua else Verb.WRITE, offset, len(kept), kept)

    async def flush(self) -> None:
        await self._ask(Verb.FLUSH, 0, 0)

    async def trim(self, offset: int, length: int) -> None:
        self._check(offset, length)
        await self._ask(Verb.TRIM, offset, length)

    async def write_zeroes(self, offset: int, length: int) -> None:
        self._check(offset, length)
        for at in range(offset, offset + length, limits.ZEROES_CHUNK):
            await self.write(at, bytes(min(limits.ZEROES_CHUNK, offset + length - at)))

    def refresh(self) -> None:
        """The size is what the last IDENTIFY said."""

    async def revalidate(self) -> None:
        """Ask what the target says of its disk again; `size` follows, as do the other properties."""
        await self._ask(Verb.IDENTIFY, 0, 0)
        self._describe()

    def _describe(self) -> None:
        data = self.carrier.identity
        if data == self.identity_data or not data:
            return
        self.identity_data = data
        self.size = identify.sectors_of(data) * protocol.SECTOR
        self.identity = identify.serial_of(data)
        self.physical_block = identify.physical_block_of(data)
        self.trims = bool(identify.trim_blocks_of(data))
        self.trim_zeroes = self.trims and identify.trims_to_zeroes(data)

    # Life

    async def begin(self, find_s: float) -> None:
        """Look for paths until one is chosen, and compared with the others. Unreachable if there is none in
        time."""
        self.carrier.begin()
        try:
            async with self._within(find_s):
                while not self.carrier.chosen:
                    await self.next_change()
        except TimeoutError as error:
            raise Unreachable(self._why_not()) from error
        with contextlib.suppress(TimeoutError):
            async with self._within(timing.COMPARE_NS / 1e9):
                while self.carrier.comparing:
                    await self.next_change()

    def _why_not(self) -> str:
        where = " or ".join(self._interfaces)
        if self.paths:
            return f"{self.address} cannot be used on {where}: {self._reasons()}"
        asked = "is it served there, and is this host allowed to use it?"
        return f"{self.address} does not answer on {where}; {asked}"

    def close(self) -> None:
        """Ask nothing more; what is open fails. In a child that was forked nothing is done."""
        if self._home.forked:
            return
        self._check_reader()
        self._closed = True
        self.carrier.close()
        if self._alarm is not None:
            self._alarm.cancel()
        self._fencing.close()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(RequestError(f"{self.address} was closed"))

    async def drain(self, timeout_s: float = timing.STOP_TIMEOUT_S) -> None:
        """Wait for what is under way. RequestError if it is not answered in time."""
        self._home.check()
        deadline = self.carrier.own_time + timeout_s
        while left := len(self._waiting) + self._crowded:
            if self.carrier.own_time > deadline:
                raise RequestError(f"{self.address}: {left} requests were not answered")
            await asyncio.sleep(timing.DRAIN_POLL_S)

    async def next_change(self) -> list[PathStatus]:
        """Wait until a path, the owner or the disk changes; how the paths are then."""
        self._home.check()
        self._news.clear()
        await self._news.wait()
        return self.paths

    # Paths

    @property
    def counters(self) -> dict[str, int]:
        """What was counted so far on all paths, by reason."""
        self._check_reader()
        return dict(self.carrier.counters)

    @property
    def paths(self) -> list[PathStatus]:
        """How the paths to the disk are, the preferred one first."""
        self._check_reader()
        return [self._status(path) for path in self.carrier.paths]

    @property
    def peers(self) -> list[bytes]:
        """The MAC at the other end of each path."""
        self._check_reader()
        return [path.mac for path in self.carrier.paths]

    def prefer(self, name: str) -> None:
        """Make the usable path of that name the owner. RequestError if there is none."""
        self._check_open()
        for path in self.carrier.paths:
            if self._status(path).name == name and self.carrier.switch(path.number):
                return
        raise RequestError(f"{self.address} has no usable path {name}: {self._reasons()}")

    def fenced(self, name: str) -> None:
        """The server at the other end of a path was made sure to do nothing any more (order rule I4): what
        is of unknown fate there is settled."""
        self._check_open()
        for path in self.carrier.paths:
            if self._status(path).name == name:
                self.carrier.fenced(path.number)

    def _status(self, path: PathSnapshot) -> PathStatus:
        return self._standing.status(path, fencing=self._fencing.runs(path.server))

    def _reasons(self) -> str:
        return "; ".join(
            f"{path.name} is {path.state} {path.reason}{path.proof}".strip() for path in self.paths
        )

    def _hear(self) -> None:
        self._describe()
        self._news.set()
        self._standing.look(self.carrier.paths)
        for path in self._standing.sizes_found(self.carrier.paths):
            log.warning("%s: %s: %s", self.address, path.name, size_words(path))
        shown = [without_figures(path) for path in self.paths]
        for path in shown:
            if path not in self._shown:
                log.info("%s: %s is %s %s", self.address, path.name, path.state, path.reason or path.remarks)
        self._shown = shown
        self._tell_renewed()
        self._fencing.look()

    def _tell_renewed(self) -> None:
        """Of one path less and less often."""
        was = self._renewed
        self._renewed = {path.number: path.renewed for path in self.carrier.paths}
        for path in self.carrier.paths:
            often = path.renewed & (path.renewed - 1) == 0
            if path.renewed > was.get(path.number, 0) and often:
                log.warning(_UNHEEDED, self.address, self._status(path).name)

    # Requests

    def _check_reader(self) -> None:
        """What was known at the end may be read anywhere."""
        if not self._closed:
            self._home.check()

    def _check_open(self) -> None:
        self._home.check()
        if self._closed:
            raise RequestError(f"{self.address} is closed")

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise OutOfRangeError(
                f"{self.address} has {self.size} bytes: {length} at {offset} are outside; look at size"
            )

    async def _ask(
        self, verb: Verb, offset: int, length: int, data: bytes | memoryview = b"", number: int = 0
    ) -> Result:
        result = await self._try(verb, offset, length, data, number)
        if result.outcome is Outcome.TOO_MANY:
            result = await self._try_again(verb, offset, length, data, number)
        if result.outcome is not Outcome.OK:
            self._fail(verb, offset, result)
        return result

    async def _try_again(
        self, verb: Verb, offset: int, length: int, data: bytes | memoryview, number: int
    ) -> Result:
        """Until there is room for it."""
        try:
            async with self._within(self.timeout_s):
                while True:
                    await self._sleep_crowded()
                    result = await self._try(verb, offset, length, data, number)
                    if result.outcome is not Outcome.TOO_MANY:
                        return result
        except TimeoutError:
            why = f"{limits.REQUESTS_MAX} frames are waiting for {self.address}: {self._reasons()}"
            raise Unreachable(why) from None

    async def _sleep_crowded(self) -> None:
        self._crowded += 1
        try:
            await asyncio.sleep(timing.CROWDED_S)
        finally:
            self._crowded -= 1

    async def _try(
        self, verb: Verb, offset: int, length: int, data: bytes | memoryview, number: int
    ) -> Result:
        self._check_open()
        token = self.carrier.start(verb, offset, length, data, number)
        waiting: asyncio.Future[Result] = self._loop.create_future()
        self._waiting[token] = waiting
        if self.timeout_s is not None:
            self._deadlines[token] = deadline = self.carrier.began_s + self.timeout_s
            if deadline < self._alarm_s:
                self._wake_at(deadline)
        try:
            return await waiting
        finally:
            # Cancelled, expired or closed; where it is only given up by a child that was forked, nothing is.
            if self._waiting.pop(token, None) is not None and not self._home.forked:
                self._deadlines.pop(token, None)
                self.carrier.abandon(token)

    def _finished(self, token: Any, result: Result) -> None:
        waiting = self._waiting.pop(token, None)
        self._deadlines.pop(token, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(result)

    def _within(self, seconds: float | None) -> AbstractAsyncContextManager[None]:
        """TimeoutError after so many seconds in which we ran."""
        return within(seconds, lambda: self.carrier.own_time)

    def _wake_at(self, deadline: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_s = deadline
        self._alarm = Alarm(lambda: self.carrier.own_time, deadline, self._expire)

    def _expire(self) -> None:
        self._alarm, self._alarm_s, now = None, math.inf, self.carrier.own_time
        for token in [token for token, deadline in self._deadlines.items() if deadline <= now]:
            del self._deadlines[token]
            if not self._waiting[token].done():
                why = f"{self.address} does not answer any more: {self._reasons()}"
                self._waiting[token].set_exception(Unreachable(why))
        if self._deadlines:
            self._wake_at(min(self._deadlines.values()))

    def _fail(self, verb: Verb, offset: int, result: Result) -> None:
        if result.outcome is Outcome.AOE_ERROR:
            raise TargetRefused(f"{self.address} refused: {error_text(result.error)}", result.error)
        if result.outcome is Outcome.ATA_ERROR:
            at = result.lba * protocol.SECTOR
            what = f"status {result.status:#04x}, error {result.error:#04x}"
            raise DiskError(f"{self.address} failed at byte {at}: {what}", at, errno.EIO)
        if result.outcome is Outcome.CACHE_LOST:
            raise DiskError(
                f"{self.address}: a server lost its cache with data that was not flushed", 0, errno.EIO
            )
        if result.outcome is Outcome.REFUSED:
            raise RequestError(f"{self.address} describes a disk that cannot be used: {self._reasons()}")
        if result.outcome is Outcome.NO_MEMORY:
            raise MemoryError(f"{self.address}: no memory; ask for less at a time, or open the disk again")
        if result.outcome is Outcome.UNSUPPORTED:
            raise DiskError(f"{self.address} has no TRIM", offset, errno.EOPNOTSUPP)
        raise OutOfRangeError(f"{self.address} has {self.size} bytes, no more; look at size")

    async def _ask_servers(self, command: Command, body: bytes, least: int) -> list[bytes]:
        """Every server that can be reached, once."""
        paths = [path for path in self.carrier.paths if path.state is State.USABLE]
        servers = {path.server: path.number for path in reversed(paths)}
        if not servers:
            raise Unreachable(f"{self.address}: {self._reasons()}")
        return [(await self._ask(Verb.ASK, command, least, body, it)).data for it in servers.values()]

    def _own(self) -> list[bytes]:
        self._check_open()
        return list(dict.fromkeys(self.carrier.mac(port) for port in range(len(self._interfaces))))
