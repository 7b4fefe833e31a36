"""What the kernel says of network interfaces, and when that changes (netdevice(7), rtnetlink(7))."""

import asyncio
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from aoe.link.bridge import bridge_of
from aoe.link.netlink import every, text

_SIOCGIFNAME = 0x8910
_SIOCGIFFLAGS = 0x8913
_SIOCGIFMTU = 0x8921
_SIOCGIFHWADDR = 0x8927
_SIOCGIFINDEX = 0x8933
_IFNAMSIZ = 16
_IFF_UP = 0x1
_IFF_RUNNING = 0x40
_RTMGRP_LINK = 1
_IFLA_IFNAME = 3
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


def asking() -> socket.socket:
    """To ask about interfaces, also later, when this process may open no socket any more."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)


def watching() -> socket.socket:
    """To be told that some interface changed."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        # Lost events leave no error, on which uvloop would give the socket up: the others suffice.
        kernel.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
        kernel.bind((0, _RTMGRP_LINK))
    except BaseException:
        kernel.close()
        raise
    return kernel


def look_up(name: str, kernel: socket.socket | None = None) -> Interface | None:
    """The interface of that name, or None where there is none. `kernel` is what `asking` opened."""
    if kernel is None:
        with asking() as opened:
            return look_up(name, opened)
    try:
        (index,) = struct.unpack("i", _ifreq(kernel, name, _SIOCGIFINDEX)[:4])
        master = bridge_of(index, kernel)  # first: the kernel notices a carrier, else up to a second late
        bridge = _name_of(master, kernel) if master else ""
        (flags,) = struct.unpack("H", _ifreq(kernel, name, _SIOCGIFFLAGS)[:2])
        (mtu,) = struct.unpack("i", _ifreq(kernel, name, _SIOCGIFMTU)[:4])
        hardware = _ifreq(kernel, name, _SIOCGIFHWADDR)
    except OSError:
        return None
    (kind,) = struct.unpack("H", hardware[:2])
    up = flags & _IFF_UP and flags & _IFF_RUNNING
    return Interface(index, kind, hardware[2:8], mtu, bool(up and not bridge), bridge)


def ethernet_interfaces_up(kernel: socket.socket | None = None) -> list[str]:
    """Names of the Ethernet interfaces that are up, the loopback not among them. `kernel` is what `asking`
    opened."""
    if kernel is None:
        with asking() as opened:
            return ethernet_interfaces_up(opened)
    names = [text(told.said.get(_IFLA_IFNAME, b"")) for told in every(kernel)]
    found = ((name, look_up(name, kernel)) for name in names)
    return [name for name, it in found if it and it.kind == ARPHRD_ETHER and it.up]


def _name_of(index: int, kernel: socket.socket) -> str:
    """Empty where it is gone meanwhile."""
    try:
        told = fcntl.ioctl(kernel, _SIOCGIFNAME, struct.pack("16xi20x", index))
    except OSError:
        return ""
    return told[:16].rstrip(b"\0").decode(errors="surrogateescape")


def _ifreq(query: socket.socket, name: str, request: int) -> bytes:
    told = name.encode(errors="surrogateescape")
    if len(told) >= _IFNAMSIZ or b"\0" in told:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    return fcntl.ioctl(query, request, struct.pack("16s24x", told))[16:]


class Monitor:
    """Calls back whenever any interface changed, as a socket tells that `watching` opened; what changed is
    for `look_up` to say. Calls back once at first, too: of what changed before, it may not be told."""

    def __init__(self, kernel: socket.socket, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._socket = kernel
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
