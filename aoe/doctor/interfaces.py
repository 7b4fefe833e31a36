"""Looks at interfaces, as the kernel tells of them, and as their cards have counted."""

import fcntl
import socket
import struct
from array import array
from collections.abc import Sequence

from aoe.disk.identity import HERE, Host, number_of
from aoe.doctor.of_interfaces import Lost, Seen
from aoe.link.interface import asking, ethernet_interfaces_up, look_up
from aoe.link.naming import all_known, called
from aoe.wire.frame import format_mac

_SIOCETHTOOL = 0x8946
_ETHTOOL_GFEATURES = 0x3A
_SG = 1
"""NETIF_F_SG, the first bit of linux/netdev_features.h."""
_MISSED = ("rx_missed_errors", "rx_fifo_errors")
_DAMAGED = ("rx_crc_errors", "rx_frame_errors")


def look(name: str, host: Host = HERE) -> Seen:
    """At one. OSError where the kernel cannot be asked."""
    with asking() as kernel:
        return _seen(name, kernel, host)


def _seen(name: str, kernel: socket.socket, host: Host) -> Seen:
    found = look_up(name, kernel)
    if found is None:
        return Seen(name, there=False)
    carries = (found.carries_ethernet, found.up, found.bridge, found.mtu)
    return Seen(name, True, *carries, _lost(name, host), _gathers(name, kernel))


def _gathers(name: str, kernel: socket.socket) -> bool:
    """Or the card cannot, and nothing would mend that; also where the kernel does not say (linux/ethtool.h,
    `ethtool_gfeatures`)."""
    told = array("I", (_ETHTOOL_GFEATURES, 1, 0, 0, 0, 0))
    request = struct.pack("16sP16x", name.encode(errors="surrogateescape"), told.buffer_info()[0])
    try:
        fcntl.ioctl(kernel, _SIOCETHTOOL, request)
    except OSError:
        return True
    may_change, _, is_on, _ = told[2:]
    return bool(is_on & _SG) or not may_change & _SG


def _lost(name: str, host: Host) -> Lost:
    counted = host.sys / "class/net" / name / "statistics"
    missed, damaged = (max(number_of(counted / it) for it in names) for names in (_MISSED, _DAMAGED))
    return Lost(number_of(counted / "rx_packets"), missed, damaged)


def chosen(names: list[str]) -> list[str]:
    """Those, or where there is none every Ethernet interface that is up. OSError."""
    return names or ethernet_interfaces_up()


def named(words: Sequence[str]) -> list[str]:
    """The interfaces that a file means; a word that means none is left as it is. OSError."""
    known = all_known()
    return [name for word in words for name in called(word, known) or [word]]


def own_macs() -> frozenset[str]:
    """Of this host. OSError."""
    return frozenset(format_mac(it.mac) for it in all_known())
