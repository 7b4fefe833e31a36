"""Looks at a state directory, and changes nothing there."""

import os
from pathlib import Path

from aoe.doctor.of_state import State
from aoe.errors import ConfigurationError
from aoe.target import marks
from aoe.target.records import StateStore


def look(directory: Path) -> State:
    """At what this user may see of it. Blocks."""
    at = str(directory)
    try:
        found, room = directory.stat(), os.statvfs(directory)
        store = StateStore(directory)
        failed = marks.stores(directory)
    except FileNotFoundError:
        return State(at, there=False)
    except OSError as error:
        return State(at, problem=f"{error.strerror}")
    except ConfigurationError as error:
        return State(at, problem=str(error).partition("; ")[0])
    return State(
        at,
        uid=found.st_uid,
        mode=found.st_mode,
        read_only=bool(room.f_flag & os.ST_RDONLY),
        room=room.f_bavail * room.f_frsize,
        files=room.f_favail if room.f_files else None,
        damaged=tuple(str(it.problem) for it in store.damaged.values()),
        failed=failed,
    )
