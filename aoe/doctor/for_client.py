"""All that is looked at on a host that uses disks."""

import asyncio
from collections.abc import Sequence

from aoe import timing
from aoe.doctor import host, interfaces, of_host, of_interfaces, of_segment, segment
from aoe.doctor.bounded import blocking, soon
from aoe.doctor.checks import Finding, fault, gravest_first, unseen
from aoe.engine import why_unavailable
from aoe.link.base import Link

_LATE = segment.Heard([], {}, {})


async def examine(names: list[str], links: Sequence[Link], addresses: Sequence[str]) -> list[Finding]:
    """`names` are interfaces (none: every Ethernet interface that is up), `links` other links, which are
    closed; `addresses` those of the disks that are to be used (none: whatever answers)."""
    names = names if names or links else interfaces.chosen([])
    if not (names or links):
        return [fault("interface", "interfaces", "no Ethernet interface is up", "ip link set NAME up")]
    seen = [interfaces.look(name) for name in names]
    carrying = [it.name for it in seen if it.there and it.is_ethernet and it.running and not it.bridge]
    heard, driver = await asyncio.gather(
        soon(segment.listen(carrying, links), _LATE, timing.DOCTOR_S), blocking(host.driver, None)
    )
    found = [of_host.engine(why_unavailable() or "")]
    for it in seen:
        known = it._replace(problem=heard.problems.get(it.name, ""), fits=heard.fits.get(it.name))
        found += of_interfaces.judge(known, client=True)
    found += of_host.driver(driver, of_segment.several(heard.answers))
    if heard is _LATE:
        seconds = f"no end within {timing.DOCTOR_S:.0f} s"
        found.append(unseen("silent", "network", seconds, "name one interface, or some addresses"))
    elif heard.fits or links:
        found += of_segment.for_client(heard.answers, addresses)
    if (heard.fits or links) and not heard.answers and not addresses and heard is not _LATE:
        remedy = "is a disk served there, and is this host on its mask? aoe-target status on the server"
        where = ", ".join([*heard.fits, *(it.name for it in links)])
        found.append(fault("silent", where, "nothing answers", remedy))
    return gravest_first(found)
