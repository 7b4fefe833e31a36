"""Packet sockets that the service manager holds from one life of the service to the next, and what comes
meanwhile."""

import socket

from aoe.link.packet import Sockets, bind
from aoe.node.held import Held, Kind


class HeldSockets(Sockets):
    """Sockets of the last life where they are of use, else new ones; either are held for the next life. A
    socket of an interface that is not there yet is not."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self.went_on = False
        """Whether there was one of the last life."""
        self._spare: list[socket.socket] = []

    def provide(self, count: int) -> None:
        """Open so many for interfaces that come when this process may open none. ConfigurationError."""
        self._spare += [super(HeldSockets, self).packet("") for _ in range(count)]

    def _made(self, name: str) -> socket.socket:
        if not self._spare:
            return super().packet(name)
        made = self._spare.pop()
        if name:
            bind(made, name)
        return made

    def packet(self, name: str) -> socket.socket:
        return self._socket(name, "python")[0]

    def ringed(self, name: str, thread: int, ring: str) -> tuple[socket.socket, bool]:
        return self._socket(name, f"{thread} {ring}")

    def _socket(self, name: str, use: str) -> tuple[socket.socket, bool]:
        """Whether it is of the last life, too."""
        if not name:
            return self._made(name), False
        key = f"{name} {use}"
        last = self._last(name, key)
        if last is not None:
            self.went_on = True
            return last, True
        made = self._made(name)
        self._held.keep(Kind.LINK, key, made.fileno())
        return made, False

    def _last(self, name: str, key: str) -> socket.socket | None:
        fd = self._held.take(Kind.LINK, key)
        if fd is None:
            return None
        last = socket.socket(fileno=fd)
        if last.family == socket.AF_PACKET and last.getsockname()[0] == name:
            return last
        last.close()  # its interface is gone; this is another one
        self._held.forget(Kind.LINK, key)
        return None
