"""`aoe config`, `aoe mask` and `aoe reserve`: the AoE verbs, for each address of a disk."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

from aoe import limits
from aoe.abreast import abreast
from aoe.cli.report import Report
from aoe.cli.where import Where, each_disk
from aoe.errors import ConfigurationError, RequestError
from aoe.initiator.admin import Admin
from aoe.printable import plain
from aoe.wire.frame import format_mac


class Said(NamedTuple):
    """What there is to be said of one address: in lines, as facts, and what is wrong with it."""

    lines: list[str]
    facts: dict[str, Any]
    problem: RequestError | None = None


class Config(NamedTuple):
    """Show, test or set the config string; of `new`, `test` and `prefix` at most one is given."""

    where: Where
    addresses: list[str]
    new: str | None = None
    force: bool = False
    test: str | None = None
    prefix: str | None = None

    async def run(self, report: Report) -> None:
        """One line for each address."""
        await _at_each(self.where, self.addresses, report, self._one, changes=self.new is not None)

    async def _one(self, address: str, admin: Admin) -> Said:
        if self.test is not None:
            await _test(admin, address, self.test, prefix=False)
        if self.prefix is not None:
            await _test(admin, address, self.prefix, prefix=True)
        if self.new is None:
            text = await admin.config()
        else:
            text = await admin.set_config(self.new.encode(), force=self.force)
        shown = text.decode("utf-8", "backslashreplace")
        return Said([shown], {"config": shown})


def config(where: Where, addresses: list[str], forced: str | None, new: str | None, **test: Any) -> Config:
    """What the words of `aoe config` mean together."""
    return Config(where, addresses, new if forced is None else forced, forced is not None, **test)


class Mask(NamedTuple):
    """Show or edit the list of MACs that are served."""

    where: Where
    addresses: list[str]
    add: list[bytes]
    delete: list[bytes]

    async def run(self, report: Report) -> None:
        """One list for each address."""
        changes = bool(self.add or self.delete)
        await _at_each(self.where, self.addresses, report, self._one, changes=changes)

    async def _one(self, address: str, admin: Admin) -> Said:
        macs = before = await admin.mask()
        if self.add or self.delete:
            macs = await admin.edit_mask(add=self.add, delete=self.delete)
        said = _macs(macs)
        absent = [format_mac(mac) for mac in self.delete if mac not in [*before, *self.add]]
        if absent:
            return said._replace(
                problem=RequestError(f"{address}: not in the mask list: {', '.join(absent)}")
            )
        return said


class Reserve(NamedTuple):
    """Show, take or give up the reservation."""

    where: Where
    addresses: list[str]
    take: bool = False
    release: bool = False
    force: bool = False

    async def run(self, report: Report) -> None:
        """One list for each address."""
        if self.take and self.release:
            raise ConfigurationError("--set and --release exclude each other")
        changes = self.take or self.release
        await _at_each(self.where, self.addresses, report, self._one, changes=changes)

    async def _one(self, _: str, admin: Admin) -> Said:
        if self.take:
            macs = await admin.reserve(force=self.force)
        elif self.release:
            macs = await admin.release(force=self.force)
        else:
            macs = await admin.reserved()
        return _macs(macs)


One = Callable[[str, Admin], Awaitable[Said]]
"""What is done at one address; RequestError where that fails."""


async def _at_each(
    where: Where, addresses: list[str], report: Report, one: One, *, changes: bool = False
) -> None:
    """At every address by itself, many at a time: what fails at one is said, and done at the others. But
    nothing is changed where something is wrong with any of them."""
    async with each_disk(where, addresses, report) as disks:
        if changes and report.failed:
            report.fail(RequestError("nothing was changed"))
            return

        async def at(address: str) -> Said:
            try:
                return await one(address, disks[address].admin)
            except RequestError as error:
                return Said([], {}, error)

        async with aclosing(abreast(at, disks, limits.CHANGED_AT_ONCE)) as answers:
            for address in disks:
                label = f"{address}: " if len(addresses) > 1 else ""
                _say(report, address, label, await anext(answers))


def _say(report: Report, address: str, label: str, said: Said) -> None:
    if said.lines:
        text = "\n".join(label + plain(line) for line in said.lines)
        report.say(text, address=address, **said.facts)
    if said.problem is not None:
        report.fail(said.problem, address=address)


async def _test(admin: Admin, address: str, text: str, *, prefix: bool) -> None:
    if not await admin.test_config(text.encode(), prefix=prefix):
        verb = "does not begin with" if prefix else "is not"
        raise RequestError(f"{address}: the config string {verb} {text!r}")


def _macs(macs: list[bytes]) -> Said:
    shown = [format_mac(mac) for mac in macs]
    return Said(shown or ["all"], {"macs": shown})
