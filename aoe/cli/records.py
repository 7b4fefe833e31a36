"""The records of what is to be served: which disk has which, and what to say of it."""

import os
from collections.abc import Sequence
from pathlib import Path

from aoe import limits
from aoe.cli.paths import Wanted, quoted
from aoe.cli.stdio import complain
from aoe.disk.file import FileDisk
from aoe.disk.open import Opening
from aoe.errors import ConfigurationError
from aoe.target.keys import StoreKey
from aoe.target.records import Record, StateStore


def find_records(
    store: StateStore, wanted: Sequence[Wanted], disks: Sequence[FileDisk], how: Opening
) -> list[Record]:
    """One for each disk. ConfigurationError where it would be a guess, or two would have the same."""
    found: list[Record] = []
    for one, disk in zip(wanted, disks, strict=True):
        record, note = store.find(key_of(one.path, disk, how), one.serial)
        if note:
            complain("aoe-target", f"e{one.shelf}.{one.slot}: {note}")
        if record.mended:
            what = " and ".join(record.mended)
            complain(
                "aoe-target",
                f"e{one.shelf}.{one.slot}: the damaged {what} of serial {record.serial} is replaced",
            )
        found.append(record)
    _check_serials(wanted, found)
    return found


def key_of(path: Path, disk: FileDisk, how: Opening) -> StoreKey:
    """What the record of a disk is looked for by."""
    return StoreKey(name_of(path), how.part, disk.store_name, str(path.resolve()), disk.identity or "")


def name_of(path: Path) -> str:
    """What an administrator will name a disk by again: the path from the root, no link resolved, without `..`
    where what is before that is no link. What a process hands on by its number has the name that it was
    opened by, empty where that is gone."""
    typed = _absolute(path)
    if not _is_handed_on(typed):
        plain = Path(os.path.normpath(typed))
        return str(plain if _leads_to(plain, path) else typed)
    opened = path.resolve()
    return str(opened) if _leads_to(opened, path) else ""


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError as error:
        raise ConfigurationError(f"{path}: this directory is gone; name the disk from / on") from error


def _leads_to(name: Path, path: Path) -> bool:
    try:
        return name.samefile(path)
    except OSError:
        return False


def _is_handed_on(path: Path) -> bool:
    """Whether it is a descriptor of a process, as /dev/stdin: the next time it is another file's."""
    for _ in range(limits.LINKS_FOLLOWED_MAX):
        if Path("/proc") in path.parent.resolve().parents:
            return True
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()
    return False


def _check_serials(wanted: Sequence[Wanted], records: Sequence[Record]) -> None:
    owner: dict[str, Wanted] = {}
    for one, record in zip(wanted, records, strict=True):
        other = owner.setdefault(record.serial, one)
        if other is not one:
            raise ConfigurationError(
                f"{quoted(other.text)} and {quoted(one.text)} have one serial, {record.serial}; "
                "give one of them a ,serial= of its own"
            )
