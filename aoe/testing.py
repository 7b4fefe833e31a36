"""For your own tests: targets, clients and every fault between them, inside one event loop.

Nothing here needs root, a network or a plugin for asyncio. A test file of yours may look so:

    import asyncio

    import pytest
    from aoe.disk.memory import MemoryDisk
    from aoe.errors import DiskError
    from aoe.testing import Lab

    pytest_plugins = ["aoe.testing"]


    def test_a_dead_server_is_noticed_by_nobody(aoe_lab: Lab) -> None:
        async def run() -> None:
            store = MemoryDisk(1 << 20)
            async with (
                aoe_lab.serve(store, "e1.0") as one,
                aoe_lab.serve(store, "e2.0") as two,
                aoe_lab.attach("e1.0", "e2.0") as disk,
            ):
                aoe_lab.faults(lose=0.05, repeat=0.05, late=0.05)
                await disk.write(0, b"kept")
                await one.kill()
                assert await disk.read(0, 4) == b"kept"
                await one.restart()
                one.disk.bad_offsets = two.disk.bad_offsets = {512}
                with pytest.raises(DiskError):
                    await disk.read(512, 512)

        asyncio.run(run())

Put `pytest_plugins` into your top `conftest.py` where there is one. `Lab` itself needs no pytest.
PYTEST_DONT_REWRITE, so that it may be imported before it is a plugin.
"""

import itertools
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from aoe.disk.base import Disk
from aoe.disk.faulty import FaultyDisk
from aoe.initiator.attach import attach
from aoe.initiator.remote import RemoteDisk
from aoe.link.faulty import Faults, FaultyLink
from aoe.link.memory import MemoryLink, Network
from aoe.target.serve import serve
from aoe.target.target import Target
from aoe.wire.address import parse_address


class Cable(FaultyLink):
    """A host's end of a cable. What it sends is lost, repeated or late as `lose`, `repeat`, `late` (0.0 to
    1.0) and `delay_s` say, and lost if it is larger than a `switch_mtu` (bytes)."""

    def __init__(self, port: MemoryLink, seed: int) -> None:
        super().__init__(port, seed=seed)
        self._port = port

    def plug(self, up: bool = True) -> None:
        """Put it in, or pull it out. Only this end notices."""
        self._port.plug(up)

    def resize(self, mtu: int) -> None:
        """Give this end another MTU (bytes)."""
        self._port.resize(mtu)


class PrimaryDisk(FaultyDisk):
    """What one server sees of a disk that is not its own: a FaultyDisk."""

    def close(self) -> None:
        """The disk stays open: another server may use it, or this one after a restart."""

    def cut(self) -> None:
        """Let nothing through any more, not even what waits."""
        self.bad_offsets = range(self.size)
        self.sync_fails = True
        self.delay_s = 0.0
        self.hang.set()


class Primary:
    """A server of a disk, from `Lab.serve`.

    `disk` stands between it and the disk: `disk.bad_offsets = {512}` makes a sector fail, `disk.hang.clear()`
    holds requests back until `disk.hang.set()`. `cables` are its ends, by segment. A restart makes both anew,
    without faults other than those of `Lab.faults`.
    """

    disk: PrimaryDisk
    cables: dict[int, Cable]
    target: Target

    def __init__(self, lab: "Lab", store: Disk, on: Sequence[int], options: dict[str, Any]) -> None:
        self._lab = lab
        self._store = store
        self._on = on
        self._host = lab.new_host()
        self._options = options
        self._life = AsyncExitStack()

    async def start(self) -> None:
        """Begin to serve."""
        self.disk = PrimaryDisk(self._store)
        self.cables = self._lab.cables(self._host, self._on)
        serving = serve(self.disk, *self.cables.values(), check=False, **self._options)
        self.target = await self._life.enter_async_context(serving)

    async def kill(self) -> None:
        """As kill -9 does: it says nothing more, and what it has not done yet is never done."""
        for cable in self.cables.values():
            cable.plug(False)
        self.disk.cut()
        await self._life.aclose()

    async def restart(self) -> None:
        """Kill it, if it is alive, and start it again as a new process on the same address and MACs."""
        await self.kill()
        await self.start()

    async def stop(self) -> None:
        """End in an orderly way: what is under way is done and answered; what hangs goes on."""
        self.disk.hang.set()
        await self._life.aclose()


class Lab:
    """Segments inside the process, numbered from 0, with the hosts on them: a server and a client see each
    other where they are `on` the same one. `seed` decides which frames suffer, but time is real."""

    def __init__(self, *, seed: int = 1, mtu: int = 9000) -> None:
        self.client: dict[int, Cable] = {}
        """The ends of the disk attached last, by segment."""
        self._mtu = mtu
        self._rng = random.Random(seed)
        self._networks: dict[int, Network] = {}
        self._hosts = itertools.count(1)
        self._stores: list[Disk] = []
        self._cables: list[Cable] = []
        self._faults = Faults()

    @asynccontextmanager
    async def serve(
        self, disk: Disk, address: str = "e0.0", *, on: Sequence[int] = (0,), **options: Any
    ) -> AsyncIterator[Primary]:
        """Serve it until the block is left; the disk is not closed then. A server of the same disk object
        has the same serial, so it is another primary. Options are those of `aoe.serve`."""
        shelf, slot = parse_address(address)
        named = {"shelf": shelf, "slot": slot, "serial": self._serial(disk), **options}
        primary = Primary(self, disk, on, named)
        await primary.start()
        try:
            yield primary
        finally:
            await primary.stop()

    def attach(
        self, *addresses: str, on: Sequence[int] = (0,), **options: Any
    ) -> AbstractAsyncContextManager[RemoteDisk]:
        """`aoe.attach` from a new host, whose cables are `client`. Options are those of `aoe.attach`."""
        self.client = self.cables(self.new_host(), on)
        return attach(*addresses, link=list(self.client.values()), **options)

    def faults(
        self,
        *,
        lose: float = 0,
        repeat: float = 0,
        late: float = 0,
        delay_s: float = 0.01,
        switch_mtu: int | None = None,
    ) -> None:
        """Treat what is sent on every cable so, now and later: probabilities (0.0 to 1.0) of a frame, by how
        long a late one is late at most (s), and the MTU of the switches between (bytes; None: that of the
        ends). Without arguments: as a good network does."""
        self._faults = Faults(lose, repeat, late, delay_s, switch_mtu)
        for cable in self._cables:
            cable.treat(self._faults)

    def new_host(self) -> int:
        """The number of one more host."""
        return next(self._hosts)

    def cables(self, host: int, on: Sequence[int]) -> dict[int, Cable]:
        """New cables from a host to segments. It has the same MACs as before there."""
        made = {}
        for segment in on:
            mac = (2 << 40 | host << 8 | segment).to_bytes(6, "big")
            port = self._networks.setdefault(segment, Network()).attach(mac, self._mtu)
            made[segment] = Cable(port, self._rng.getrandbits(32))
            made[segment].treat(self._faults)
        self._cables += made.values()
        return made

    def _serial(self, disk: Disk) -> str:
        if not any(disk is store for store in self._stores):
            self._stores.append(disk)
        return f"LAB {next(n for n, store in enumerate(self._stores) if disk is store)}"


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def aoe_lab() -> Lab:
        """A `Lab` of the test's own."""
        return Lab()
