"""What an interface may be called: by its name, an alternative name, its MAC, or a glob over names."""

import socket
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from aoe.link import netlink
from aoe.link.interface import ARPHRD_ETHER, asking
from aoe.wire.frame import format_mac

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_PROP_LIST, _IFLA_ALT_IFNAME, _IFLA_PERM_ADDRESS = 1, 3, 52, 53, 54


class Known(NamedTuple):
    """An interface by all that it may be called: `permanent` is the MAC it was made with (empty: none, as of
    a VLAN), `mac` the one that it has now."""

    name: str
    others: tuple[str, ...] = ()
    mac: bytes = b""
    permanent: bytes = b""
    is_ethernet: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and alternative names."""
        return self.name, *self.others


def all_known(ask: Callable[[], socket.socket] = asking) -> list[Known]:
    """The interfaces of the host where a socket of `ask` asks. OSError where the kernel cannot be asked."""
    with ask() as kernel:
        return [_known(told) for told in netlink.every(kernel)]


def called(text: str, interfaces: Iterable[Known]) -> list[str]:
    """The names of the interfaces that are called so: one by its name or alternative name; by a MAC those
    that were made with it, else those that have it; by a glob (`eth*`) all Ethernet interfaces that fit."""
    known = list(interfaces)
    for found in _readings(text, known):
        if found:
            return found
    return []


def _readings(text: str, known: list[Known]) -> Iterator[list[str]]:
    yield [it.name for it in known if text in it.names]
    if ":" in text:
        yield [it.name for it in known if it.permanent and format_mac(it.permanent) == text.lower()]
        yield [it.name for it in known if it.mac and format_mac(it.mac) == text.lower()]
    else:
        fits = (it for it in known if any(fnmatchcase(name, text) for name in it.names))
        yield [it.name for it in fits if it.is_ethernet]


def _known(told: netlink.Told) -> Known:
    said = told.said
    others = netlink.attributes(said.get(_IFLA_PROP_LIST, b""))
    return Known(
        netlink.text(said.get(_IFLA_IFNAME, b"")),
        tuple(netlink.text(name) for kind, name in others if kind == _IFLA_ALT_IFNAME),
        said.get(_IFLA_ADDRESS, b""),
        said.get(_IFLA_PERM_ADDRESS, b""),
        told.kind == ARPHRD_ETHER,
    )
