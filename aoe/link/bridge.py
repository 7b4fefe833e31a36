"""Which bridge an interface is a port of: what arrives there goes to the bridge alone (rtnetlink(7))."""

import socket
import struct
import sys
from collections.abc import Iterator

from aoe import limits

_RTM_NEWLINK, _RTM_GETLINK, _NLM_F_REQUEST = 16, 18, 1
_IFLA_MASTER, _IFLA_LINKINFO, _IFLA_INFO_SLAVE_KIND = 10, 18, 4
_HEADER = struct.Struct("IHHII")
_LINK = struct.Struct("BxHiII")
_ATTRIBUTE = struct.Struct("HH")
_TAKES_ALL = (b"bridge\0", b"openvswitch\0")


def bridge_of(index: int, kernel: socket.socket) -> int:
    """Number of the bridge of an interface; 0 where it is in none. `kernel` is a netlink socket."""
    try:
        kernel.send(
            _HEADER.pack(_HEADER.size + _LINK.size, _RTM_GETLINK, _NLM_F_REQUEST, 0, 0)
            + _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
        )
        reply = kernel.recv(limits.NETLINK_BYTES_MAX)
    except OSError:
        return 0
    if _HEADER.unpack_from(reply)[1] != _RTM_NEWLINK:
        return 0
    said = dict(_attributes(reply[_HEADER.size + _LINK.size :]))
    kind = dict(_attributes(said.get(_IFLA_LINKINFO, b""))).get(_IFLA_INFO_SLAVE_KIND)
    if kind not in _TAKES_ALL or _IFLA_MASTER not in said:
        return 0
    return int.from_bytes(said[_IFLA_MASTER], sys.byteorder)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += -(-length // 4) * 4
