"""What a disk is called in its record: the name that an administrator uses, and where that leads."""

import os
from pathlib import Path
from typing import Protocol

from aoe import limits
from aoe.disk.base import StoreName
from aoe.disk.open import Opening
from aoe.errors import ConfigurationError
from aoe.target.keys import StoreKey


class Named(Protocol):
    """What is asked of a disk, or of what one is made of."""

    @property
    def store_name(self) -> StoreName:
        """The store's own id."""

    @property
    def identity(self) -> str | None:
        """What the device says it is."""


def key_of(path: Path, disk: Named, how: Opening) -> StoreKey:
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
        if os.path.realpath(path.parent).startswith("/proc/"):
            return True
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()
    return False
