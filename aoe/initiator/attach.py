"""`aoe.attach`: from addresses and links to a disk (asyncio)."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aoe import timing
from aoe.engine import why_unavailable
from aoe.errors import ConfigurationError
from aoe.initiator.carrier import Carrier
from aoe.initiator.compiled_core import CompiledCore
from aoe.initiator.core import Core
from aoe.initiator.engine_carrier import EngineCarrier
from aoe.initiator.link_carrier import LinkCarrier
from aoe.initiator.options import Options, Verify, as_links, as_names, check_engine
from aoe.initiator.path import Address, Policy
from aoe.initiator.remote import RemoteDisk
from aoe.link.base import Link
from aoe.link.packet import PacketLink, check_interface, only_interface
from aoe.link.udp import UdpLink
from aoe.timing import USUAL, Timing
from aoe.wire.address import parse_address

_DEFAULTS = Options()


def _carrier(
    links: Sequence[Link | str], addresses: Sequence[Address], policy: Policy, engine: str
) -> Carrier:
    """What suits the links best of what may be used; interfaces are named, and opened here if need be."""
    first_tag = random.getrandbits(31)
    compiled = engine == "c" or (engine == "auto" and why_unavailable() is None)
    suited = [link for link in links if isinstance(link, str | UdpLink)]
    if compiled and len(suited) == len(links):
        for name in suited:
            if isinstance(name, str):
                check_interface(name)
        return EngineCarrier(suited, addresses, first_tag, policy)
    opened = [PacketLink(link) if isinstance(link, str) else link for link in links]
    core = CompiledCore if compiled else Core
    mine = [link for link, given in zip(opened, links, strict=True) if isinstance(given, str)]
    return LinkCarrier(core(len(links), addresses, first_tag, policy), opened, mine)


async def connect(
    links: Sequence[Link | str],
    addresses: Sequence[Address],
    options: Options = _DEFAULTS,
    engine: str = "auto",
    timing: Timing = USUAL,
) -> RemoteDisk:
    """Use the one disk at all addresses, over all interfaces and links; closing it leaves the links open."""
    policy = options.policy._replace(timing=timing)
    name = "/".join(f"e{shelf}.{slot}" for shelf, slot in addresses)
    names = [link if isinstance(link, str) else link.name for link in links]
    disk = RemoteDisk(name, _carrier(links, addresses, policy, engine), names, options)
    try:
        await disk.begin(options.find_s)
    except BaseException:
        disk.close()
        raise
    return disk


@asynccontextmanager
async def attach(
    *addresses: str,
    interface: str | Sequence[str] = (),
    link: Link | Sequence[Link] = (),
    find_s: float = timing.FIND_S,
    timeout_s: float | None = timing.REQUEST_S,
    spread: bool = False,
    hold: bool = False,
    fence: Sequence[str] = (),
    failback_s: float | None = None,
    verify: Verify = "trust",
    background: bool = False,
    engine: str = "auto",
) -> AsyncIterator[RemoteDisk]:
    """The one disk that is at all `addresses` ("e0.0"), over Ethernet interfaces (the only one that is up,
    unless named) or over links, which are closed in the end. Every server that answers there is a path to it;
    the address named first is preferred when the first path is chosen.

    `engine` says which code does it: `python`, `c`, or `auto`, which takes the compiled one where it can be
    used. The other options are those of `aoe.Options`.
    ConfigurationError for a bad address, interface or engine, OutOfRangeError for a time that cannot be,
    Unreachable if nothing answers there.
    """
    links, names = as_links(link), as_names(interface)
    options = Options(timeout_s, spread, hold, fence, failback_s, find_s, verify, background)
    try:
        options.check()
        check_engine(engine)
        if not addresses:
            raise ConfigurationError("there is no address to attach; name one, as e0.0")
        wanted = list(dict.fromkeys(parse_address(address) for address in addresses))
        ends: list[Link | str] = [*links, *(names or ([] if links else [only_interface()]))]
        disk = await connect(ends, wanted, options, engine)
        try:
            yield disk
            await disk.drain()
        finally:
            disk.close()
    finally:
        for over in links:
            over.close()
