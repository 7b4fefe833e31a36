"""Packet sockets that the service manager holds from one life of the service to the next."""

import socket
from collections.abc import Callable, MutableMapping, Sequence
from weakref import WeakKeyDictionary

from aoe.link.packet_sockets import Ring, Sockets
from aoe.node.held import Held, Kind


class HeldSockets(Sockets):
    """Sockets of the last life where they are of use, else new ones; either are held for the next life. A
    socket of an interface that is not there yet is not."""

    def __init__(self, held: Held, sockets: Sockets) -> None:
        """`sockets` opens new ones."""
        self._held = held
        self._sockets = sockets
        self.went_on = False
        """Whether there was one of the last life."""
        self._keys: MutableMapping[socket.socket, str] = WeakKeyDictionary()
        """As what each is held."""

    def packet(self, name: str) -> socket.socket:
        return self._socket(name, "python", lambda: self._sockets.packet(name))[0]

    def ringed(self, name: str, thread: int, ring: Ring) -> tuple[socket.socket, bool]:
        def new() -> socket.socket:
            return self._sockets.ringed(name, thread, ring)[0]

        return self._socket(name, f"{thread} {ring.words}", new)

    def asking(self) -> socket.socket:
        return self._sockets.asking()

    def watching(self) -> socket.socket:
        return self._sockets.watching()

    def bind(self, name: str, *them: socket.socket) -> None:
        self._sockets.bind(name, *them)

    def go_on(self, name: str, them: Sequence[socket.socket], then: Callable[[bool], None]) -> None:
        self._sockets.go_on(name, them, then)

    def let_go(self, *them: socket.socket) -> None:
        for key in filter(None, (self._keys.pop(it, "") for it in them)):
            self._held.forget(Kind.LINK, key)

    def _socket(self, name: str, use: str, new: Callable[[], socket.socket]) -> tuple[socket.socket, bool]:
        """Whether it is of the last life, too."""
        if not name:
            return new(), False
        key = f"{name} {use}"
        last = self._last(name, key)
        if last is not None:
            self.went_on = True
            self._keys[last] = key
            return last, True
        made = new()
        self._held.keep(Kind.LINK, key, made.fileno())
        self._keys[made] = key
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
