"""Everything that Prometheus is told of a node."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

from aoe import timing
from aoe.disk.file import FileDisk
from aoe.limits import EXPORTS_AT_ONCE
from aoe.metrics import about
from aoe.metrics.exposition import ALONE, Sheet
from aoe.metrics.snapshot import ExportNumbers, Snapshot
from aoe.metrics.text import Owners, Text
from aoe.node.node import Node
from aoe.node.process import Process
from aoe.node.spaces import Space, Spaces
from aoe.target.export import Export


class Exposed:
    """Writes it, in slices. `version` is that of the program."""

    def __init__(self, node: Node, process: Process, version: str) -> None:
        self._node = node
        self._process = process
        self._sheet = Sheet()
        self._text = Text(self._sheet)
        self._spaces = Spaces()
        self._build = Owners("version", "engine")
        self._version = version
        self._links = Owners("link")
        self._infos = Owners("export", "path", "serial", "durability")
        self._states = Owners("export", "state")
        self._files = Owners("export")
        self._pools, self._used = Owners("pool"), Owners("pool")

    async def slices(self) -> AsyncIterator[bytes]:
        """As things stand now, each in a millisecond or so."""
        target = self._node.target
        numbers: list[ExportNumbers] = []
        for some in _portions(target.exports):
            # One that went meanwhile has none any more.
            numbers += [target.numbers(it) for it in some if target.server.exports.get(it.key) is it]
            yield b""
        snapshot, now_ns = target.snapshot(numbers), time.time_ns()
        for piece in self._of_process(_engine(snapshot)):
            yield piece
        disks = self._disks()
        spaces = await self._spaces.look(disks.values(), timing.METRICS_SPACE_S)
        for piece in self._of_node({it: spaces[disk] for it, disk in disks.items() if disk in spaces}):
            yield piece
        clients = self._node.settings.metrics_clients
        for piece in self._text.pieces(snapshot, clients=clients, real_ns=now_ns):
            yield piece

    def _disks(self) -> dict[str, FileDisk]:
        """What is served, by address."""
        server = self._node.target.server
        served = {it.address: server.served(it).disk for it in self._node.target.exports}
        return {address: disk for address, disk in served.items() if isinstance(disk, FileDisk)}

    def _of_process(self, engine: str) -> Iterator[bytes]:
        use = self._process.use()
        yield from self._sheet.write(about.BUILD, self._build.of([(self._version, engine)]), [1])
        yield from self._sheet.write(about.STARTED, ALONE, [use.started_s])
        yield from self._sheet.write(about.CPU, ALONE, [use.cpu_s])
        if use.resident is not None:
            yield from self._sheet.write(about.MEMORY, ALONE, [use.resident])

    def _of_node(self, spaces: Mapping[str, Space]) -> Iterator[bytes]:
        links = self._node.target.links
        owners = self._links.of([(it.name,) for it in links])
        yield from self._sheet.write(about.LINK_UP, owners, [int(it.up) for it in links])
        yield from self._sheet.write(about.LINK_MTU, owners, [it.mtu for it in links])
        yield from self._sheet.write(about.CHANGES, ALONE, [self._node.number])
        yield from self._of_exports()
        yield from self._of_pools()
        owners = self._files.of([(address,) for address in spaces])
        yield from self._sheet.write(about.FREE, owners, [it.free for it in spaces.values()])
        yield from self._sheet.write(about.SIZE, owners, [it.size for it in spaces.values()])

    def _of_pools(self) -> Iterator[bytes]:
        """Of one that is not there only that."""
        pools = self._node.rooms.pools
        owners = self._pools.of([(it.name,) for it in pools])
        yield from self._sheet.write(about.POOL_UP, owners, [int(not it.problem) for it in pools])
        used = [it for it in pools if not it.problem]
        owners = self._used.of([(it.name,) for it in used])
        for family, numbers in (
            (about.POOL_SIZE, [it.total_bytes for it in used]),
            (about.POOL_FREE, [it.free_bytes for it in used]),
            (about.POOL_RESERVE, [it.total_bytes * it.reserve_percent // 100 for it in used]),
            (about.POOL_PROMISED, [it.promised_bytes for it in used]),
            (about.POOL_KEPT, [it.snapshot_bytes for it in used]),
            (about.POOL_GROWTH, [it.growth_bytes for it in used]),
            (about.POOL_VOLUMES, [it.volumes for it in used]),
        ):
            yield from self._sheet.write(family, owners, numbers)

    def _of_exports(self) -> Iterator[bytes]:
        """What they are, and how they stand: also those that are not served."""
        states = self._node.states
        yield b""
        serials = {it.address: it.identity.serial for it in self._node.target.exports}
        configs = {it.address: it for it in self._node.configs}
        infos = [
            (address, configs[address].path, serials.get(address, ""), configs[address].durability)
            for address in states
            if address in configs
        ]
        for family, owners in (
            (about.INFO, self._infos.of(infos)),
            (about.STATE, self._states.of([(address, state) for address, (state, _) in states.items()])),
        ):
            yield from self._sheet.write(family, owners, [1] * len(owners))

    def close(self) -> None:
        """Write no more."""
        self._spaces.close()
        self._process.close()


def _portions(them: Sequence[Export]) -> Iterator[Sequence[Export]]:
    return (them[at : at + EXPORTS_AT_ONCE] for at in range(0, len(them), EXPORTS_AT_ONCE))


def _engine(snapshot: Snapshot) -> str:
    """Which one serves."""
    return "c" if any(it.name.startswith("engine") for it in snapshot.threads) else "python"
