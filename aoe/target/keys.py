"""Which record is a disk's: that of its store's id, else that of the name which it was given."""

import enum
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from aoe.disk.base import StoreName
from aoe.disk.plausible import plausible
from aoe.drive.identify import StoreKind, is_serial
from aoe.errors import ConfigurationError
from aoe.target.state import AoeState
from aoe.wire.protocol import SERIAL_MAX

VERSION = 2
"""Of a record. Those of version 1 know a disk by the kernel's name for it."""

_OWN = (StoreKind.DEVICE, StoreKind.RBD, StoreKind.SERIAL, StoreKind.VOLUME)
"""Ids that go with the store wherever it is; a file's goes with the name, which a copy may take over."""


class StoreKey(NamedTuple):
    """What a record belongs to. `path` is as it was typed, absolute, no link resolved, or names a volume;
    `part` what of the store; `device` the path with all links resolved, of a volume that of its image;
    `shown` what the device says it is, although thousands may say the same. All are empty where they are not
    known."""

    path: str = ""
    part: str = ""
    name: StoreName = StoreName()
    device: str = ""
    shown: str = ""

    @property
    def place(self) -> str:
        """What is served, in words: the path, with the part."""
        return (self.path or self.device) + self.part

    @property
    def whereabouts(self) -> str:
        """A path that leads there, if it is still there."""
        return self.device if self.name.kind is StoreKind.VOLUME else self.path or self.device

    @property
    def own(self) -> bool:
        """Whether the store's id alone tells which record is its."""
        return self.name.kind in _OWN

    @property
    def serial(self) -> str | None:
        """The serial that follows from the id, so that two servers of one store say the same."""
        return serial_of(self.name.text) if self.own else None

    @property
    def old_serial(self) -> str | None:
        """The serial that version 1 made of what the device says."""
        return serial_of(self.shown + self.part) if self.shown else None


class Known(Protocol):
    """What is looked at of a record."""

    serial: str
    version: int
    key: StoreKey
    state: AoeState


K = TypeVar("K", bound=Known)


class Sight(enum.Enum):
    """What a path of old is now: the disk that is asked for, another one, or nothing."""

    SAME = 0
    OTHER = 1
    GONE = 2


_UNLESS = "if it is another disk, give it a serial with ,serial="

Look = Callable[[str, str], Sight]
"""Compares what the path of a record leads to with what another path does."""


def serial_of(text: str) -> str:
    """The id itself where ATA's 20 characters hold it, else of its hash as much as they hold."""
    return text if is_serial(text) else hashlib.sha256(text.encode()).hexdigest()[:SERIAL_MAX].upper()


def choose(key: StoreKey, records: Iterable[K], look: Look) -> tuple[K | None, str]:
    """The record of a disk, None where there is none, and what is to be said of that (empty: nothing).

    ConfigurationError where several may be, or where one with a list of hosts is, by another name: without
    it the disk would be open to all that the list keeps out.
    """
    known = list(records)
    found = _owners(key, known, look)
    had = [it for it in known if _named(it, key) and it.key.own and not key.own]
    if had and not found:  # another disk, or this one seen with other eyes
        raise ConfigurationError(
            f"{key.path} had the id {had[0].key.name.text} and has none now; {_remedy(had)}"
        )
    if len(found) > 1:
        raise ConfigurationError(f"{key.path}: {_both(found)} are records of this disk; {_remedy(found)}")
    if found:
        return found[0], _taken(key, found[0])
    return None, _parted(key, _relatives(key, known, look))


def left_aside(key: StoreKey, serial: str, records: Iterable[K], look: Look) -> str:
    """What is to be said where the administrator gave a disk another serial than that of its record."""
    known = list(records)
    others = [it for it in (*_owners(key, known, look), *_relatives(key, known, look)) if it.serial != serial]
    restricting = [it for it in others if _restricts(it)]
    return f"the list of hosts of {_both(restricting)} is not used" if restricting else ""


def _owners(key: StoreKey, records: Sequence[K], look: Look) -> list[K]:
    """From the surest to the least sure: by the store's id, by name, by the file that was moved, and, of
    version 1, by what that version went by."""
    same_id = [it for it in records if key.name.kind and it.key.name == key.name]
    if key.own and same_id:
        return same_id
    named = [it for it in records if _named(it, key) and not it.key.own and not _differs(it, key)]
    moved = [it for it in same_id if look(it.key.whereabouts, key.whereabouts) is not Sight.OTHER]
    return named or moved or [it for it in records if it.version == 1 and _was_its(key, it)]


def _named(record: K, key: StoreKey) -> bool:
    return bool(key.path) and (record.key.path, record.key.part) == (key.path, key.part)


def _differs(record: K, key: StoreKey) -> bool:
    """Whether it is another device, although what they say may be said by others, too."""
    return bool(record.key.shown and key.shown) and record.key.shown != key.shown


def _was_its(key: StoreKey, old: K) -> bool:
    at_its_place = bool(key.device) and old.key.device == key.device + key.part
    if key.old_serial is None:
        return at_its_place
    return old.serial == key.old_serial and (at_its_place or plausible(key.shown))


def _relatives(key: StoreKey, records: Sequence[K], look: Look) -> list[K]:
    """Records that know the disk by another name."""
    return [it for it in records if not (it.key.own and key.own) and _knows(it, key, look)]


def _knows(record: K, key: StoreKey, look: Look) -> bool:
    if record.version == 1:
        return key.old_serial is not None and record.serial == key.old_serial
    if not record.key.path or record.key.part != key.part or _differs(record, key):
        return False
    if key.shown and record.key.shown == key.shown:
        return True
    sight = look(record.key.whereabouts, key.whereabouts)
    return sight is Sight.SAME or (sight is Sight.GONE and record.key.device == key.device != "")


def _restricts(record: K) -> bool:
    return bool(record.state.mask or record.state.reserve)


def _taken(key: StoreKey, record: K) -> str:
    if record.version == 1:
        return f"takes over the record of {record.key.device}, serial {record.serial}; {_UNLESS}"
    if record.key.path and record.key.path != key.path:
        unless = "" if key.name.kind is StoreKind.VOLUME else f"; {_UNLESS}"  # whose UUID no other one has
        return f"was {record.key.path}, and keeps serial {record.serial}{unless}"
    if record.key.name.kind and record.key.name != key.name:
        return f"{key.path} is another file than before, and keeps serial {record.serial}; {_UNLESS}"
    return ""


def _parted(key: StoreKey, relatives: Sequence[K]) -> str:
    """A disk gets a new record although there is one by another name: refused, or said."""
    restricting = [it for it in relatives if _restricts(it)]
    if restricting:
        raise ConfigurationError(
            f"{key.path} is known to {_both(restricting)} by another name, with a list of hosts that may use "
            f"it; {_remedy(restricting)}"
        )
    return f"gets a new serial; to keep that of {_both(relatives)}, {_remedy(relatives)}" if relatives else ""


def _both(records: Sequence[K]) -> str:
    return " and ".join(f"serial {it.serial} ({it.key.path or it.key.device})" for it in records)


def _remedy(records: Sequence[K]) -> str:
    return remedy(*(it.serial for it in records))


def remedy(*serials: str) -> str:
    """How to say whether a disk is that of a record."""
    keep = " or ".join(f",serial={serial}" for serial in serials)
    return f"say {keep} behind the path if that is this disk, or ,serial= with a new one if not"
