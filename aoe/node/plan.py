"""What is wanted against what is served, and what is there: the steps that make the difference. Sans-I/O.

1. What leaves is removed first, so that exports can swap their disks; what stays is not touched.
2. Other bytes under an address (path, part, serial), or another way to open them (direct, shared, read-only
   where it was opened so), are a replacement: the export is removed, and one with a new instance is added.
3. An export that a client used lately stays, unless it is to be removed by word; so does one whose new disk
   is not there, or is one that stays elsewhere.
4. No host gets access for a key that is not stated: a list of hosts goes with its disk.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from typing import NamedTuple

from aoe.config.values import Config, ExportConfig, Mask, TargetConfig, volume_of
from aoe.node.steps import ALL, Add, Adjust, Change, Note, Plan, Remove, Step
from aoe.printable import plain
from aoe.target import rates

Key = tuple[int, int]
Store = Hashable
"""What a path leads to: equal for one store, whatever names it has."""


LIMITS = tuple(name.replace("_", "-") for name in rates.LIMITS)
_CHANGING = ("durability", "read-only", "interfaces", *LIMITS)
_ADJUSTED = (
    *("interfaces", "links", "max-frame-age", "remote-admin", "remote-masks", "log-level"),
    "metrics-clients",
)
_ELSEWHERE = ("control-group", "control-readers")
"""Keys of `[target]` that are no matter here."""
USED = "a client used it in the last minute; apply --remove does it now"


def unused() -> bool:
    """Whether a client used it lately: none did."""
    return False


class Serving(NamedTuple):
    """An export that is served: as which configuration, with what behind it, and how things stand.

    `used` says whether a client read or wrote lately, and is asked of what is to leave alone; `mask`: which
    hosts are served now (empty: all); `writable`: its disk was opened for writing.
    """

    export: ExportConfig
    store: Store
    serial: str
    mask: Mask = ()
    used: Callable[[], bool] = unused
    writable: bool = True


class Running(NamedTuple):
    """Everything that is served, by shelf and slot."""

    target: TargetConfig = TargetConfig()
    exports: Mapping[Key, Serving] = {}


def plan(
    wanted: Config,
    running: Running,
    there: Mapping[str, Store],
    *,
    remove: bool = False,
    held: Collection[Key] = (),
    why: Mapping[str, str] = {},
) -> Plan:
    """The steps from `running` to `wanted`. `there` is what each place leads to that is there at all, and of
    some others it is known `why` not; with `remove` it is no matter that clients use what leaves. What is
    `held` was in use when that was asked last, and stays as it did then."""
    planner = _Planner(wanted, running, there, why)
    planner.keep({it for it in planner.leaving if it in held or (not remove and running.exports[it].used())})
    return planner.plan()


class _Planner:
    def __init__(
        self, wanted: Config, running: Running, there: Mapping[str, Store], why: Mapping[str, str]
    ) -> None:
        self.why = why
        self.wanted = wanted.by_key
        self.target = wanted.target
        self.running = running
        self.there = there
        self.instead = {key: self._instead(one) for key, one in running.exports.items() if key in self.wanted}
        self.leaving = {key for key in running.exports if self.instead.get(key, ("gone",))}
        self.stays: dict[Key, str] = {}
        """What is to leave, and why it does not."""
        self.gone: set[Key] = set()
        """What leaves."""
        self.sources: dict[Store, list[Serving]] = defaultdict(list)
        """What leaves, by what it holds."""

    def plan(self) -> Plan:
        problems = tuple(self._problems())
        waits = dict(self._waiting())
        adds = [key for key in self.wanted if self._is_added(key) and key not in waits]
        steps: list[Step] = [
            Remove(self.running.exports[key].export, key in self.wanted) for key in sorted(self.gone)
        ]
        steps += self._changes()
        steps += self._adjusts()
        steps += [self._add(key) for key in adds]
        kept = tuple(Note(_address(key), reason) for key, reason in sorted(self.stays.items()))
        waiting = [Note(_address(key), reason) for key, reason in waits.items()]
        return Plan(
            () if problems else tuple(steps),
            kept,
            (*waiting, *self._restarts()),
            tuple(self._notes()),
            problems,
        )

    # What leaves

    def _instead(self, one: Serving) -> tuple[str, ...]:
        """The keys for which it has to be replaced."""
        was, now = one.export, self.wanted[one.export.key]
        if (was is now or was == now) and now.serial in (None, one.serial) and one.writable:
            return ()
        keys = ["path"] if was.place != now.place and not self._is_renamed(one, now) else []
        keys += [key for key in ("offset", "length") if getattr(was, key) != getattr(now, key)]
        keys += ["serial"] if now.serial not in (None, one.serial) else []
        keys += [key for key in ("direct", "shared") if getattr(was, key) != getattr(now, key)]
        keys += [key for key in ("form", "key_file") if getattr(was, key) != getattr(now, key)]
        keys += ["copy-of"] if was.copy_of != now.copy_of else []
        keys += ["read-only"] if not (now.read_only or one.writable) else []
        return tuple(keys)

    def _is_renamed(self, one: Serving, now: ExportConfig) -> bool:
        """Whether it is the same volume by another name."""
        both = volume_of(one.export.path) is not None and volume_of(now.path) is not None
        return both and self.there.get(now.place) == one.store

    def _is_added(self, key: Key) -> bool:
        return key in self.gone or key not in self.running.exports

    def keep(self, used: set[Key]) -> None:
        """What one that stays keeps from another makes that stay, too."""
        exports = self.running.exports
        self.stays.update((key, USED) for key in sorted(used))
        self.gone = self.leaving - self.stays.keys()
        while more := {key: why for key in self.gone & self.wanted.keys() if (why := self._lacks(key))}:
            self.stays.update(more)
            self.gone -= more.keys()
        for key in sorted(self.gone):
            self.sources[exports[key].store].append(exports[key])

    def _lacks(self, key: Key) -> str:
        """Why a wanted export cannot be added yet; empty where it can."""
        export = self.wanted[key]
        if export.place not in self.there:
            return self.why.get(export.place, f"{plain(export.path)} is not there")
        staying = (self.running.exports[it] for it in self.stays if it != key)
        for other in staying:
            if other.store == self.there[export.place] and _overlap(other.export, export):
                return f"{plain(export.path)} is served at {other.export.address}, which stays"
        return self._lacks_serial(key)

    def _lacks_serial(self, key: Key) -> str:
        serial = self.wanted[key].serial
        others = (self.running.exports[it] for it in self.stays if it != key)
        held = next((one for one in others if serial == one.serial), None)
        return f"serial {serial} is that of {held.export.address}, which stays" if held else ""

    # What comes

    def _waiting(self) -> Iterator[tuple[Key, str]]:
        for key in self.wanted:
            why = self._lacks(key) if self._is_added(key) else ""
            if why:
                yield key, why

    def _add(self, key: Key) -> Add:
        export = self.wanted[key]
        held = self.sources.get(self.there[export.place], ())
        source = next((one for one in held if _overlap(one.export, export)), None)
        instead, mask = self.instead.get(key, ()), export.mask
        if source is None:
            return Add(export, instead, None, mask)
        return Add(export, instead, source.export.address, (source.mask or None) if mask is None else mask)

    # What changes in place

    def _changes(self) -> Iterator[Change]:
        for key, one in self.running.exports.items():
            if key not in self.leaving:
                what = tuple(self._changed(one, self.wanted[key]))
                if what:
                    yield Change(self.wanted[key], what)

    def _changed(self, one: Serving, now: ExportConfig) -> Iterator[str]:
        if one.export != now:
            yield from (key for key in _CHANGING if _of(one.export, key) != _of(now, key))
        if one.export.mask != now.mask or (now.mask is not None and set(now.mask) != set(one.mask)):
            yield "mask"

    def _adjusts(self) -> Iterator[Adjust]:
        what = tuple(key for key in _ADJUSTED if _of(self.running.target, key) != _of(self.target, key))
        if what:
            yield Adjust(self.target, what)

    def _restarts(self) -> Iterator[Note]:
        keys = (it.name.replace("_", "-") for it in dataclasses.fields(TargetConfig))
        for key in keys:
            apart = key in (*_ADJUSTED, *_ELSEWHERE) or _of(self.running.target, key) == _of(self.target, key)
            if not apart:
                yield Note(ALL, f"{key} is in force after a restart of the service")

    # What is said

    def _notes(self) -> Iterator[Note]:
        for key, one in self.running.exports.items():
            if key in self.leaving:
                continue
            now = self.wanted[key]
            if now.mask is None and one.export.mask and one.mask:
                yield Note(
                    now.address, 'mask is not stated any more, and stays in force; mask = "any" opens it'
                )
            if self.there.get(now.place, one.store) != one.store:
                said = "is another file by now; what was opened is served on, until the export is removed"
                yield Note(now.address, f"{plain(now.path)} {said}")

    def _problems(self) -> Iterator[Note]:
        yield from self._twice()
        yield from self._mistaken()

    def _twice(self) -> Iterator[Note]:
        """Two exports that would write the same sectors."""
        places: dict[Store, list[ExportConfig]] = defaultdict(list)
        for export in self.wanted.values():
            store = self._store(export)
            for other in places[store] if store is not None else ():
                if _overlap(other, export) and not (other.shared and export.shared):
                    said = f"{plain(export.path)} is the disk of {other.address}, too; serve it once"
                    yield Note(export.address, said)
            places[store].append(export)

    def _store(self, export: ExportConfig) -> Store | None:
        """What it is, or will be, served of."""
        if export.key in self.running.exports and export.key not in self.leaving:
            return self.running.exports[export.key].store
        return self.there.get(export.place)

    def _mistaken(self) -> Iterator[Note]:
        """Clients know a disk by its serial: two must not have the same, one after the other or at once."""
        stated: dict[str, list[ExportConfig]] = defaultdict(list)
        for export in self.wanted.values():
            if export.serial is not None:
                stated[export.serial].append(export)
        for key, one in self.running.exports.items():
            for now in stated.get(one.serial, ()):
                if now.key == key and self._is_other(one, now):
                    said = f"{plain(now.path)} is another disk than that of serial {one.serial}"
                    yield Note(now.address, f"{said}; give it another serial, or none")
                elif now.key != key and key not in self.leaving:
                    yield Note(
                        now.address, f"serial {one.serial} is that of {one.export.address}; give another"
                    )

    def _is_other(self, one: Serving, now: ExportConfig) -> bool:
        if one.export.key not in self.leaving or now.place not in self.there:
            return False
        same_part = (one.export.offset, one.export.length) == (now.offset, now.length)
        return not same_part or self.there[now.place] != one.store


def in_force(was: TargetConfig, now: TargetConfig) -> TargetConfig:
    """The settings once those are adjusted that can be without a restart."""
    names = [key.replace("-", "_") for key in (*_ADJUSTED, *_ELSEWHERE)]
    return dataclasses.replace(was, **{name: getattr(now, name) for name in names})


def _of(it: ExportConfig | TargetConfig, key: str) -> object:
    found: object = getattr(it, key.replace("-", "_"))
    return found


def _address(key: Key) -> str:
    return "e{}.{}".format(*key)


def _overlap(one: ExportConfig, other: ExportConfig) -> bool:
    """Whether two parts of one store have a sector in common."""
    return _ends_after(one, other.offset) and _ends_after(other, one.offset)


def _ends_after(export: ExportConfig, sector: int) -> bool:
    return export.length is None or export.offset + export.length > sector
