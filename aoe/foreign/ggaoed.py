"""ggaoed.conf: groups of keys; `defaults`, `acls`, and one group for each disk."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from aoe.config.values import ExportConfig
from aoe.errors import ConfigurationError
from aoe.foreign.found import Disk, Found, Line, Remark, left_out
from aoe.wire.frame import parse_mac

_GROUP = re.compile(r"\[([^\]]+)\]")
_DEFAULTS, _ACLS = "defaults", "acls"
_LIST = re.compile(r"[,;\s]+")
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_OF_DISK = frozenset({"path", "uuid", "shelf", "slot", "read-only", "accept", "deny"})
_OF_BOTH = frozenset({"direct-io", "interfaces"})
_EVERY_HOST = ("", "*")


class _Value(NamedTuple):
    origin: Line
    text: str


_Group = dict[str, _Value]


def is_ggaoed(text: str) -> bool:
    """Whether a text has groups like those of ggaoed.conf."""
    groups = {it[1] for it in map(_GROUP.fullmatch, map(str.strip, text.splitlines())) if it}
    return bool(groups & {_DEFAULTS, _ACLS}) or bool(re.search(r"^\s*(path|uuid)\s*=", text, re.MULTILINE))


def of_text(text: str, file: str) -> Found:
    """Its disks."""
    groups, found = _groups(text, file)
    defaults, acls = groups.pop(_DEFAULTS, {}), groups.pop(_ACLS, {})
    found += _not_kept(defaults, _OF_BOTH)
    for name, group in groups.items():
        origin = next((value.origin for value in group.values()), Line(file, 1))
        try:
            found += Found((Disk(origin, _export({**_common(defaults), **group}, acls)),))
            found += _not_kept(group, _OF_BOTH | _OF_DISK)
        except ConfigurationError as error:
            found += left_out(origin, f"[{name}]: {error}")
    return found


def _groups(text: str, file: str) -> tuple[dict[str, _Group], Found]:
    groups: dict[str, _Group] = {}
    group: _Group = {}
    remarks: list[Remark] = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        origin = Line(file, number)
        name, equals, value = line.partition("=")
        if named := _GROUP.fullmatch(line):
            group = groups.setdefault(named[1], {})
        elif equals:
            group[name.strip()] = _Value(origin, value.strip())
        elif line and not line.startswith("#"):
            remarks.append(Remark(origin, f"left out: {line} says nothing"))
    return groups, Found(remarks=tuple(remarks))


def _common(defaults: Mapping[str, _Value]) -> _Group:
    return {name: value for name, value in defaults.items() if name in _OF_BOTH}


def _not_kept(group: Mapping[str, _Value], kept: frozenset[str]) -> Found:
    left = {name: value.origin for name, value in group.items() if name not in kept}
    return Found(
        remarks=tuple(Remark(it, f"{name} is not kept: no key is like it") for name, it in left.items())
    )


def _export(group: Mapping[str, _Value], acls: Mapping[str, _Value]) -> ExportConfig:
    said = {name: value.text for name, value in group.items()}
    if said.get("deny", "") not in _EVERY_HOST:
        raise ConfigurationError("deny cannot be kept; name the hosts that are served in accept, or in mask")
    path = said.get("path") or (f"UUID={said['uuid']}" if "uuid" in said else "")
    if not path or "shelf" not in said or "slot" not in said:
        raise ConfigurationError("there is no path, shelf or slot")
    return ExportConfig(
        path=path,
        shelf=_number("shelf", said["shelf"]),
        slot=_number("slot", said["slot"]),
        direct=_flag("direct-io", said.get("direct-io", "true")),
        read_only=_flag("read-only", said.get("read-only", "false")),
        mask=None if said.get("accept", "") in _EVERY_HOST else _macs(said["accept"], acls),
        interfaces=tuple(_listed(said.get("interfaces", ""))),
    )


def _macs(text: str, acls: Mapping[str, _Value]) -> tuple[bytes, ...]:
    """Of the names of lists, and of MACs."""
    macs: list[bytes] = []
    for name in _listed(text):
        for mac in _listed(acls[name].text) if name in acls else (name,):
            try:
                macs.append(parse_mac(mac))
            except ValueError as error:
                raise ConfigurationError(f"accept: {mac} is no MAC, and no list of [acls]") from error
    return tuple(dict.fromkeys(macs))


def _listed(text: str) -> list[str]:
    return [it for it in _LIST.split(text) if it]


def _number(name: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ConfigurationError(f"{name} {text} is not a number")
    return int(text)


def _flag(name: str, text: str) -> bool:
    if text not in _FLAGS:
        raise ConfigurationError(f"{name} {text} is neither true nor false")
    return _FLAGS[text]
