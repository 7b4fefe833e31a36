"""What the kernel says of network interfaces, and when that changes (netdevice(7), rtnetlink(7))."""

import asyncio
import errno
import fcntl
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from aoe.link.bridge import bridge_of

_SIOCGIFFLAGS = 0x8913
_SIOCGIFMTU = 0x8921
_SIOCGIFHWADDR = 0x8927
_IFF_UP = 0x1
_IFF_RUNNING = 0x40
_RTMGRP_LINK = 1
_SOL_NETLINK, _NETLINK_NO_ENOBUFS = 270, 5

ARPHRD_ETHER = 1
ARPHRD_LOOPBACK = 772


class Interface(NamedTuple):
    """One interface as it is now. `up` means administratively up, with carrier, and no port of a `bridge`,
    which would take all frames (empty: of none)."""

    number: int
    kind: int
    mac: bytes
    mtu: int
    up: bool
    bridge: str = ""

    @property
    def carries_ethernet(self) -> bool:
        """Whether its frames have an Ethernet header; the loopback's do."""
        return self.kind in (ARPHRD_ETHER, ARPHRD_LOOPBACK)


def look_up(name: str) -> Interface | None:
    """The interface of that name, or None where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as query:
        try:
            index = socket.if_nametoindex(name)
            bridge = bridge_of(index)  # first: it makes the kernel notice a carrier, else up to a second late
            (flags,) = struct.unpack("H", _ifreq(query, name, _SIOCGIFFLAGS)[:2])
            (mtu,) = struct.unpack("i", _ifreq(query, name, _SIOCGIFMTU)[:4])
            hardware = _ifreq(query, name, _SIOCGIFHWADDR)
        except OSError:
            return None
    (kind,) = struct.unpack("H", hardware[:2])
    up = flags & _IFF_UP and flags & _IFF_RUNNING
    return Interface(index, kind, hardware[2:8], mtu, bool(up and not bridge), bridge)


def ethernet_interfaces_up() -> list[str]:
    """Names of the Ethernet interfaces that are up, the loopback not among them."""
    found = ((name, look_up(name)) for _, name in socket.if_nameindex())
    return [name for name, it in found if it and it.kind == ARPHRD_ETHER and it.up]


def _ifreq(query: socket.socket, name: str, request: int) -> bytes:
    return fcntl.ioctl(query, request, struct.pack("16s24x", name.encode()))[16:]


class Monitor:
    """Calls back whenever any interface changed; what changed is for `look_up` to say. It calls back once at
    first, too: of what changed before it watched, it is not told."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
        )
        # Lost events leave no error, on which uvloop would give the socket up: the others suffice.
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
        self._socket.bind((0, _RTMGRP_LINK))
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, self._readable)
        self._first = loop.call_soon(changed)

    def _readable(self) -> None:
        while True:
            try:
                self._socket.recv(65536)
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # events were lost: that is an event
                    continue
                break
        self._changed()

    def close(self) -> None:
        """Stop watching."""
        self._first.cancel()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
