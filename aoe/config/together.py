"""What is wrong with keys and exports beside each other, although each is right by itself."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aoe.config.faults import Faults
from aoe.config.kinds import nearest
from aoe.config.overlap import Part, overlapping
from aoe.config.places import Path
from aoe.config.text import shown
from aoe.config.values import ExportConfig, is_link, place_of, volume_of
from aoe.image.formats import AUTO, KEYED, format_of
from aoe.wire import protocol

_ABSOLUTE = "the path from / on"


class Said(NamedTuple):
    """What an export or a pool says, as far as it is right, by field; and where it says so. `own` are the
    fields that do not come from [defaults]. Of an export that said the same before, what that means is
    `known`."""

    path: Path
    where: str
    fields: dict[str, Any]
    own: Collection[str] = ()
    known: ExportConfig | None = None

    @property
    def fixed(self) -> str:
        """What it is that nothing writes to, whatever [defaults] say; empty where it is something else."""
        if "copy_of" in self.fields:
            return "a copy of an image (copy-of)"
        name = volume_of(self.fields.get("path", ""))
        return "a snapshot" if name is not None and name.snapshot else ""

    def meant(self) -> ExportConfig:
        """Of one that has all that is needed."""
        if self.known is not None:
            return self.known
        return ExportConfig(**{**self.fields, **({"read_only": True} if self.fixed else {})})


def check_together(target: Mapping[str, Any], exports: Sequence[Said], faults: Faults) -> None:
    """Add what is wrong to the faults."""
    if "threads" in target and "cpus" in target:
        what = "threads stands beside cpus, each of which gets a thread"
        faults.add(("target", "threads"), "[target]", what, "; leave out threads")
    if target.get("engine") == "c" and "links" in target:
        what = 'engine = "c" serves on Ethernet interfaces only'
        faults.add(("target", "engine"), "[target]", what, '; write engine = "auto", or leave out links')
    for export in exports:
        _check_export(export, target.get("links", ()), faults)
    _check_addresses(exports, faults)
    _check_serials(exports, faults)
    _check_stores(exports, faults)


def check_pools(pools: Sequence[Said], faults: Faults) -> None:
    """The same for pools, which are told apart by name and place."""
    for key in ("name", "path", "thin-pool"):
        first: dict[object, Path] = {}
        for one in pools:
            alike, field = _alike(key, one.fields), key.replace("-", "_")
            earlier = one.path if alike is None else first.setdefault(alike, one.path)
            if earlier != one.path:
                what = f"{key} = {shown(one.fields[field])} is there twice"
                remedy = "; choose another one" if key == "name" else "; give each pool its own"
                faults.add((*one.path, key), one.where, what, remedy, (*earlier, key))


def _alike(key: str, fields: Mapping[str, Any]) -> object:
    """What is the same in two pools of which one cannot be; None where it is not said."""
    match key:
        case "name" if "name" in fields:
            return fields["name"].casefold()
        case "path" if "path" in fields:
            return place_of(fields["path"])
        case "thin-pool" if "vg" in fields and "thin_pool" in fields:
            return fields["vg"], fields["thin_pool"]
    return None


def check_volumes(exports: Sequence[Said], pools: Sequence[Said], faults: Faults) -> None:
    """The same for exports that name volumes: the file has their pools."""
    named = [it.fields["name"] for it in pools if "name" in it.fields]
    for one in exports:
        name = volume_of(one.fields.get("path", ""))
        if name is not None and name.pool not in named:
            what = f"path = {shown(one.fields['path'])}: there is no pool {name.pool}"
            near = nearest(name.pool, named)
            remedy = f"; is {near} meant?" if near else f"; add a [[pool]], or write {_ABSOLUTE}"
            faults.add((*one.path, "path"), one.where, what, remedy)
        elif name is not None and one.fields.get("shared"):
            what = "shared = true, and a volume is served by the one host that has its pool"
            faults.add((*one.path, "shared"), one.where, what, "; leave it out")


def check_schedules(schedules: Sequence[Said], pools: Sequence[Said], faults: Faults) -> None:
    """The same for schedules, which are told apart by name: each keeps something, of pools that there are."""
    named = [it.fields["name"] for it in pools if "name" in it.fields]
    first: dict[str, Path] = {}
    for one in schedules:
        name = one.fields.get("name")
        earlier = first.setdefault(str(name).casefold(), one.path) if name is not None else one.path
        if earlier != one.path:
            what = f"name = {shown(name)} is there twice"
            faults.add((*one.path, "name"), one.where, what, "; choose another one", (*earlier, "name"))
        if not any(one.fields.get(f"keep_{it}", 0) for it in ("hourly", "daily", "weekly", "monthly")):
            faults.add(one.path, one.where, "it keeps no snapshots", "; add such as keep-daily = 7")
        for at, pattern in enumerate(one.fields.get("volumes", ())):
            pool = pattern.partition("/")[0]
            if pool not in named:
                near = nearest(pool, named)
                remedy = f"; is {near} meant?" if near else "; add a [[pool]] of that name"
                what = f"{shown(pattern)} in volumes: there is no pool {pool}"
                faults.add((*one.path, "volumes", at), one.where, what, remedy)


def _check_export(export: Said, links: Sequence[str], faults: Faults) -> None:
    if export.fields.get("shared") and export.fields.get("direct") is False:
        what = "shared = true forces direct I/O"
        faults.add((*export.path, "direct"), export.where, what, "; leave out direct = false")
    for key, what in _idle(export):
        faults.add((*export.path, key), export.where, what, "; leave it out")
    for at, name in enumerate(export.fields.get("interfaces") or ()):
        if is_link(name) and name not in links:
            what = f"{shown(name)} in interfaces is not one of the links of [target]"
            faults.add((*export.path, "interfaces", at), export.where, what, "; add it there")


def _idle(export: Said) -> Iterator[tuple[str, str]]:
    """Keys that would do nothing for what it serves, and why."""
    said = export.fields
    path, form = said.get("path", ""), said.get("format", AUTO)
    name = volume_of(path)
    if export.fixed and "read_only" in export.own and not said["read_only"]:
        yield "read-only", f"read-only = false, and {export.fixed} is never written to"
    if name is not None and form != AUTO:
        yield "format", f"format = {shown(form)}, and the pool {name.pool} knows that of its volumes"
    if "key_file" in said and name is not None:
        yield "key-file", "key-file is of an image, and a volume has no key"
    elif "key_file" in said and format_of(path, form) not in KEYED:
        yield (
            "key-file",
            f"key-file is of an image in {' or '.join(KEYED)}, and this is {format_of(path, form)}",
        )


def _check_addresses(exports: Iterable[Said], faults: Faults) -> None:
    first: dict[tuple[int, int], Path] = {}
    for one in exports:
        shelf, slot = one.fields.get("shelf"), one.fields.get("slot")
        if shelf is None or slot is None:
            continue
        if (shelf, slot) in first:
            remedy = f"; choose another one, such as {_free(shelf, first)}"
            earlier = (*first[shelf, slot], "slot")
            faults.add((*one.path, "slot"), one.where, "the address is there twice", remedy, earlier)
        first.setdefault((shelf, slot), one.path)


def _free(shelf: int, taken: Iterable[tuple[int, int]]) -> str:
    used = {slot for of, slot in taken if of == shelf}
    slots = (slot for slot in range(protocol.SLOT_MAX + 1) if slot not in used)
    return f"e{shelf}.{next(slots, 0)}" if len(used) <= protocol.SLOT_MAX else "one of another shelf"


def _check_serials(exports: Iterable[Said], faults: Faults) -> None:
    first: dict[str, Path] = {}
    for one in exports:
        serial = one.fields.get("serial")
        if serial in first:
            what, earlier = f"serial = {shown(serial)} is there twice", (*first[serial], "serial")
            remedy = "; choose another one, as clients would take both for one disk"
            faults.add((*one.path, "serial"), one.where, what, remedy, earlier)
        elif serial is not None:
            first[serial] = one.path


def _check_stores(exports: Iterable[Said], faults: Faults) -> None:
    for pair in overlapping(_parts(exports)):
        earlier, one = sorted(pair, key=lambda it: it.path[-1])
        what = f"{shown(one.fields['path'])} has sectors that {earlier.where} serves, too"
        remedy = "; serve each sector once, or say read-only = true in both"
        faults.add((*one.path, "path"), one.where, what, remedy, (*earlier.path, "path"))


def _parts(exports: Iterable[Said]) -> Iterator[tuple[Part, Said]]:
    for one in exports:
        said = one.fields
        if "path" in said:
            how = said.get("offset", 0), said.get("length"), said.get("read_only", False)
            yield Part(place_of(said["path"]), *how), one
