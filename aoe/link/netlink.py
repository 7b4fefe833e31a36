"""Questions to the kernel about interfaces, as bytes (netlink(7), rtnetlink(7))."""

import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from aoe import limits

_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLM_F_DUMP_INTR = 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_ERRNO = struct.Struct("i")
_NESTED = 0x8000
_HEADER = struct.Struct("IHHII")
_LINK = struct.Struct("BxHiII")
_ATTRIBUTE = struct.Struct("HH")


class Told(NamedTuple):
    """One interface: its number, its kind (ARPHRD_...), and what else is said of it, by the kind of that."""

    number: int
    kind: int
    said: dict[int, bytes]


class Message(NamedTuple):
    """One of those in a datagram."""

    kind: int
    flags: int
    body: bytes


def one(index: int, kernel: socket.socket) -> Told | None:
    """The interface of that number, if there is one. OSError where the kernel cannot be asked."""
    _ask(kernel, index, 0)
    them = messages(kernel.recv(limits.NETLINK_BYTES_MAX))
    return next((_told(it.body) for it in them if it.kind == _RTM_NEWLINK), None)


def every(kernel: socket.socket) -> list[Told]:
    """All interfaces. OSError where the kernel cannot be asked."""
    for _ in range(limits.NETLINK_TRIES):
        found, torn = _dumped(kernel)
        if not torn:
            break
    return found


def _dumped(kernel: socket.socket) -> tuple[list[Told], bool]:
    """All interfaces, and whether some came or went meanwhile, so that one may be missing. The last message
    may have a datagram to itself, or be behind others."""
    _ask(kernel, 0, _NLM_F_DUMP)
    found: list[Told] = []
    torn = False
    while True:
        for it in messages(kernel.recv(limits.NETLINK_BYTES_MAX)):
            torn |= bool(it.flags & _NLM_F_DUMP_INTR)
            if it.kind in (_NLMSG_DONE, _NLMSG_ERROR):
                _check(it)
                return found, torn
            if it.kind == _RTM_NEWLINK:
                found.append(_told(it.body))


def _check(last: Message) -> None:
    """OSError where it is one: both kinds have a number, 0 for none."""
    number = -_ERRNO.unpack_from(last.body)[0] if len(last.body) >= _ERRNO.size else 0
    if number:
        raise OSError(number, os.strerror(number))


def messages(datagram: bytes) -> Iterator[Message]:
    """What is in one, in order."""
    at = 0
    while at + _HEADER.size <= len(datagram):
        length, kind, flags, *_ = _HEADER.unpack_from(datagram, at)
        if length < _HEADER.size:
            return
        yield Message(kind, flags, datagram[at + _HEADER.size : at + length])
        at += -(-length // 4) * 4


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


def _told(body: bytes) -> Told:
    """Of a message of an interface."""
    _, hardware, number, *_ = _LINK.unpack_from(body)
    return Told(number, hardware, dict(attributes(body[_LINK.size :])))
