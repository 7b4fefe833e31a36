"""The records of what is to be served: which disk has which, and what to say of it."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from aoe.cli.paths import Wanted, quoted
from aoe.disk.file import FileDisk
from aoe.disk.open import Opening
from aoe.errors import ConfigurationError
from aoe.target.keys import StoreKey
from aoe.target.store import Record, StateStore


def find_records(
    store: StateStore, wanted: Sequence[Wanted], disks: Sequence[FileDisk], how: Opening
) -> list[Record]:
    """One for each disk. ConfigurationError where it would be a guess, or two would have the same."""
    found: list[Record] = []
    for one, disk in zip(wanted, disks, strict=True):
        record, note = store.find(key_of(one.path, disk, how), one.serial)
        if note:
            print(f"aoe-target: e{one.shelf}.{one.slot}: {note}", file=sys.stderr)
        found.append(record)
    _check_claims(wanted, found)
    return found


def key_of(path: Path, disk: FileDisk, how: Opening) -> StoreKey:
    """What the record of a disk is looked for by."""
    return StoreKey(str(absolute(path)), how.part, disk.store_name, str(path.resolve()), disk.identity or "")


def absolute(path: Path) -> Path:
    """The path from the root, no link resolved; without `..` where what is before that is no link."""
    plain = Path(os.path.normpath(path.absolute()))
    try:
        return plain if plain.samefile(path) else path.absolute()
    except OSError:
        return path.absolute()


def _check_claims(wanted: Sequence[Wanted], records: Sequence[Record]) -> None:
    owner: dict[str, Wanted] = {}
    for one, record in zip(wanted, records, strict=True):
        other = owner.setdefault(record.serial, one)
        if other is not one:
            raise ConfigurationError(
                f"{quoted(other.text)} and {quoted(one.text)} have one serial, {record.serial}; "
                "say ,serial= with another one behind one of them"
            )
