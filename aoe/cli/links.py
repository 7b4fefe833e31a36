"""From `--interface` and `--link` to links, for both commands."""

from collections.abc import Sequence

from aoe.errors import ConfigurationError
from aoe.link.base import Link
from aoe.link.packet import PacketLink, only_interface
from aoe.link.udp import UdpLink, UdpSpec


def open_links(interfaces: Sequence[str], links: Sequence[str]) -> list[Link]:
    """Open every link that is named, or the only Ethernet interface where none is."""
    names = list(interfaces) or ([] if links else [only_interface()])
    check_distinct([*names, *links], "interface")
    opened: list[Link] = []
    try:
        opened += (PacketLink(name) for name in names)
        opened += open_datagrams(links)
    except BaseException:
        for link in opened:
            link.close()
        raise
    return opened


def open_datagrams(links: Sequence[str]) -> list[Link]:
    """Open the UDP links that are named."""
    specs = [UdpSpec.parse(text) for text in links]
    check_distinct(links, "link")
    opened: list[Link] = []
    try:
        opened += (UdpLink(spec) for spec in specs)
    except BaseException:
        for link in opened:
            link.close()
        raise
    return opened


def check_distinct(values: Sequence[str], what: str) -> None:
    """ConfigurationError for a value that is there twice."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ConfigurationError(f"{what} {value} is given twice; name each once")
        seen.add(value)
