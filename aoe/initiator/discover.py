"""Which targets are there: config queries over links, and the answers."""

import asyncio
from collections.abc import Sequence

from aoe.initiator.inquiry import Found, Inquiry
from aoe.initiator.options import as_links, as_names, check_seconds
from aoe.link.base import Link
from aoe.link.packet import PacketLink, every_link


async def discover(
    link: Link | Sequence[Link] = (), seconds: float = 0.5, *, interface: str | Sequence[str] = ()
) -> list[Found]:
    """Every target that answers a config query within `seconds` (0 to 1e9), by address: on Ethernet
    interfaces by name, over links, which stay open, or else on every Ethernet interface that is up. Where
    answers still come in then, it takes up to three seconds longer.

    ConfigurationError where an interface cannot be used, or none is up.
    """
    check_seconds("seconds", seconds)
    given, names = as_links(link), as_names(interface)
    opened = [] if names or given else every_link()
    try:
        for name in names:
            opened.append(PacketLink(name))
        found = await asyncio.gather(*(_heard(each, seconds) for each in [*given, *opened]))
    finally:
        for each in opened:
            each.close()
    return sorted(it for there in found for it in there)


async def _heard(link: Link, seconds: float) -> list[Found]:
    inquiry = Inquiry(link)
    inquiry.start()
    try:
        await inquiry.ask_all(seconds)
        return list(inquiry.found.values())
    finally:
        inquiry.stop()
