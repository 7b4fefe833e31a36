"""`aoe discover`, `aoe stat` and `aoe identify`: which disks there are, and what they say of themselves."""

from collections.abc import Callable
from contextlib import aclosing
from typing import NamedTuple

from aoe.cli.report import Report, error_facts, path_facts, state_words
from aoe.cli.where import Where, each_disk, refusal
from aoe.errors import RequestError, Unreachable
from aoe.initiator.remote import RemoteDisk
from aoe.initiator.standing import PathStatus
from aoe.initiator.survey import Surveyed, survey
from aoe.wire import protocol


class Discover(NamedTuple):
    """One line for each path to each disk."""

    where: Where

    async def run(self, report: Report) -> None:
        """A target whose disk cannot be used is a failure; the others are listed all the same."""
        await _list(self.where, report, _discovered)


class Stat(NamedTuple):
    """The same as aoe-stat lists it, and how each path is."""

    where: Where

    async def run(self, report: Report) -> None:
        """As for `Discover`."""
        await _list(self.where, report, _stated)


class Identify(NamedTuple):
    """One line for each address of one disk."""

    where: Where
    addresses: list[str]

    async def run(self, report: Report) -> None:
        """An address that leads to another disk, or at which no target answers, is a failure."""
        async with each_disk(self.where, self.addresses, report) as disks:
            for disk in disks.values():
                _identified(report, disk)


# One address


def _identified(report: Report, disk: RemoteDisk) -> None:
    report.say(
        f"{disk.address}: {disk.size} bytes, serial {disk.identity}",
        address=disk.address,
        bytes=disk.size,
        serial=disk.identity,
        block_bytes=disk.physical_block,
        trim=disk.trims,
        paths=[path_facts(path) for path in disk.paths],
    )


def _discovered(report: Report, found: Surveyed, path: PathStatus, error: RequestError | None) -> None:
    facts = {**path_facts(path), "bytes": found.size, "serial": found.serial}
    if error is not None:
        report.fail(error, **facts)
        return
    payload = path.sectors * protocol.SECTOR
    report.say(
        f"{path.address}\t{path.mac}\t{found.size} bytes\t{payload} bytes a frame\t{path.interface}", **facts
    )


def _stated(report: Report, found: Surveyed, path: PathStatus, error: RequestError | None) -> None:
    size, payload = f"{found.size / 1e9:.3f}GB", path.sectors * protocol.SECTOR
    facts = {**path_facts(path), "bytes": found.size, "serial": found.serial}
    if error is not None:
        facts["error"] = error_facts(error)
        report.failed = True
    report.say(
        f"{path.address:>10}{size:>15} {path.interface:>10} {payload:<5} {path.rtt_us:8.0f} us "
        f"{found.retransmits:5} retransmits {path.mac} {state_words(path)}",
        **facts,
        retransmits=found.retransmits,
    )


# All of them

Show = Callable[[Report, Surveyed, PathStatus, RequestError | None], None]


async def _list(where: Where, report: Report, show: Show) -> None:
    links = where.open()
    try:
        count = 0
        async with aclosing(survey(links)) as everything:
            async for found in everything:
                count += 1
                _show(report, found, show)
        if not count:
            names = ", ".join(link.name for link in links)
            raise Unreachable(f"nothing answers on {names}; is a disk served there, and to this host?")
    finally:
        for link in links:
            link.close()


def _show(report: Report, found: Surveyed, show: Show) -> None:
    for path in found.paths:
        wrong = found.problem is not None or path.state == "refused"
        show(report, found, path, RequestError(refusal(path)) if wrong else None)
    if found.problem is not None and not found.paths:
        report.fail(found.problem, address=found.address)
