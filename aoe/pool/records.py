"""Volumes and the marker of a pool as JSON text: with a version, and with what is not known kept.

    {"version": 1, "uuid": "...", "made": "2026-11-28T12:00:00Z",
     "head": {"id": "...", "size": 512, "format": "raw"}, "parent": {"volume": "...", "snapshot": "..."},
     "snapshots": [{"name": "a", "image": {...}, "made": "...", "cause": "asked"}]}

File names are made of ids, so an id that is none is refused here.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aoe import limits
from aoe.errors import ConfigurationError
from aoe.pool import names
from aoe.pool.names import FORMATS
from aoe.pool.volume import ASKED, Image, Parent, Snapshot, Volume, check_size

VERSION = 1
_ID = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(rf"[0-9a-f]{{32}}\.({'|'.join(FORMATS)})")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class BadRecord(ValueError):
    """A text that is no record, or one of a later release. One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What says that a directory is a pool."""

    uuid: str
    kind: str
    more: Mapping[str, Any] = field(default_factory=dict)


def is_id(text: str) -> bool:
    """Whether a text can be the id of an image or volume."""
    return _ID.fullmatch(text) is not None


def is_image_file(text: str) -> bool:
    """Whether a text can be what a directory calls an image."""
    return _FILE.fullmatch(text) is not None


# Writing


def dump(volume: Volume) -> bytes:
    """A volume as text; ValueError for one that is larger than what is read again."""
    known = {
        "version": VERSION,
        "uuid": volume.uuid,
        "made": volume.made,
        "head": _of_image(volume.head),
        "parent": _of_parent(volume.parent),
        "snapshots": [_of_snapshot(it) for it in volume.snapshots],
        "fading": [_of_image(it) for it in volume.fading],
        "dropped": list(volume.dropped),
        "resized_from": volume.resized_from,
        "template": volume.template or None,
    }
    return _text({**volume.more, **{name: it for name, it in known.items() if it not in (None, [])}})


def dump_marker(marker: Marker) -> bytes:
    """A marker as text."""
    return _text({**marker.more, "version": VERSION, "kind": marker.kind, "uuid": marker.uuid})


def _text(said: Mapping[str, Any]) -> bytes:
    text = json.dumps(said, indent=1).encode() + b"\n"
    if len(text) > limits.POOL_RECORD_BYTES_MAX:
        raise ValueError(f"a record of more than {limits.POOL_RECORD_BYTES_MAX} bytes; delete snapshots")
    return text


def _of_image(image: Image) -> dict[str, Any]:
    base = {} if image.base is None else {"base": image.base}
    return {**image.more, "id": image.id, "size": image.size, "format": image.format, **base}


def _of_parent(parent: Parent | None) -> dict[str, Any] | None:
    return None if parent is None else {"volume": parent.volume, "snapshot": parent.snapshot}


def _of_snapshot(snapshot: Snapshot) -> dict[str, Any]:
    known = {"name": snapshot.name, "image": _of_image(snapshot.image), "made": snapshot.made}
    return {**snapshot.more, **known, "cause": snapshot.cause}


# Reading


def load(text: bytes) -> Volume:
    """What `dump` wrote; BadRecord for anything else."""
    said = _document(text)
    try:
        volume = _volume(said)
    except (KeyError, TypeError, AttributeError, ValueError, ConfigurationError) as error:
        raise BadRecord(f"it is damaged ({type(error).__name__}: {error})") from error
    return volume


def load_marker(text: bytes) -> Marker:
    """What `dump_marker` wrote; BadRecord for anything else."""
    said = _document(text)
    try:
        marker = Marker(uuid=_id(said.pop("uuid")), kind=_str(said.pop("kind")), more=said)
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"it is damaged ({type(error).__name__}: {error})") from error
    return marker


def _document(text: bytes) -> dict[str, Any]:
    if len(text) > limits.POOL_RECORD_BYTES_MAX:
        raise BadRecord(f"it is damaged (larger than {limits.POOL_RECORD_BYTES_MAX} bytes)")
    try:
        said = json.loads(text)
        version = said.pop("version")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise BadRecord(f"it is damaged ({type(error).__name__}: {error})") from error
    if type(version) is not int or version < VERSION:
        raise BadRecord("it is damaged (its version is no number of one)")
    if version > VERSION:
        raise BadRecord(f"a later release wrote it (version {version}); use that one")
    return dict(said)


def _volume(said: dict[str, Any]) -> Volume:
    parent = said.pop("parent", None)
    was = said.pop("resized_from", None)
    volume = Volume(
        uuid=_id(said.pop("uuid")),
        head=_image(said.pop("head")),
        made=_time(said.pop("made")),
        parent=None if parent is None else Parent(_id(parent["volume"]), _id(parent["snapshot"])),
        snapshots=tuple(map(_snapshot, _list(said.pop("snapshots", [])))),
        fading=tuple(map(_image, _list(said.pop("fading", [])))),
        dropped=tuple(map(_file, _list(said.pop("dropped", [])))),
        resized_from=None if was is None else check_size(_int(was)),
        template=_bool(said.pop("template", False)),
        more=said,
    )
    _check_distinct(it.id for it in volume.images)
    _check_distinct(it.name.casefold() for it in volume.snapshots)
    if {it.file for it in volume.images} & set(volume.dropped):
        raise ValueError("an image is used and dropped")
    return volume


def _image(said: dict[str, Any]) -> Image:
    kept = dict(said)
    base = kept.pop("base", None)
    format_ = kept.pop("format")
    if format_ not in FORMATS:
        raise ValueError(f"{format_!r} is no format of an image")
    size = check_size(_int(kept.pop("size")))
    base = None if base is None else _id(base)
    return Image(id=_id(kept.pop("id")), size=size, format=format_, base=base, more=kept)


def _snapshot(said: dict[str, Any]) -> Snapshot:
    kept = dict(said)
    return Snapshot(
        name=names.check(_str(kept.pop("name")), "snapshot"),
        image=_image(kept.pop("image")),
        made=_time(kept.pop("made")),
        cause=_str(kept.pop("cause", ASKED)),
        more=kept,
    )


def _check_distinct(them: Iterable[str]) -> None:
    listed = list(them)
    if len(set(listed)) != len(listed):
        raise ValueError("something is there twice")


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _int(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no whole number")
    return value


def _bool(value: object) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _id(value: object) -> str:
    if not is_id(_str(value)):
        raise ValueError(f"{value!r} is no id")
    return _str(value)


def _file(value: object) -> str:
    if not is_image_file(_str(value)):
        raise ValueError(f"{value!r} is no image")
    return _str(value)


def _time(value: object) -> str:
    if not _TIME.fullmatch(_str(value)):
        raise ValueError(f"{value!r} is no time")
    return _str(value)
