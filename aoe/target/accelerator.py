"""The engine beside the server: what it must know, what it hands up, and when Python is done with that."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from aoe import limits
from aoe.disk.cloning import Cloning
from aoe.disk.device import Device
from aoe.disk.file import FileDisk
from aoe.disk.image import ImageDisk
from aoe.engine import Engine, EngineUnavailable, ExportFacts, PortFacts, Up
from aoe.errors import ConfigurationError
from aoe.link.packet import PacketLink
from aoe.target.engine_cut import EngineCut
from aoe.target.export import Export, Port
from aoe.target.streams import Streams
from aoe.wire import protocol
from aoe.wire.stamp import StreamLeft

log = logging.getLogger("aoe.target")


class EngineOptions(NamedTuple):
    """How the engine runs: `cpus` pins its threads, `spin_us` bounds their busy waiting, `plain_io` keeps
    them from using io_uring."""

    threads: int = 1
    cpus: tuple[int, ...] = ()
    spin_us: int = limits.SPIN_US
    plain_io: bool = False


_TOO_MANY = f"it serves on {limits.ENGINE_PORTS_MAX} interfaces at most"


class _Place:
    """What the engine has at one index."""

    def __init__(self, index: int, export: Export, disk: FileDisk, device: int) -> None:
        self.index = index
        self.device = device
        """The engine's number of the disk beneath."""
        self.export = export
        self.disk = disk
        self.tickets = set[int]()
        """What Python has to give back."""
        self.number = 0
        self.published: ExportFacts | None = None
        """What the engine was told last, with that number; None once it was told that the export goes."""


class Accelerator:
    """An engine for up to `exports_max` exports of a target, on links that all are packet sockets.

    Everything the engine hands up goes to `handed_up`. A frame with a ticket keeps its place in the
    engine's order until Python has done what it asks for.
    """

    def __init__(
        self,
        links: Mapping[Port, PacketLink],
        options: EngineOptions,
        frame_age_ns: int,
        exports_max: int,
    ) -> None:
        if len(links) > limits.ENGINE_PORTS_MAX:
            raise EngineUnavailable(_TOO_MANY)
        self._options = options
        self._links = dict(links)
        self._places: list[_Place | None] = [None] * exports_max
        self._place_of: dict[Export, _Place] = {}
        self._devices: list[Device | None] = [None] * exports_max
        self._ports: list[Port | None] = [None] * limits.ENGINE_PORTS_MAX
        self._ports[: len(links)] = links
        self._changed = asyncio.Event()
        self._handed_up: Callable[[Port, Up, Export | None], None] | None = None
        frame_max = max([limits.FRAME_ROOM, *(port.mtu + protocol.ETHERNET_HEADER for port in links)])
        self.mtu_max = frame_max - protocol.ETHERNET_HEADER
        """Largest MTU that the engine has room for; more than that is not made use of."""
        self.engine = Engine(
            [PortFacts(port.mac, port.sectors) for port in links],
            exports_max=exports_max,
            ports_max=limits.ENGINE_PORTS_MAX,
            frame_max=frame_max,
            frame_age_ns=frame_age_ns,
            threads=options.threads,
            spin_us=options.spin_us,
            plain_io=options.plain_io,
        )
        self.uses_uring = self.engine.uses_uring
        """Also when it has stopped."""
        try:
            for port, link in links.items():
                self._attach(port, link)
        except EngineUnavailable:
            self.close()
            raise

    def start(self, handed_up: Callable[[Port, Up, Export | None], None], *, paused: bool) -> None:
        """Serve from now on, or from `resume` on, inside the running event loop."""
        self._handed_up = handed_up
        for link in self._links.values():
            link.only_replies()
        asyncio.get_running_loop().add_reader(self.engine.event, self._news)
        if paused:
            self.engine.drain()
        self.engine.start(self._options.cpus)
        if not (self.uses_uring or self._options.plain_io):
            log.warning("io_uring is refused here: threads do its work, at more CPU time for each request")

    def set_frame_age(self, frame_age_ns: int) -> None:
        """Changes that waited longer are dropped from now on (rule T3)."""
        self.engine.set_frame_age(frame_age_ns)

    def port_changed(self, port: Port) -> None:
        """MAC or MTU of a port changed."""
        self.engine.set_port(self._ports.index(port), PortFacts(port.mac, port.sectors))

    def open_ahead(self, link: PacketLink) -> None:
        """What a port on it will need. ConfigurationError, EngineUnavailable."""
        link.open_ahead(self._options.threads, self.engine.ring)

    def _attach(self, port: Port, link: PacketLink) -> None:
        sockets = link.engine_sockets(self._options.threads, self.engine.ring)
        for thread, (socket, was_used) in enumerate(sockets):
            self.engine.attach(thread, self._ports.index(port), socket, was_used=was_used)

    def add_port(self, port: Port, link: PacketLink) -> None:
        """Serve on one more link. EngineUnavailable where there is no room for it."""
        if None not in self._ports:
            raise EngineUnavailable(_TOO_MANY)
        self._ports[self._ports.index(None)] = port
        self._links[port] = link
        self.port_changed(port)
        try:
            self._attach(port, link)
        except (EngineUnavailable, ConfigurationError):
            self._forget_port(port)
            raise
        link.only_replies()
        self.engine.pass_exports()

    async def remove_port(self, port: Port) -> None:
        """Take nothing more from a link; return when what came by it is answered."""
        index = self._ports.index(port)
        self.engine.detach(index)
        while not self.engine.detached(index):
            self._changed.clear()
            await self._changed.wait()
        self._take_all()  # what came up before that is still its own
        self._forget_port(port)

    def _forget_port(self, port: Port) -> None:
        self._links.pop(port).close_engine_sockets()
        self._ports[self._ports.index(port)] = None

    def add(self, disks: Mapping[Export, FileDisk]) -> None:
        """Serve more. ValueError where there are more than `exports_max` then."""
        for export, disk in disks.items():
            index = self._places.index(None)
            place = _Place(index, export, disk, self._number_of(disk.device))
            self._places[index] = self._place_of[export] = place
            self._publish(place, streams=export.streams.left())
        self.engine.pass_exports()

    def _number_of(self, device: Device) -> int:
        """Exports on one disk share its number; one that is not used any more is free."""
        if device not in self._devices:
            used = {place.disk.device for place in self._places if place is not None}
            free = next(number for number, other in enumerate(self._devices) if other not in used)
            self._devices[free] = device
        return self._devices.index(device)

    async def drain(self, export: Export) -> None:
        """Admit nothing more of an export, and wait until what was admitted is complete."""
        place = self._place_of[export]
        self._publish(place, gone=True)
        await self._settled(place)
        self._take_all()  # what came up before that is still its own

    def forget(self, export: Export) -> None:
        """An export that is drained, and of which Python has nothing left either: another one may come."""
        place = self._place_of.pop(export)
        self._places[place.index] = None
        self.engine.pass_exports()

    def numbers(self, export: Export) -> tuple[list[int], list[tuple[bytes, list[int]]], list[int]]:
        """What the engine counted of an export, of its clients, and of all others together."""
        return self.engine.numbers(self._place_of[export].index)

    def threads(self) -> list[list[int]]:
        """What it counted of its threads."""
        return [self.engine.thread(number) for number in range(self._options.threads)]

    def refresh(self, export: Export) -> None:
        """Tell the engine what changed about an export, if anything did."""
        place = self._place_of[export]
        if place.published is not None and _facts(place, self._ports) != place.published:
            self._publish(place)

    async def fence(self, export: Export) -> None:
        """Publish the export, and wait until everything admitted before that is complete (rule T5)."""
        place = self._place_of[export]
        if place.published is not None:
            self._publish(place)
        await self._settled(place)

    def cut(self, export: Export, cloning: Cloning) -> EngineCut:
        """What makes a snapshot of an export, of a moment that is to come."""
        place = self._place_of[export]
        return EngineCut(self.engine, place.index, place.disk, cloning, self._changed)

    def release(self, export: Export) -> None:
        """Give back the places of all that Python has no disk operation for (any more)."""
        self.refresh(export)
        place = self._place_of[export]
        for ticket in place.tickets - export.tickets:
            place.tickets.remove(ticket)
            self.engine.release(place.index, ticket)

    def _publish(self, place: _Place, *, gone: bool = False, streams: Sequence[StreamLeft] = ()) -> None:
        facts = _facts(place, self._ports)
        place.published = None if gone else facts
        place.number = self.engine.publish(place.index, facts, gone=gone, streams=streams)

    async def _settled(self, place: _Place) -> None:
        number = place.number
        while self.engine.settled(place.index) < number:
            self._changed.clear()
            await self._changed.wait()

    def stop(self) -> None:
        """Stop the threads. Where they leave nothing behind, the exports have their streams from then on."""
        if self.engine.stop():
            for export, place in self._place_of.items():
                export.know(Streams(self.engine.streams(place.index)))

    def close(self) -> None:
        """Stop the threads; requests that hang in a disk are left behind."""
        if self._handed_up is not None:
            asyncio.get_running_loop().remove_reader(self.engine.event)
        self.engine.close()
        for link in self._links.values():
            link.close_engine_sockets()

    def _news(self) -> None:
        self.engine.acknowledge()
        self._changed.set()
        self._take_all()

    def _take_all(self) -> None:
        assert self._handed_up is not None, "the event is watched from `start` on"
        while (up := self.engine.take()) is not None:
            place = None if up.export is None else self._places[up.export]
            if place is not None:
                place.tickets |= {up.ticket} - {0}
                if up.error < 0:
                    place.disk.distrust()
            port = self._ports[up.port]
            assert port is not None, "a port that goes waits for what came up"
            self._handed_up(port, up, None if place is None else place.export)


def _facts(place: _Place, ports: Iterable[Port | None]) -> ExportFacts:
    export, disk = place.export, place.disk
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
        flushes_asked=export.flushes_asked,
        image=isinstance(disk, ImageDisk),
        trust=disk.trust,
        instance=export.identity.instance,
        mask=export.state.mask,
        reserve=export.state.reserve,
        device=place.device,
        room=disk.device.room,
        elsewhere=_elsewhere(export, ports),
        limits=export.limits,
    )


def _elsewhere(export: Export, ports: Iterable[Port | None]) -> int:
    """A bit for each port where it is not served, those that may come among them."""
    if export.only_on is None:
        return 0
    return sum(1 << index for index, port in enumerate(ports) if port is None or not export.is_on(port))
