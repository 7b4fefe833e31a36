"""Links that come and go while a server serves."""

from collections.abc import Awaitable

from aoe.engine import EngineUnavailable
from aoe.link.base import Link, Received, buffers_that_fit
from aoe.link.packet import PacketLink
from aoe.target.accelerator import Accelerator
from aoe.target.address_locks import AddressLocks
from aoe.target.export import Port
from aoe.target.ports import Ports
from aoe.target.reception import Reception
from aoe.target.responder import Responder


class Joining:
    """All parts of a server that know its links. `buffer_count` is advertised; None: what the links hold."""

    def __init__(
        self,
        ports: Ports,
        reception: Reception[Port],
        responder: Responder,
        locks: AddressLocks,
        accelerator: Accelerator | None,
        buffer_count: int | None,
    ) -> None:
        self._ports = ports
        self._reception = reception
        self._responder = responder
        self._locks = locks
        self._accelerator = accelerator
        self._buffer_count = buffer_count

    def add(self, link: Link) -> Port:
        """One more. ConfigurationError or EngineUnavailable where that cannot be: it is the caller's then."""
        usable = None if self._accelerator is None else of_engine(link)
        port = self._ports.add(link)
        if self._accelerator is not None and usable is not None:
            port.change(link.mac, min(link.mtu, self._accelerator.mtu_max))
            try:
                self._accelerator.add_port(port, usable)
            except BaseException:
                self._ports.forget(port)
                raise
        self._responder.ports.append(port)
        self._reception.watch(port)
        self._count_buffers()
        self._locks.join(link)
        return port

    def retire(self, link: Link) -> tuple[Port, list[tuple[Port, Received]]]:
        """Take nothing more from one; also what others gave before, if it waited for this one alone."""
        link.stop()
        port = self._ports.retire(link)
        self._reception.leave(port)
        return port, self._reception.flush() if len(self._ports.links) == 1 else []

    async def drop(self, port: Port, answered: Awaitable[object]) -> None:
        """Close one that was retired, once all is `answered`."""
        if self._accelerator is not None:
            await self._accelerator.remove_port(port)
        await answered
        for export in self._responder.exports.values():
            if export.only_on is not None and port in export.only_on:
                export.serve_on(export.only_on - {port})
                if self._accelerator is not None:
                    self._accelerator.refresh(export)
        self._responder.ports.remove(port)
        link = self._ports.forget(port)
        self._locks.leave(link)
        self._count_buffers()
        link.close()

    def _count_buffers(self) -> None:
        self._responder.buffer_count = self._buffer_count or buffers_that_fit(self._ports.of)


def of_engine(link: Link) -> PacketLink:
    """EngineUnavailable for one that it cannot serve on."""
    if not isinstance(link, PacketLink):
        raise EngineUnavailable("it serves on Ethernet interfaces only")
    return link
