"""Records of volumes as tags of logical volumes: short texts of few characters, which lvm writes all at once.

    aoe.pool=1.UUID        on the thin pool: it is marked, in version 1 of what is told here
    aoe.new                on an image that no record has yet
    aoe.volume=NAME        on the image that is the present state of a volume
    aoe.gone               instead of that: the volume is deleted, and its images are to go
    aoe.record=SERIAL.COUNT.AT.PIECE     beside either: one of the pieces of the record

A rollback gives a volume another image as its present state, and the record moves there: for a moment there
are two, and the one of the higher serial holds. lvm writes the tags of a whole volume group anew at each
change, into an area that has 1 MiB as a rule, so records are packed: JSON as in `aoe.pool.records`, zlib,
base64.
"""

import base64
import json
import re
import zlib
from collections.abc import Collection
from typing import NamedTuple

from aoe import limits
from aoe.pool import names, records
from aoe.pool.records import BadRecord
from aoe.pool.volume import Volume

NEW, GONE = "aoe.new", "aoe.gone"
_OURS = "aoe."
_POOL, _VOLUME, _RECORD = "aoe.pool=", "aoe.volume=", "aoe.record="
_VERSION = "1"
_PIECE = re.compile(r"([0-9]{1,18})\.([0-9]{1,6})\.([0-9]{1,6})\.([A-Za-z0-9_=-]+)", re.ASCII)
_USUAL = (
    b'"resized_from":,"dropped":[".raw","clone-before-rollback-202},"made":"202","cause":"rollback"'
    b'},"made":"202","cause":"clone"},"parent":{"volume":"","snapshot":""},"snapshots":[{"name":"","image":'
    b'{"id":"","size":1073741824,"format":"raw"},"made":"202","cause":"asked"},'
    b'{"version":1,"uuid":"","made":"2026-11-28T12:00:00Z","head":{"id":"","size":10737418240,"format":"raw"}'
)
"""What most records have, and what need not be written (deflate's dictionary): a part of version 1."""


class Tagged(NamedTuple):
    """A record as tags say it. `name` is empty where the volume is gone."""

    name: str
    serial: int
    volume: Volume


# Records


def of_record(name: str, serial: int, volume: Volume) -> frozenset[str]:
    """The tags of a volume. ValueError for a record that is larger than what is read again."""
    text = json.dumps(json.loads(records.dump(volume)), separators=(",", ":"))
    packer = zlib.compressobj(9, zdict=_USUAL)
    packed = base64.urlsafe_b64encode(packer.compress(text.encode()) + packer.flush()).decode()
    size = limits.POOL_TAG_PIECE_MAX
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    count = len(pieces)
    said = (f"{_RECORD}{serial}.{count}.{at}.{piece}" for at, piece in enumerate(pieces))
    return frozenset({of_name(name), *said})


def of_name(name: str) -> str:
    """The tag of the present state of a volume, as people see it."""
    return f"{_VOLUME}{name}"


def hidden(tags: Collection[str]) -> frozenset[str]:
    """The tags of a volume once it is gone."""
    return frozenset({GONE, *(tag for tag in tags if tag.startswith(_RECORD))})


def is_ours(tags: Collection[str]) -> bool:
    """Whether some of them are of this kind of pool."""
    return any(tag.startswith(_OURS) for tag in tags)


def is_of_record(tag: str) -> bool:
    """Whether it belongs to a record."""
    return tag == GONE or tag.startswith((_VOLUME, _RECORD))


def names_of(tags: Collection[str]) -> list[str]:
    """Names of volumes that an image is said to be of: one, unless that was changed by hand."""
    return sorted(tag.removeprefix(_VOLUME) for tag in tags if tag.startswith(_VOLUME))


def record(tags: Collection[str]) -> Tagged | None:
    """The record that an image has; None where it has none. BadRecord."""
    if not any(map(is_of_record, tags)):
        return None
    called = names_of(tags)
    if len(called) + (GONE in tags) != 1:
        raise BadRecord("it is damaged (it has not one name)")
    serial, packed = _joined(tags)
    return Tagged(_checked(called[0]) if called else "", serial, records.load(_unpacked(packed)))


def serial(tags: Collection[str]) -> int:
    """Of the record that an image has. BadRecord."""
    return _joined(tags)[0]


def _checked(name: str) -> str:
    if not names.is_name(name):
        raise BadRecord("it is damaged (its name is none)")
    return name


def _joined(tags: Collection[str]) -> tuple[int, str]:
    found: dict[int, str] = {}
    heads = set()
    for tag in tags:
        if tag.startswith(_RECORD):
            match = _PIECE.fullmatch(tag.removeprefix(_RECORD))
            if match is None:
                raise BadRecord("it is damaged (a piece of it is none)")
            heads.add((int(match[1]), int(match[2])))
            found[int(match[3])] = match[4]
    if len(heads) != 1:
        raise BadRecord("it is damaged (its pieces are not those of one record)")
    ((serial, count),) = heads
    if sorted(found) != list(range(count)):
        raise BadRecord("it is damaged (it has not all of its pieces)")
    return serial, "".join(found[at] for at in range(count))


def _unpacked(packed: str) -> bytes:
    unpacker = zlib.decompressobj(zdict=_USUAL)
    try:
        text = unpacker.decompress(base64.urlsafe_b64decode(packed), limits.POOL_RECORD_BYTES_MAX + 1)
    except (ValueError, zlib.error) as error:
        raise BadRecord(f"it is damaged ({error})") from error
    if not unpacker.eof:
        raise BadRecord("it is damaged (it has no end)")
    return text


# The marker


def of_pool(uuid: str) -> str:
    """The tag that marks a thin pool."""
    return f"{_POOL}{_VERSION}.{uuid}"


def marker(tags: Collection[str]) -> str | None:
    """The UUID of a pool; None for a thin pool that is not marked. BadRecord."""
    markers = [tag.removeprefix(_POOL) for tag in tags if tag.startswith(_POOL)]
    if not markers:
        return None
    version, dot, uuid = markers[0].partition(".")
    if dot and version.isdecimal() and version != _VERSION:
        raise BadRecord(f"a later release wrote it (version {version}); use that one")
    if len(markers) > 1 or version != _VERSION or not records.is_id(uuid):
        raise BadRecord("it is damaged")
    return uuid
