"""Looks at what lies at the paths of exports, without opening it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from aoe.config.values import ExportConfig
from aoe.disk.found import is_protected
from aoe.disk.identity import HERE, Host
from aoe.doctor.of_stores import Store
from aoe.wire.protocol import SECTOR

_HOMES = ("/home", "/root", "/run/user")
_ACL = "system.posix_acl_access"


class Ids(NamedTuple):
    """The user of a service that opens its disks itself, by its numbers; `homes` says whether it sees the
    directories of people."""

    uid: int
    gids: frozenset[int]
    homes: bool = True


def look(export: ExportConfig, ids: Ids | None, host: Host = HERE) -> Store | None:
    """At one; None where there is none, or this user may not look. Blocks, for ever where the file system
    does."""
    path = Path(export.place)
    try:
        found, room = path.stat(), os.statvfs(path)
    except OSError:
        return None
    is_block = stat.S_ISBLK(found.st_mode)
    return Store(
        export.address,
        export.path,
        writable=not export.read_only,
        protected=is_block and is_protected(found.st_rdev, host),
        missing=0 if is_block else max(0, found.st_size - found.st_blocks * SECTOR),
        filesystem=found.st_dev,
        free=room.f_bavail * room.f_frsize,
        total=room.f_blocks * room.f_frsize,
        closed="" if ids is None or not ids.uid else next(_closed(path, export.read_only, ids), ""),
    )


def _closed(path: Path, read_only: bool, ids: Ids) -> Iterator[str]:
    """What of a path is closed to a user."""
    real = Path(os.path.realpath(path))
    if not ids.homes and str(real).startswith(tuple(f"{it}/" for it in _HOMES)):
        yield str(real)
    for directory in reversed(real.parents):
        if not _may(directory, os.X_OK, ids):
            yield str(directory)
    if not _may(real, os.R_OK if read_only else os.R_OK | os.W_OK, ids):
        yield str(real)


def _may(path: Path, what: int, ids: Ids) -> bool:
    """By its mode; where a list of access rights says more, it is not judged."""
    try:
        if _ACL in os.listxattr(path):
            return True
        found = path.stat()
    except OSError:
        return True
    if found.st_uid == ids.uid:
        granted = found.st_mode >> 6
    elif found.st_gid in ids.gids:
        granted = found.st_mode >> 3
    else:
        granted = found.st_mode
    return granted & what == what
