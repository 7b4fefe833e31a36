"""What whole Ethernet frames go through: a raw socket on an interface, or UDP as QEMU speaks it."""

import contextlib
import itertools
import os
import select
import socket
import time
from typing import Protocol

from aoe.wire import frame

PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 8 << 20
FRAME_MAX = 65536 + 14
_OWN_PORT = 4700
"""The kernel gives it to nobody that asks for any (ip(7), ip_local_port_range)."""
_own = itertools.count(_OWN_PORT)


class Port(Protocol):
    """What a Client speaks through: whole Ethernet frames, without FCS."""

    mac: bytes

    def send(self, data: bytes) -> None: ...
    def receive(self, timeout: float) -> bytes | None: ...
    def close(self) -> None: ...


def own_address() -> tuple[str, int]:
    """An address of the loopback that no other process has: for a server that cannot say which it was given,
    as one that was free a moment ago may be somebody else's by now."""
    pid = os.getpid()
    return f"127.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}", next(_own)


class PacketPort:
    """A raw socket on one interface. A MAC of choice makes it one of many hosts behind that interface."""

    def __init__(self, raw: socket.socket, mac: bytes | None = None, promiscuous: bool = False) -> None:
        self.socket = raw
        self.mac = mac or raw.getsockname()[4]
        self._mine = (self.mac, frame.BROADCAST)
        self._promiscuous = promiscuous

    def send(self, data: bytes) -> None:
        self.socket.send(data)

    def receive(self, timeout: float) -> bytes | None:
        """The next frame for this MAC, or None once `timeout` seconds have passed."""
        deadline = time.monotonic() + timeout
        while True:
            if not _readable(self.socket, deadline):
                return None
            # A link that went down leaves its error on the socket once; it is no frame.
            with contextlib.suppress(OSError):
                data, address = self.socket.recvfrom(FRAME_MAX, socket.MSG_DONTWAIT)
                if address[2] != PACKET_OUTGOING and (self._promiscuous or data[:6] in self._mine):
                    return data

    def close(self) -> None:
        self.socket.close()


class UdpPort:
    """One Ethernet frame per datagram, as QEMU's dgram network speaks."""

    def __init__(
        self,
        remote: tuple[str, int],
        mac: bytes = b"\x02\0\0\0\0\x0c",
        local: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(local)
        self.remote = remote
        self.mac = mac

    @property
    def local(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()
        return host, port

    def send(self, data: bytes) -> None:
        # The peer may not be up yet: its ICMP answer surfaces here, and is a lost frame.
        with contextlib.suppress(ConnectionRefusedError):
            self.socket.sendto(data, self.remote)

    def receive(self, timeout: float) -> bytes | None:
        deadline = time.monotonic() + timeout
        while _readable(self.socket, deadline):
            with contextlib.suppress(OSError):
                return self.socket.recv(FRAME_MAX, socket.MSG_DONTWAIT)
        return None

    def close(self) -> None:
        self.socket.close()


def _readable(sock: socket.socket, deadline: float) -> bool:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    left = max(0.0, deadline - time.monotonic())
    return bool(poller.poll(left * 1000))


def packet_socket(interface: str, ethertype: int = frame.ETHERTYPE) -> socket.socket:
    """A raw socket of the namespace that the caller is in, bound to an interface."""
    # Protocol 0 until it is bound: a socket of all interfaces would queue other interfaces' frames first.
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        raw.bind((interface, ethertype))
        try:
            raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except PermissionError:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    except BaseException:
        raw.close()
        raise
    return raw
