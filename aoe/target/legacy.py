"""What one life of a target leaves to the next, so that it is the same instance (order rule T4): what was
said of each export in IDENTIFY, and the streams of initiators that were known there (T9).

Only a life that ended with everything answered leaves something, and only one takes it: it is marked as used
before the first frame is admitted. What is damaged, or of another version, is nothing.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from aoe import limits
from aoe.drive import identify
from aoe.drive.identify import Identity
from aoe.target.export import Export
from aoe.wire.protocol import SECTOR
from aoe.wire.stamp import StreamLeft

_MAGIC = b"AoElife1"
_HEAD = struct.Struct("<8sB3xIII")
_EXPORT = struct.Struct(f"<HBxI{SECTOR}s")
_STREAM = struct.Struct(f"<6sHBBI{limits.REPLAY_WINDOW // 8}s")
USED_AT = 8
"""Where a byte says whether it was taken: 0 it was not."""
LEGACY_ROOM = _HEAD.size + limits.EXPORTS_MAX * (_EXPORT.size + limits.STREAMS_MAX * _STREAM.size)
"""Bytes of all that can be left."""


class ExportLeft(NamedTuple):
    """`identify` are the 512 bytes of IDENTIFY."""

    identify: bytes
    streams: tuple[StreamLeft, ...] = ()


Legacy = Mapping[tuple[int, int], ExportLeft]
"""By shelf and slot."""


def legacy_of(exports: Iterable[Export]) -> Legacy:
    """Of exports that have ended with everything answered."""
    return {it.key: ExportLeft(it.identify, tuple(it.streams.left())) for it in exports}


def continued(identity: Identity, left: ExportLeft | None) -> tuple[Identity, tuple[StreamLeft, ...]]:
    """With instance and streams of the last life, where IDENTIFY says nothing else than it did then. Whether
    it drains is no matter, nor its release."""
    vendor = None if left is None else identify.vendor_of(left.identify)
    if left is None or vendor is None:
        return identity, ()
    goes_on = identity._replace(instance=vendor.instance, alone=vendor.alone)
    if not identify.says_the_same(identify.build(goes_on._replace(draining=vendor.draining)), left.identify):
        return identity, ()
    return goes_on, left.streams


def written(legacy: Legacy) -> bytes:
    """As bytes, not used yet."""
    body = b"".join(piece for key, left in legacy.items() for piece in _export(key, left))
    return _HEAD.pack(_MAGIC, 0, len(legacy), len(body), _check(len(legacy), body)) + body


def read(data: bytes) -> Legacy:
    """From bytes; nothing where they are used, damaged or not understood."""
    if len(data) < _HEAD.size:
        return {}
    magic, used, count, length, check = _HEAD.unpack_from(data)
    body = data[_HEAD.size : _HEAD.size + length]
    if magic != _MAGIC or used or len(body) != length or _check(count, body) != check:
        return {}
    return dict(_exports(body, count))


def _check(count: int, body: bytes) -> int:
    return zlib.crc32(body, count)


def _export(key: tuple[int, int], left: ExportLeft) -> Iterator[bytes]:
    yield _EXPORT.pack(*key, len(left.streams), left.identify)
    for one in left.streams:
        seen = one.seen.to_bytes(limits.REPLAY_WINDOW // 8, "little")
        yield _STREAM.pack(one.mac, one.number, one.epoch, one.forged, one.newest, seen)


def _exports(body: bytes, count: int) -> Iterator[tuple[tuple[int, int], ExportLeft]]:
    at = 0
    for _ in range(count):
        shelf, slot, streams, identify = _EXPORT.unpack_from(body, at)
        at += _EXPORT.size
        ends = range(at, at + streams * _STREAM.size, _STREAM.size)
        yield (shelf, slot), ExportLeft(identify, tuple(_stream(body, start) for start in ends))
        at += streams * _STREAM.size


def _stream(body: bytes, at: int) -> StreamLeft:
    mac, number, epoch, forged, newest, seen = _STREAM.unpack_from(body, at)
    return StreamLeft(mac, number, epoch, bool(forged), newest, int.from_bytes(seen, "little"))
