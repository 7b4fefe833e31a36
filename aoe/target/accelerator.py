"""The engine beside the server: what it must know, what it hands up, and when Python is done with that."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aoe import limits
from aoe.disk.file import FileDisk
from aoe.engine import Engine, EngineUnavailable, ExportFacts, PortFacts, Up
from aoe.link.packet import PacketLink
from aoe.target.export import Export, Port

log = logging.getLogger("aoe.target")


class EngineOptions(NamedTuple):
    """How the engine runs: `cpus` pins its threads, `spin_us` bounds their busy waiting, `plain_io` keeps
    them from using io_uring."""

    threads: int = 1
    cpus: tuple[int, ...] = ()
    spin_us: int = limits.SPIN_US
    plain_io: bool = False


class Accelerator:
    """An engine for all exports of a server, on links that all are packet sockets.

    Everything the engine hands up goes to `handed_up`. A frame with a ticket keeps its place in the
    engine's order until Python has nothing more to do for that export.
    """

    def __init__(
        self,
        disks: Mapping[Export, FileDisk],
        links: Mapping[Port, PacketLink],
        options: EngineOptions,
        frame_age_ns: int,
    ) -> None:
        self._options = options
        self._disks = disks
        self._links = links
        self._exports = list(disks)
        self._index = {export: index for index, export in enumerate(disks)}
        self._port_index = {port: index for index, port in enumerate(links)}
        self._published = [self._facts(export) for export in disks]
        self._tickets = dict.fromkeys(disks, 0)
        self._changed = asyncio.Event()
        self._handed_up: Callable[[Port, Up, Export | None], None] | None = None
        frame_max = max(limits.FRAME_ROOM, *(port.mtu + limits.ETHERNET_HEADER for port in links))
        self.mtu_max = frame_max - limits.ETHERNET_HEADER
        """Largest MTU that the engine has room for; more than that is not made use of."""
        self.engine = Engine(
            [PortFacts(port.mac, port.sectors) for port in links],
            self._published,
            frame_max=frame_max,
            frame_age_ns=frame_age_ns,
            threads=options.threads,
            spin_us=options.spin_us,
            plain_io=options.plain_io,
        )
        try:
            for port, link in links.items():
                for thread, socket in enumerate(link.engine_sockets(options.threads)):
                    self.engine.attach(thread, self._port_index[port], socket)
        except EngineUnavailable:
            self.close()
            raise

    def start(self, handed_up: Callable[[Port, Up, Export | None], None]) -> None:
        """Serve from now on, inside the running event loop."""
        self._handed_up = handed_up
        for link in self._links.values():
            link.only_replies()
        asyncio.get_running_loop().add_reader(self.engine.event, self._news)
        self.engine.start(self._options.cpus)
        if not (self.engine.uses_uring or self._options.plain_io):
            log.warning("io_uring is refused here: threads do its work, at more CPU time for each request")

    def port_changed(self, port: Port) -> None:
        """MAC or MTU of a port changed."""
        self.engine.set_port(self._port_index[port], PortFacts(port.mac, port.sectors))

    def refresh(self, export: Export) -> None:
        """Tell the engine what changed about an export, if anything did."""
        index, facts = self._index[export], self._facts(export)
        if facts != self._published[index]:
            self._published[index] = facts
            self.engine.publish(index, facts)

    async def fence(self, export: Export) -> None:
        """Publish the export, and wait until everything admitted before that is complete (rule T5)."""
        index = self._index[export]
        self._published[index] = self._facts(export)
        number = self.engine.publish(index, self._published[index])
        while self.engine.settled(index) < number:
            self._changed.clear()
            await self._changed.wait()

    def release(self, export: Export) -> None:
        """Python has nothing to do for the export any more: what waits for that in the engine may go."""
        self.refresh(export)
        ticket = self._tickets[export]
        if ticket:
            self._tickets[export] = 0
            self.engine.release(self._index[export], ticket)

    def close(self) -> None:
        """Stop the threads; requests that hang in a disk are left behind."""
        if self._handed_up is not None:
            asyncio.get_running_loop().remove_reader(self.engine.event)
        self.engine.close()
        for link in self._links.values():
            link.engine_sockets(0)

    def _news(self) -> None:
        self.engine.acknowledge()
        self._changed.set()
        assert self._handed_up is not None, "the event is watched from `start` on"
        ports = list(self._links)
        while (up := self.engine.take()) is not None:
            export = None if up.export is None else self._exports[up.export]
            if export is not None:
                self._tickets[export] = max(up.ticket, self._tickets[export])
                if up.error < 0:
                    self._disks[export].distrust()
            self._handed_up(ports[up.port], up, export)

    def _facts(self, export: Export) -> ExportFacts:
        disk = self._disks[export]
        store = disk.store
        return ExportFacts(
            *export.key,
            fd=store.fd,
            base=store.base,
            sectors=export.drive.sectors,
            block=disk.block,
            read_only=disk.read_only,
            durable=not export.identity.cache_on,
            direct=store.direct,
            memory=disk.in_memory,
            failed=disk.failed,
            remote=disk.remote,
            mask=export.state.mask,
            reserve=export.state.reserve,
        )
