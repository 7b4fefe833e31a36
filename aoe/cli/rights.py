"""Whose daemon it is, and which process may do what there, by what root's file says."""

import os
from collections.abc import Callable
from pathlib import Path

from aoe.config.values import Config
from aoe.control.rights import Rights
from aoe.node.groups import number_of


def owner_of(file: Path) -> int:
    """The user whose daemon it is: the one that owns its file, as what the file says is served. A service of
    root's may run as a user of its own."""
    try:
        return file.stat().st_uid
    except OSError:  # which is said when the file is read
        return os.geteuid()


def rights_of(
    config: Config, owner: int = 0, changes: str = "", group_of: Callable[[str], int] = number_of
) -> Rights:
    """Which process may do what. ConfigurationError for a group that is not there."""
    target = config.target
    group = None if target.control_group is None else group_of(target.control_group)
    admins = {it.name: group_of(it.admins) for it in config.pools if it.admins is not None}
    return Rights(owner, group, target.control_readers == "all", changes, admins)
