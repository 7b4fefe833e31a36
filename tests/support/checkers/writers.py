"""Writers that remember everything they did to a disk, and whether it can be explained."""

import asyncio
import itertools
import math
import random
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager, suppress

from aoe.disk.base import Disk
from aoe.errors import DiskError, RequestError
from tests.support.checkers.linear import Call, faults
from tests.support.labs.failover import CALLS_MIN, VERB_MIN
from tests.support.waiting import PATIENCE_S, own_s

STAMP = struct.Struct("<QQ")
_PROBE_REST_S = 0.005
WAIT_MIN_S = 0.05
"""What a call had to wait for less is no pause."""


class Writers:
    """Eight that write and read stamped blocks of a few places, and remember all
    of it; and one more that writes to a place of its own all the time: `pause_s` is the longest it had to
    wait, `waits` are when its waits began and ended, by the loop's clock. One `seed`, one choice of places
    and of calls for each of the eight. With `all_verbs` they also write with FUA, and trim where the disk
    promises zeroes after it. Each rests for `rest_s` (seconds) between two calls. `verbs` counts what
    returned."""

    def __init__(
        self,
        remote: Disk,
        places: int = 24,
        block: int = 512,
        seed: int = 0,
        all_verbs: bool = False,
        rest_s: float = 0.002,
    ) -> None:
        self.remote = remote
        self.places = places
        self.block = block
        self.seed = seed
        self.all_verbs = all_verbs
        self.rest_s = rest_s
        self.calls: list[tuple[int, Call]] = []
        self.errors: list[BaseException] = []
        self.pause_s = 0.0
        self.waits: list[tuple[float, float]] = []
        self.verbs: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._stop = False

    async def run(self, seconds: float, then: Callable[[], None] = lambda: None) -> None:
        """For a time, and longer where that was too little to judge by; `then` what is to happen before every
        place is read a last time."""

        async def over() -> None:
            await asyncio.sleep(seconds)
            await self.enough()

        await self.run_until(over(), then)

    async def enough(self) -> None:
        """Wait until there is enough to judge by, where it comes at all."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while (
                    len(self.calls) <= CALLS_MIN or min(map(self.verbs.__getitem__, self._verbs)) < VERB_MIN
                ):
                    await asyncio.sleep(0.02)

    @property
    def _verbs(self) -> list[str]:
        """Those that are tried."""
        more = ["write with FUA"] + ["trim"] * self.remote.trim_zeroes
        return ["read", "write", *(more if self.all_verbs else [])]

    async def run_until(self, over: Awaitable[object], then: Callable[[], None] = lambda: None) -> None:
        """Until something has happened."""
        loop = asyncio.get_running_loop()
        seeds = range(8 * self.seed, 8 * self.seed + 8)
        workers = [asyncio.ensure_future(self._work(random.Random(seed))) for seed in seeds]
        workers.append(asyncio.ensure_future(self._probe()))
        await over
        self._stop = True
        await asyncio.gather(*workers)
        then()
        for place in range(self.places):
            await self._read(loop, place)

    async def _work(self, rng: random.Random) -> None:
        loop = asyncio.get_running_loop()
        while not self._stop:
            place = rng.randrange(self.places)
            try:
                await self._choose(rng)(loop, place)
            except (DiskError, RequestError) as error:
                self.errors.append(error)
            await asyncio.sleep(self.rest_s)

    def _choose(self, rng: random.Random) -> Callable[[asyncio.AbstractEventLoop, int], Awaitable[None]]:
        chosen = rng.random()
        if self.all_verbs and chosen < 0.1 and self.remote.trim_zeroes:
            return self._trim
        if self.all_verbs and chosen < 0.25:
            return self._write_fua
        return self._write if chosen < 0.6 else self._read

    async def _probe(self) -> None:
        """Each write goes to another block: none waits for an earlier one's range to open."""
        first, loop = self.places * self.block, asyncio.get_running_loop()
        for offset in itertools.cycle(range(first, self.remote.size, self.block)):
            if self._stop:
                return
            started_s, called = own_s(), loop.time()
            try:
                await self.remote.write(offset, bytes(self.block))
            except (DiskError, RequestError) as error:
                self.errors.append(error)
            self.pause_s = max(self.pause_s, own_s() - started_s)
            if loop.time() - called > WAIT_MIN_S:
                self.waits.append((called, loop.time()))
            await asyncio.sleep(max(self.rest_s, _PROBE_REST_S))

    async def _write(self, loop: asyncio.AbstractEventLoop, place: int, fua: bool = False) -> None:
        number = next(self._numbers)
        stamps = STAMP.pack(place, number) * (self.block // STAMP.size)
        with self._changes(loop, place, number, "write with FUA" if fua else "write"):
            await self.remote.write(place * self.block, stamps, fua)

    async def _write_fua(self, loop: asyncio.AbstractEventLoop, place: int) -> None:
        await self._write(loop, place, fua=True)

    async def _trim(self, loop: asyncio.AbstractEventLoop, place: int) -> None:
        """After it, the place reads as one that was never written."""
        with self._changes(loop, place, None, "trim"):
            await self.remote.trim(place * self.block, self.block)

    @contextmanager
    def _changes(
        self, loop: asyncio.AbstractEventLoop, place: int, value: Hashable, verb: str
    ) -> Iterator[None]:
        """A call that gives a place a value; one that raises may still take effect, at any time."""
        index, call = len(self.calls), Call(True, value, loop.time())
        self.calls.append((place, call))
        yield
        self.calls[index] = (place, call._replace(returned=loop.time()))
        self.verbs[verb] += 1

    async def _read(self, loop: asyncio.AbstractEventLoop, place: int) -> None:
        called = loop.time()
        data = await self.remote.read(place * self.block, self.block)
        stamps = set(STAMP.iter_unpack(data))
        assert len(stamps) == 1, "torn"
        ((where, number),) = stamps
        assert where == (place if number else 0)
        self.calls.append((place, Call(False, number or None, called, loop.time())))
        self.verbs["read"] += 1

    @property
    def again_s(self) -> float:
        """The longest for which one of the eight had to wait for a change of what was changed before."""
        changes = (call for _, call in self.calls if call.writes and call.returned < math.inf)
        return max((call.returned - call.called for call in changes), default=0.0)

    def faults(self) -> list[str]:
        """What should not be: errors, and reads that cannot be explained."""
        return [*map(repr, self.errors), *self.unexplained()]

    def unexplained(self) -> list[str]:
        """Reads that show that a write was lost, or came back."""
        found = list[str]()
        for place in range(self.places):
            found += faults(call for where, call in self.calls if where == place)
        return found

    def check(self) -> None:
        assert len(self.calls) > CALLS_MIN
        assert not self.faults()
