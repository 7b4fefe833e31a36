"""Questions to the kernel about interfaces, as bytes (netlink(7), rtnetlink(7))."""

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from aoe import limits

_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_DONE = 3
_NESTED = 0x8000
_HEADER = struct.Struct("IHHII")
_LINK = struct.Struct("BxHiII")
_ATTRIBUTE = struct.Struct("HH")


class Told(NamedTuple):
    """One interface: its number, its kind (ARPHRD_...), and what else is said of it, by the kind of that."""

    number: int
    kind: int
    said: dict[int, bytes]


def one(index: int, kernel: socket.socket) -> Told | None:
    """The interface of that number, if there is one. OSError where the kernel cannot be asked."""
    _ask(kernel, index, 0)
    return next(_told(kernel.recv(limits.NETLINK_BYTES_MAX)), None)


def every(kernel: socket.socket) -> list[Told]:
    """All interfaces. OSError where the kernel cannot be asked."""
    _ask(kernel, 0, _NLM_F_DUMP)
    found: list[Told] = []
    while reply := kernel.recv(limits.NETLINK_BYTES_MAX):
        if _HEADER.unpack_from(reply)[1] == _NLMSG_DONE:
            break
        found += _told(reply)
    return found


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """What is in a list of attributes."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & ~_NESTED, data[at + _ATTRIBUTE.size : at + length]
        at += -(-length // 4) * 4


def text(value: bytes) -> str:
    """A name that the kernel ends with a zero."""
    return value.partition(b"\0")[0].decode(errors="surrogateescape")


def _ask(kernel: socket.socket, index: int, flags: int) -> None:
    head = _HEADER.pack(_HEADER.size + _LINK.size, _RTM_GETLINK, _NLM_F_REQUEST | flags, 0, 0)
    kernel.send(head + _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0))


def _told(reply: bytes) -> Iterator[Told]:
    """Of several messages those that are of interfaces."""
    at = 0
    while at + _HEADER.size <= len(reply):
        length, kind, *_ = _HEADER.unpack_from(reply, at)
        if length < _HEADER.size:
            return
        if kind == _RTM_NEWLINK:
            _, hardware, number, *_ = _LINK.unpack_from(reply, at + _HEADER.size)
            yield Told(
                number, hardware, dict(attributes(reply[at + _HEADER.size + _LINK.size : at + length]))
            )
        at += -(-length // 4) * 4
