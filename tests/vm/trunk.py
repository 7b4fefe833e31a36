"""What a switch does between a machine that speaks in a VLAN and one that knows of none."""

import fcntl
import os
import select
import socket
import struct
import threading
from types import TracebackType
from typing import Self

from tests.support.labs.guests.machine import SIDE, udp_card
from tests.support.labs.network import Lab, in_namespace
from tests.support.labs.ports import FRAME_MAX, RECEIVE_BUFFER, SO_RCVBUFFORCE, own_address

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_TAGGED = 0x8100
_AT = 12
"""Where a frame has its ethertype, or a tag before it."""


class Trunk:
    """From the `card` of a guest, whose frames bear a VLAN's tag (IEEE 802.1Q), to a tap, where they have
    none; until the end of the block. What has another tag, or none, is dropped."""

    def __init__(self, lab: Lab, tap: str, vlan: int, mtu: int, mac: bytes) -> None:
        here, self._there = own_address(), own_address()
        self.card = udp_card(here, self._there, tap, mtu, mac)
        self.carried = 0
        """Frames of the guest's that were in the VLAN."""
        self.untagged: set[int] = set()
        """Ethertypes of those that were in none."""
        self._tag = struct.pack("!HH", _TAGGED, vlan)
        self._ended, self._end = os.pipe()
        self._tap = in_namespace(lab.namespace(SIDE), lambda: _far_end(tap))
        self._cable = in_namespace(lab.namespace(SIDE), lambda: _bound(here))
        self._thread = threading.Thread(target=self._switch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._end)
        self._thread.join()
        self._cable.close()
        for it in (self._tap, self._ended):
            os.close(it)

    def _switch(self) -> None:
        while True:
            ready, _, _ = select.select([self._cable, self._tap, self._ended], [], [])
            if self._ended in ready:
                return
            if self._cable in ready:
                self._from_guest(self._cable.recv(FRAME_MAX))
            if self._tap in ready:
                data = os.read(self._tap, FRAME_MAX)
                self._cable.sendto(data[:_AT] + self._tag + data[_AT:], self._there)

    def _from_guest(self, data: bytes) -> None:
        if data[_AT : _AT + 4] == self._tag:
            self.carried += 1
            os.write(self._tap, data[:_AT] + data[_AT + 4 :])
        else:
            self.untagged.add(int.from_bytes(data[_AT : _AT + 2], "big"))


def _far_end(tap: str) -> int:
    """Of a tap that is there, as a descriptor: a frame is a read or a write."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", tap.encode(), _IFF_TAP | _IFF_NO_PI))
    return fd


def _bound(here: tuple[str, int]) -> socket.socket:
    cable = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    cable.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
    cable.bind(here)
    return cable
