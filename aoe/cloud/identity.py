"""The id of an image: a digest of what it was asked for and of all that is in it, before the id is added."""

import hashlib
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

FILE = "etc/aoe-image"
"""Where the id stands in the root, and in the last member of the initramfs."""
WORD = "aoeimage"
"""Names it on the kernel's command line."""
_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One name of a tree: a path below its top, `mode` with the kind of file, and `content`: the digest of a
    file, where a link leads, the number of a device. `extra` are extended attributes."""

    path: str
    mode: int
    owner: int
    group: int
    content: str
    extra: tuple[tuple[str, str], ...] = ()


def id_of(inputs: Mapping[str, Any], entries: Iterable[Entry]) -> str:
    """32 hexadecimal digits. The order of entries does not count."""
    made = hashlib.sha256(_line(inputs))
    for entry in sorted(entries):
        made.update(_line(astuple(entry)))
    return made.hexdigest()[:32]


def _line(value: object) -> bytes:
    """JSON escapes what ends a line, so that no two lists have the same lines."""
    return json.dumps(value, sort_keys=True).encode() + b"\n"


def is_id(text: str) -> bool:
    """Whether a text can be one."""
    return _ID.fullmatch(text) is not None


def uuid_of(id: str) -> str:
    """The UUID of the file system of the root: another image has another one."""
    return str(uuid.UUID(id))


def command_line(id: str) -> str:
    """The part of the kernel's command line that is the same on every machine."""
    return f"root=UUID={uuid_of(id)} {WORD}={id}"
