"""Over which interfaces and links a command looks for disks, and the disk that it finds there."""

import os
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aoe.cli.links import check_distinct, open_datagrams, open_links
from aoe.cli.report import Report, state_words
from aoe.cli.words import VARIABLE
from aoe.errors import RequestError
from aoe.initiator.attach import attach
from aoe.initiator.remote import RemoteDisk
from aoe.initiator.standing import PathStatus
from aoe.initiator.survey import attach_each
from aoe.link.base import Link
from aoe.link.packet import every_link, only_interface
from aoe.wire.address import parse_address


class Where(NamedTuple):
    """`interfaces` by name, `links` as `udp:...`. Where there is neither, AOE_INTERFACE counts."""

    interfaces: Sequence[str] = ()
    links: Sequence[str] = ()

    @property
    def named(self) -> list[str]:
        """The interfaces that are named, on the command line or in the environment."""
        if self.interfaces or self.links:
            return list(self.interfaces)
        return [name for name in re.split(r"[,\s]+", os.environ.get(VARIABLE, "")) if name]

    @property
    def chosen(self) -> list[str]:
        """Those, or the only one that is up; ConfigurationError where several are."""
        named = self.named or ([] if self.links else [only_interface()])
        check_distinct([*named, *self.links], "interface")
        return named

    def open(self) -> list[Link]:
        """Every link that is named; or one on every Ethernet interface that is up and can be used.
        ConfigurationError where there is none."""
        if self.links or self.named:
            return open_links(self.named, self.links)
        return [*every_link()]


@asynccontextmanager
async def one_disk(
    where: Where, addresses: Sequence[str], report: Report, background: bool = False
) -> AsyncIterator[RemoteDisk]:
    """The disk at all addresses, which is asked in the `background` of others. RequestError where one of them
    leads to another disk, or is refused; one that does not answer is said, and the disk used without it."""
    names, links = canonical(addresses), open_datagrams(where.links)
    async with attach(*names, interface=where.chosen, link=links, background=background) as disk:
        for address in names:
            refused = [path for path in disk.paths if path.address == address and path.state == "refused"]
            problem = _problem_at(disk, address)
            if problem and refused:
                raise RequestError(f"{disk.address} is not one disk: {problem}")
            if problem:
                report.warn(f"{problem}; going on without it", address=address, warning=problem)
        yield disk


@asynccontextmanager
async def each_disk(
    where: Where, addresses: Sequence[str], report: Report
) -> AsyncIterator[dict[str, RemoteDisk]]:
    """Those disks, by address, that can be used; of the others it is said why not. Several addresses should
    lead to one disk: where one leads to another disk than the first, that is said, too."""
    links = open_links(where.chosen, where.links)
    try:
        numbers = [parse_address(address) for address in canonical(addresses)]
        async with attach_each(links, numbers) as found:
            for disk, problem in found:
                if problem is not None:
                    report.fail(problem, address=disk.address)
            usable = {disk.address: disk for disk, problem in found if problem is None}
            for address, difference in _differences(list(usable.values())):
                report.fail(difference, address=address)
            yield usable
    finally:
        for link in links:
            link.close()


def _differences(disks: Sequence[RemoteDisk]) -> Iterator[tuple[str, RequestError]]:
    """What is not one disk: at one address, and at all."""
    for disk in disks:
        for path in disk.paths:
            if path.state == "refused":
                yield disk.address, RequestError(refusal(path))
        if difference := _difference(disks[0], disk):
            yield (
                disk.address,
                RequestError(f"{disk.address} is not the same disk as {disks[0].address}: its {difference}"),
            )


def _difference(first: RemoteDisk, other: RemoteDisk) -> str:
    if other.identity != first.identity:
        return f"serial is {other.identity}, not {first.identity}"
    return f"size is {other.size}, not {first.size}" if other.size != first.size else ""


def _problem_at(disk: RemoteDisk, address: str) -> str:
    """Why nothing at an address is a path to the disk; empty where something is."""
    paths = [path for path in disk.paths if path.address == address]
    if any(path.state == "usable" for path in paths):
        return ""
    return "; ".join(refusal(path) for path in paths) or f"{address} does not answer"


def refusal(path: PathStatus) -> str:
    """Why a path is not used."""
    return f"{path.address} at {path.mac} on {path.interface} is {state_words(path)}"


def canonical(addresses: Sequence[str]) -> list[str]:
    """Addresses as they are written everywhere, each once."""
    return list(dict.fromkeys("e{}.{}".format(*parse_address(address)) for address in addresses))
