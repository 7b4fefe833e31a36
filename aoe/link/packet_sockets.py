"""Packet sockets (packet(7)): opened, bound, filtered, by this process or by another one for it."""

import ctypes
import socket
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.link.interface import asking, watching
from aoe.wire.frame import ETHERTYPE, FLAG_RESPONSE, FLAGS_AT

_SO_ATTACH_FILTER = 26
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS_NEW = 64

NO_FRAME = struct.pack("HBBI", 0x06, 0, 0, 0)
ONLY_REPLIES = (
    struct.pack("HBBI", 0x30, 0, 0, FLAGS_AT)  # load the byte with version and flags
    + struct.pack("HBBI", 0x45, 0, 1, FLAG_RESPONSE)  # jump unless it has the R flag
    + struct.pack("HBBI", 0x06, 0, 0, 0xFFFFFFFF)  # accept
    + NO_FRAME
)


class Ring(NamedTuple):
    """What an engine gives each of its sockets: one of another engine with the same words can be used."""

    words: str
    make: Callable[[int], None]
    """By its descriptor, before it is bound (csrc/shared/ring.h)."""


class Sockets:
    """What a link on an interface needs of the kernel, opened by this process; another one may do it."""

    def packet(self, name: str) -> socket.socket:
        """Bound to an interface (of no name: to none yet), with its buffers. ConfigurationError."""
        return open_packet(name)

    def ringed(self, name: str, thread: int, ring: Ring) -> tuple[socket.socket, bool]:
        """The same for a thread of an engine, with a ring; whether an earlier engine used that."""
        del thread
        made = self.packet("")
        try:
            ring.make(made.fileno())
            if name:
                self.bind(name, made)
        except BaseException:
            made.close()
            raise
        return made, False

    def asking(self) -> socket.socket:
        """To ask about interfaces."""
        return asking()

    def watching(self) -> socket.socket:
        """To be told when one changes."""
        return watching()

    def bind(self, name: str, *them: socket.socket) -> None:
        """Have packet sockets take the frames of an interface. ConfigurationError."""
        try:
            for it in them:
                it.bind((name, ETHERTYPE))
        except OSError as error:
            raise ConfigurationError(f"{name}: {error.strerror}") from error

    def go_on(self, name: str, them: Sequence[socket.socket], then: Callable[[bool], None]) -> None:
        """The same for a link, and `then` something with whether they do: at once. What asks another process
        for it does so later, in the running event loop."""
        try:
            self.bind(name, *them)
        except ConfigurationError:
            then(False)
        else:
            then(True)

    def let_go(self, *them: socket.socket) -> None:
        """What will be served on no more: of no use to another process either."""


def open_packet(name: str) -> socket.socket:
    """Bound to an interface (of no name: to none yet), with its buffers and stamps. ConfigurationError."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    try:
        link = socket.socket(socket.AF_PACKET, kind, 0)
    except PermissionError as error:
        raise ConfigurationError(
            f"no permission to open a packet socket on {name}; run as root, or grant it: "
            "setcap cap_net_raw+ep on the Python interpreter, or AmbientCapabilities=CAP_NET_RAW in a unit"
        ) from error
    try:
        _enlarge(link)
        link.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
        if name:
            link.bind((name, ETHERTYPE))
    except OSError as error:
        link.close()
        raise ConfigurationError(f"{name}: {error.strerror}") from error
    return link


def filter_frames(link: socket.socket, program: bytes) -> None:
    """Classic BPF (socket(7), SO_ATTACH_FILTER)."""
    code = ctypes.create_string_buffer(program)
    fprog = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    link.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)


def _enlarge(link: socket.socket) -> None:
    """As large as allowed: past the system's limit only CAP_NET_ADMIN goes."""
    sizes = (
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF, limits.RECEIVE_BUFFER),
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF, limits.SEND_BUFFER),
    )
    for beyond_limit, within_limit, size in sizes:
        try:
            link.setsockopt(socket.SOL_SOCKET, beyond_limit, size)
        except PermissionError:
            link.setsockopt(socket.SOL_SOCKET, within_limit, size)
