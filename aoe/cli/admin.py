"""`aoe config`, `aoe mask` and `aoe reserve`: the AoE verbs, for each address of a disk."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from aoe.cli.report import Report
from aoe.cli.where import Where, each_disk
from aoe.errors import ConfigurationError, RequestError
from aoe.initiator.admin import Admin
from aoe.wire.frame import format_mac


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

    async def _one(self, report: Report, address: str, admin: Admin, label: str) -> None:
        if self.test is not None:
            await _test(admin, address, self.test, prefix=False)
        if self.prefix is not None:
            await _test(admin, address, self.prefix, prefix=True)
        if self.new is None:
            text = await admin.config()
        else:
            text = await admin.set_config(self.new.encode(), force=self.force)
        shown = text.decode("utf-8", "backslashreplace")
        report.say(label + shown, address=address, config=shown)


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

    async def _one(self, report: Report, address: str, admin: Admin, label: str) -> None:
        macs = before = await admin.mask()
        if self.add or self.delete:
            macs = await admin.edit_mask(add=self.add, delete=self.delete)
        _say_macs(report, address, macs, label)
        absent = [format_mac(mac) for mac in self.delete if mac not in [*before, *self.add]]
        if absent:
            raise RequestError(f"{address}: not in the mask list: {', '.join(absent)}")


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

    async def _one(self, report: Report, address: str, admin: Admin, label: str) -> None:
        if self.take:
            macs = await admin.reserve(force=self.force)
        elif self.release:
            macs = await admin.release(force=self.force)
        else:
            macs = await admin.reserved()
        _say_macs(report, address, macs, label)


One = Callable[[Report, str, Admin, str], Awaitable[None]]
"""What is done at one address; its lines begin with the label."""


async def _at_each(
    where: Where, addresses: list[str], report: Report, one: One, *, changes: bool = False
) -> None:
    """At every address by itself: what fails at one is said, and done at the others. But nothing is changed
    where something is wrong with any of them."""
    async with each_disk(where, addresses, report) as disks:
        if changes and report.failed:
            report.fail(RequestError("nothing was changed"))
            return
        for address, disk in disks.items():
            label = f"{address}: " if len(addresses) > 1 else ""
            try:
                await one(report, address, disk.admin, label)
            except RequestError as error:
                report.fail(error, address=address)


async def _test(admin: Admin, address: str, text: str, *, prefix: bool) -> None:
    if not await admin.test_config(text.encode(), prefix=prefix):
        verb = "does not begin with" if prefix else "is not"
        raise RequestError(f"{address}: the config string {verb} {text!r}")


def _say_macs(report: Report, address: str, macs: list[bytes], label: str) -> None:
    shown = [format_mac(mac) for mac in macs]
    report.say("\n".join(label + word for word in shown or ["all"]), address=address, macs=shown)
