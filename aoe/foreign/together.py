"""What several commands and files say, as one configuration."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from aoe.config.faults import ConfigErrors
from aoe.config.read import read
from aoe.config.values import Config, ExportConfig, TargetConfig, is_link
from aoe.config.write import block, dump, said
from aoe.foreign.found import Disk, Found, Remark, Setting


class Together(NamedTuple):
    """A configuration that can be read, and what is not kept of what was said."""

    text: str
    config: Config
    remarks: tuple[Remark, ...]


def together(found: Found) -> Together:
    """Each address once, with all its interfaces; a disk that our file cannot have is left out."""
    disks, remarks = _joined(found.disks)
    target, more = _settled(found.settings)
    disks, target = _with_interfaces(disks, target)
    disks, faults = _readable(disks, target)
    config = Config(target, tuple(it.export for it in disks))
    every = sorted((*found.remarks, *remarks, *more, *faults), key=lambda it: it.origin)
    return Together(_text(target, disks), config, tuple(dict.fromkeys(every)))


def _joined(disks: Iterable[Disk]) -> tuple[list[Disk], list[Remark]]:
    """A disk is served on several interfaces by as many processes of vblade."""
    by_key: dict[tuple[int, int], Disk] = {}
    remarks: list[Remark] = []
    for disk in disks:
        known = by_key.get(disk.export.key)
        if known is None:
            by_key[disk.export.key] = disk
        elif replace(known.export, interfaces=None) == replace(disk.export, interfaces=None):
            both = dict.fromkeys((*(known.export.interfaces or ()), *(disk.export.interfaces or ())))
            by_key[disk.export.key] = known._replace(export=replace(known.export, interfaces=tuple(both)))
        else:
            address = disk.export.address
            remarks.append(Remark(disk.origin, f"left out: {address} is something else in {known.origin}"))
    return list(by_key.values()), remarks


def _settled(settings: Iterable[Setting]) -> tuple[TargetConfig, list[Remark]]:
    """One process has one of each."""
    first: dict[str, Setting] = {}
    remarks = []
    for setting in settings:
        known = first.setdefault(setting.field, setting)
        if known.value != setting.value:
            key = setting.field.replace("_", "-")
            remarks.append(Remark(setting.origin, f"{key} is not kept: all have that of {known.origin}"))
    values: dict[str, Any] = {it.field: it.value for it in first.values()}
    return TargetConfig(**values), remarks


def _with_interfaces(disks: list[Disk], target: TargetConfig) -> tuple[list[Disk], TargetConfig]:
    """Those that all disks have are said once."""
    every = {it.export.interfaces or () for it in disks}
    if len(every) != 1:
        return [it._replace(export=_stated(it.export)) for it in disks], target
    (common,) = every
    without = [it._replace(export=replace(it.export, interfaces=None)) for it in disks]
    return without, replace(target, interfaces=tuple(it for it in common if not is_link(it)))


def _stated(export: ExportConfig) -> ExportConfig:
    return replace(export, interfaces=export.interfaces or None)


def _readable(disks: list[Disk], target: TargetConfig) -> tuple[list[Disk], list[Remark]]:
    """Without those that our own file would be refused for."""
    remarks: list[Remark] = []
    while True:
        places = _places(disks, target)
        text = _text(target, disks)
        try:
            read(text, "")
        except ConfigErrors as errors:
            wrong = {}
            for fault in errors.faults:
                disk = next((it for line, it in reversed(places) if line <= fault.line), None)
                if disk is None:
                    raise
                wrong[disk] = Remark(disk.origin, f"left out: {disk.export.address}: {fault.message}")
            remarks += wrong.values()
            disks = [it for it in disks if it not in wrong]
        else:
            return disks, remarks


def _places(disks: list[Disk], target: TargetConfig) -> list[tuple[int, Disk]]:
    """The line of the text on which each disk begins."""
    places = []
    line = 1 + _text(target, []).count("\n")
    for disk in disks:
        places.append((line, disk))
        line += _block(disk).count("\n")
    return places


def _text(target: TargetConfig, disks: list[Disk]) -> str:
    return dump(Config(target)) + "".join(map(_block, disks))


def _block(disk: Disk) -> str:
    return f"\n# {disk.origin}\n" + block("export", said(disk.export))
