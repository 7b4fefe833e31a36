"""The records of what is to be served: which disk has which, and what to say of it."""

from collections.abc import Sequence

from aoe.cli.paths import Wanted, quoted
from aoe.cli.stdio import complain
from aoe.disk.file import FileDisk
from aoe.disk.open import Opening
from aoe.errors import ConfigurationError
from aoe.target.naming import key_of
from aoe.target.records import Record, StateStore


def find_records(
    store: StateStore, wanted: Sequence[Wanted], disks: Sequence[FileDisk], how: Opening
) -> list[Record]:
    """One for each disk. ConfigurationError where it would be a guess, or two would have the same."""
    with store.many():
        found = [_find(store, *it, how) for it in zip(wanted, disks, strict=True)]
    _check_serials(wanted, found)
    return found


def _find(store: StateStore, one: Wanted, disk: FileDisk, how: Opening) -> Record:
    record, note = store.find(key_of(one.path, disk, how), one.serial)
    if note:
        complain("aoe-target", f"e{one.shelf}.{one.slot}: {note}")
    if record.mended:
        what = " and ".join(record.mended)
        complain(
            "aoe-target", f"e{one.shelf}.{one.slot}: the damaged {what} of serial {record.serial} is replaced"
        )
    return record


def _check_serials(wanted: Sequence[Wanted], records: Sequence[Record]) -> None:
    owner: dict[str, Wanted] = {}
    for one, record in zip(wanted, records, strict=True):
        other = owner.setdefault(record.serial, one)
        if other is not one:
            raise ConfigurationError(
                f"{quoted(other.text)} and {quoted(one.text)} have one serial, {record.serial}; "
                "give one of them a ,serial= of its own"
            )
