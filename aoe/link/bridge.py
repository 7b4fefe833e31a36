"""Which bridge an interface is a port of: what arrives there goes to the bridge alone (rtnetlink(7))."""

import socket
import sys

from aoe.link.netlink import attributes, one

_IFLA_MASTER, _IFLA_LINKINFO, _IFLA_INFO_SLAVE_KIND = 10, 18, 4
_TAKES_ALL = (b"bridge\0", b"openvswitch\0")


def bridge_of(index: int, kernel: socket.socket) -> int:
    """Number of the bridge of an interface; 0 where it is in none. `kernel` is a netlink socket."""
    try:
        told = one(index, kernel)
    except OSError:
        return 0
    if told is None:
        return 0
    kind = dict(attributes(told.said.get(_IFLA_LINKINFO, b""))).get(_IFLA_INFO_SLAVE_KIND)
    if kind not in _TAKES_ALL or _IFLA_MASTER not in told.said:
        return 0
    return int.from_bytes(told.said[_IFLA_MASTER], sys.byteorder)
