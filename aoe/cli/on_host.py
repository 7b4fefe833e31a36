"""What of a configuration can only be known on this host: stores, locks, interfaces, groups, processors."""

import grp
import os
import re
import socket
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from aoe.cli.pools import working
from aoe.config.keys import in_words_of_a_file
from aoe.config.overlap import Part, overlapping
from aoe.config.values import Config, ExportConfig, PoolConfig, TargetConfig
from aoe.engine import why_unavailable
from aoe.errors import AoeError, ConfigurationError
from aoe.image.asking import is_installed
from aoe.image.formats import RAW, check_key
from aoe.image.qemu import MISSING, PROGRAM
from aoe.link.naming import Known, all_known, called
from aoe.link.packet import only_interface, usable
from aoe.link.udp import UdpSpec
from aoe.node.opening import InProcess
from aoe.node.pools import Pools
from aoe.printable import plain

_OURS = re.compile(r"aoe-target \(process [0-9]+\)")
"""How a process of ours is named that has a lock."""


Facts = dict[str, Any]


class Finding(NamedTuple):
    """One thing that was looked at. `usable` is whether it can be served as it is now."""

    usable: bool
    text: str
    facts: Facts


def findings(config: Config) -> Iterator[Finding]:
    """Everything that a configuration names, in the order of the file."""
    yield from _interfaces(config)
    yield from (_link(text) for text in config.target.links)
    yield from of_target(config.target)
    yield from of_exports(config)
    yield from map(_pool, config.pools)


def _pool(pool: PoolConfig) -> Finding:
    facts = {"pool": pool.name, "path": pool.place}
    try:
        with working(pool, locked=False) as work:
            wrong = [it.sentence for it in work.leftovers]
            more = {"volumes": len(work.volumes)}
            text = "; ".join([f"pool {pool.name}: {plain(pool.place)}", *wrong])
            return Finding(not wrong, text, facts | more)
    except AoeError as error:
        return Finding(False, str(error), facts)


def _looked(facts: Facts, look: Callable[[], tuple[str, Facts]]) -> Finding:
    """What is said of a thing, or why it cannot be used."""
    try:
        text, more = look()
    except ConfigurationError as error:
        return Finding(False, plain(in_words_of_a_file(str(error))), facts)
    return Finding(True, text, facts | more)


# Interfaces


def _interfaces(config: Config) -> Iterator[Finding]:
    said = config.target.interfaces or config.target.links
    if not said and any(export.interfaces is None for export in config.exports):
        yield _looked({"interface": ""}, lambda: _said_of(only_interface(), ""))
    known = _all_known() if config.interfaces else []
    for text in config.interfaces:
        yield from _called(text, known)


def _all_known() -> list[Known]:
    try:
        return all_known()
    except OSError as error:
        raise ConfigurationError(f"the kernel lists no interfaces: {error.strerror}") from error


def _called(text: str, known: Sequence[Known]) -> Iterator[Finding]:
    names = called(text, known)
    if not names:
        have = ", ".join(it.name for it in known if it.is_ethernet) or "none"
        facts = {"interface": text}
        yield Finding(False, f"there is no network interface {plain(text)}; Ethernet ones are: {have}", facts)
    for name in names:
        yield _looked({"interface": name}, partial(_said_of, name, text))


def _said_of(name: str, text: str) -> tuple[str, Facts]:
    found = usable(name)
    if not found.up:
        raise ConfigurationError(f"interface {name} is down, or has no carrier; ip link set {name} up")
    otherwise = f" ({plain(text)})" if text not in ("", name) else ""
    return f"interface {plain(name)}{otherwise}: up, MTU {found.mtu}", {"mtu": found.mtu}


def _link(text: str) -> Finding:
    return _looked({"link": text}, lambda: _bound(text))


def _bound(text: str) -> tuple[str, Facts]:
    host, _ = UdpSpec.parse(text).bind
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise ConfigurationError(
                f"link {text}: {error.strerror}; bind an address of this host"
            ) from error
    return f"link {text}: can be bound", {}


# What is said in [target]


def of_target(target: TargetConfig) -> Iterator[Finding]:
    """What is said in its table of other things than interfaces."""
    if target.state_dir:
        yield _looked({"key": "state-dir"}, partial(_state_dir, target.state_dir))
    if target.control_group:
        yield _looked({"key": "control-group"}, partial(_group, target.control_group))
    if target.cpus:
        yield _looked({"key": "cpus"}, partial(_cpus, target.cpus))
    if target.engine == "c":
        yield _looked({"key": "engine"}, _engine)


def _state_dir(name: str) -> tuple[str, Facts]:
    directory = Path(name)
    if directory.exists() and not directory.is_dir():
        raise ConfigurationError(f"state-dir {plain(name)} is not a directory; name another one")
    return f"state-dir {plain(name)}: " + ("there" if directory.exists() else "will be made"), {}


def _group(name: str) -> tuple[str, Facts]:
    try:
        members = grp.getgrnam(name).gr_mem
    except KeyError as error:
        raise ConfigurationError(f"control-group {name}: no such group; groupadd {name}") from error
    return f"control-group {name}: {len(members)} supplementary members", {}


def _cpus(cpus: tuple[int, ...]) -> tuple[str, Facts]:
    may = os.sched_getaffinity(0)
    missing = [str(it) for it in cpus if it not in may]
    if missing:
        usable_here = ", ".join(map(str, sorted(may)))
        raise ConfigurationError(f"cpus {', '.join(missing)} cannot be used here; these can: {usable_here}")
    return f"cpus {', '.join(map(str, cpus))}: can be used", {}


def _engine() -> tuple[str, Facts]:
    reason = why_unavailable()
    if reason is not None:
        raise ConfigurationError(f'engine = "c": {reason}; or write engine = "python"')
    return 'engine = "c": can be loaded', {}


# Exports


def of_exports(config: Config) -> Iterator[Finding]:
    """Each store, and which is another one's by another name."""
    exports, opener = config.exports, InProcess(0, pools=Pools(config.pools, locked=False))
    there = opener.find({export.place for export in exports})
    for export in exports:
        yield _looked(_facts(export), partial(_store, export, opener))
    opener.close()
    for one, other in overlapping((_part(it, there[it.place]), it) for it in exports if it.place in there):
        if one.place != other.place:
            text = (
                f"{one.address}: {plain(one.path)} is {plain(other.path)} of {other.address} by another "
                "name; serve each sector once, or say read-only = true in both"
            )
            yield Finding(False, text, _facts(one))


def _facts(export: ExportConfig) -> Facts:
    return {"address": export.address, "path": export.path}


def _part(export: ExportConfig, store: Hashable) -> Part:
    return Part(store, export.offset, export.length, export.read_only)


def _image(export: ExportConfig, name: str) -> tuple[str, Facts]:
    """It is not opened: what stands in an image is read by a process without rights only."""
    check_key(name, export.form, export.key_file)
    if not Path(export.place).is_file():
        raise ConfigurationError(f"{name} is no file; name an image")
    key = export.key_file
    if key is not None and not Path(key).is_file():
        raise ConfigurationError(f"{name}: {plain(key)} is no file; name the file with the key")
    if not is_installed():
        raise ConfigurationError(f"{export.address}: {MISSING.format(PROGRAM)}")
    return f"{name}: an image in {export.form}", {"format": export.form, "read_only": export.read_only}


def _store(export: ExportConfig, opener: InProcess) -> tuple[str, Facts]:
    """How it would be served."""
    name = f"{export.address}: {plain(export.path)}"
    if export.form != RAW:
        return _image(export, name)
    try:
        store = opener.tried(export)
    except ConfigurationError as error:
        holder = _OURS.search(str(error))
        if holder:
            return f"{name}: is served now, by {holder[0]}", {"served_by": holder[0]}
        raise ConfigurationError(f"{export.address}: {error}") from error
    how = ["direct" if store.direct else "buffered", *(["read-only"] if store.read_only else [])]
    facts = {"bytes": store.size, "direct": store.direct, "read_only": store.read_only}
    return f"{name}: {store.size} bytes, {', '.join(how)}", facts
