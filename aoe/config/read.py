"""Reads a configuration file, strictly, and says all that is wrong with it at once.

tomllib and a table of our keys, not cattrs or pydantic: these tell where in a value a fault is, but not its
line, the nearest key or the remedy, so such a table would stand beside their classes; their API in Debian 12
is not today's, and importing them takes three times the CPU that tomllib takes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aoe import limits
from aoe.config import kinds
from aoe.config.again import Tables
from aoe.config.document import decoded
from aoe.config.faults import Faults, TooMany
from aoe.config.keys import HEADS, NEEDED, TABLES, WHERE, Key
from aoe.config.kinds import Wrong
from aoe.config.places import Path
from aoe.config.text import key, shown
from aoe.config.together import Said, check_pools, check_schedules, check_together, check_volumes
from aoe.config.unknown import no_key, no_table
from aoe.config.values import Config, ExportConfig, PoolConfig, ScheduleConfig, TargetConfig


def read(text: bytes | str, name: str) -> Config:
    """What a file of that name says; ConfigErrors says in one line each what is wrong with it."""
    return Reader().read(text, name)


class Reader:
    """Reads a file each time it changes: what an export says as before is not read again."""

    def __init__(self) -> None:
        self._tables = Tables()
        self._before = _Before()

    def read(self, text: bytes | str, name: str) -> Config:
        """As `read`."""
        readable = decoded(text, name)
        tables = self._tables.of(readable, name)
        reading = _Reading(self._before)
        try:
            config = reading.config(tables)
        except TooMany:
            config = None
        if config is None:
            raise reading.faults.error(name, readable)
        self._before = reading.now
        return config


class _Before(NamedTuple):
    """What exports meant, each by the id of its table, which is kept with it: as long as what they stand
    `under` (defaults and groups) is the same."""

    under: object = None
    exports: Mapping[int, tuple[object, Said, ExportConfig]] = {}


class _Reading:
    """Reads one document. `before` is what came of the last; `now` of this, if it has no fault."""

    def __init__(self, before: _Before) -> None:
        self.faults = Faults()
        self.now = self._before = before
        self._groups: dict[str, Sequence[bytes]] = {}

    def config(self, document: Mapping[str, Any]) -> Config | None:
        """What it says; None after a fault."""
        for name in document:
            if name not in HEADS:
                self._add((name,), "", *no_table(name, document[name]))
        self._read_groups(self._table(document, "groups"))
        target = self._fields(self._table(document, "target"), "target", ("target",))
        defaults = self._fields(self._table(document, "defaults"), "defaults", ("defaults",))
        pools = [self._pool(*it) for it in self._tables(document, "pool", limits.POOLS_MAX)]
        tables = list(self._tables(document, "export", limits.EXPORTS_MAX))
        exports = self._exports(tables, defaults)
        check_together(target, exports, self.faults)
        check_pools(pools, self.faults)
        check_volumes(exports, pools, self.faults)
        schedules = [self._schedule(*it) for it in self._tables(document, "schedule", limits.SCHEDULES_MAX)]
        check_schedules(schedules, pools, self.faults)
        if self.faults:
            return None
        named = tuple(PoolConfig(**it.fields) for it in pools)
        times = tuple(ScheduleConfig(**it.fields) for it in schedules)
        meant = tuple(it.meant() for it in exports)
        known = {id(it[0]): it for it in zip((it for _, it in tables), exports, meant, strict=True)}
        self.now = _Before((defaults, self._groups), known)
        return Config(TargetConfig(**target), meant, named, times)

    def _add(self, path: Path, where: str, what: str, remedy: str, first: Path | None = None) -> None:
        self.faults.add(path, where, what, remedy, first)

    def _table(self, document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        said = document.get(name, {})
        if isinstance(said, Mapping):
            return said
        self._add((name,), "", f"{name} is not one table", f"; write {HEADS[name]} once")
        return {}

    def _tables(
        self, document: Mapping[str, Any], name: str, most: int
    ) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """The exports, pools or schedules, each with its number."""
        said = document.get(name, [])
        if not isinstance(said, list):
            self._add((name,), "", f"{name} is not a list of tables", f"; write {HEADS[name]} before each")
            said = [said]
        verb = "serve" if name == "export" else "name"
        if len(said) > most:
            self._add((name, most), "", f"{len(said)} {name}s", f"; {verb} {most} at most")
        for at, table in enumerate(said):
            if isinstance(table, Mapping):
                yield at, table
            else:
                what = f"{shown(table)} is no {name}"
                self._add((name, at), "", what, f"; write {HEADS[name]} and its keys")

    def _read_groups(self, table: Mapping[str, Any]) -> None:
        for name, value in table.items():
            path: Path = ("groups", name)
            if name == kinds.ANY or not name or kinds.looks_like_mac(name):
                self._add(path, "[groups]", f"{key(name)} cannot name a group", "; choose another name")
            self._groups[name] = ()
            try:
                self._groups[name] = kinds.group(value)
            except Wrong as error:
                self._wrong(path, "[groups]", name, error)

    def _fields(self, table: Mapping[str, Any], name: str, path: Path, where: str = "") -> dict[str, Any]:
        """Of the keys of a table what they mean, by field."""
        keys = TABLES[name]
        where = where or HEADS[name]
        fields = {}
        for said, value in table.items():
            if said not in keys:
                self._add((*path, said), where, *no_key(said, name))
                continue
            try:
                fields[keys[said].field] = keys[said].kind.meant(value, self._groups)
            except Wrong as error:
                self._wrong((*path, said), where, said, error)
        return fields

    def _wrong(self, path: Path, where: str, name: str, error: Wrong) -> None:
        for bad in error.bad:
            if bad.at is None:
                self._add(path, where, f"{key(name)} = {shown(bad.value)}", f": {bad.remedy}")
            else:
                self._add((*path, bad.at), where, f"{shown(bad.value)} in {key(name)}", f": {bad.remedy}")

    def _exports(
        self, tables: Iterable[tuple[int, Mapping[str, Any]]], defaults: Mapping[str, Any]
    ) -> list[Said]:
        same = self._before.under == (defaults, self._groups)
        known = self._before.exports if same else {}
        return [
            was[1]._replace(path=("export", at), known=was[2])
            if (was := known.get(id(table)))
            else self._export(at, table, defaults)
            for at, table in tables
        ]

    def _export(self, at: int, table: Mapping[str, Any], defaults: Mapping[str, Any]) -> Said:
        path: Path = ("export", at)
        where = _called(at, table)
        self._check_needed(table, NEEDED["export"], path, where)
        own = self._fields(table, "export", path, where)
        return Said(path, where, {**defaults, **own}, own)

    def _pool(self, at: int, table: Mapping[str, Any]) -> Said:
        path: Path = ("pool", at)
        where = f"{HEADS['pool']} {at + 1}"
        self._check_needed(table, NEEDED["pool"], path, where)
        fields = self._fields(table, "pool", path, where)
        if table.get("kind", "directory") in WHERE:
            self._check_kind(table, fields.get("kind", "directory"), path, where)
        return Said(path, where, fields)

    def _schedule(self, at: int, table: Mapping[str, Any]) -> Said:
        path: Path = ("schedule", at)
        where = f"{HEADS['schedule']} {at + 1}"
        self._check_needed(table, NEEDED["schedule"], path, where)
        return Said(path, where, self._fields(table, "schedule", path, where))

    def _check_kind(self, table: Mapping[str, Any], kind: str, path: Path, where: str) -> None:
        self._check_needed(table, WHERE[kind], path, where)
        for other, keys in WHERE.items():
            for it in keys:
                if other != kind and it.name in table:
                    what = f"{it.name} stands in a pool of kind {kind}"
                    self._add(
                        (*path, it.name), where, what, f"; leave it out, or write kind = {shown(other)}"
                    )

    def _check_needed(self, table: Mapping[str, Any], needed: Iterable[Key], path: Path, where: str) -> None:
        for it in needed:
            if it.name not in table:
                self._add(path, where, f"{it.name} is missing", f"; add {it.written}")


def _called(at: int, table: Mapping[str, Any]) -> str:
    shelf, slot = table.get("shelf"), table.get("slot")
    if type(shelf) is int and type(slot) is int:
        return f"e{shelf}.{slot}"
    return f"[[export]] {at + 1}"
