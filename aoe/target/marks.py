"""Marks of disks whose sync failed (order rule T6), beside the records: a file for each.

The kernel tells of a write that was lost once. A process that opens the disk anew hears nothing of it, so the
next life of a service has to know it from the last one.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from aoe import timing
from aoe.limits import RECORD_BYTES_MAX
from aoe.target import lasting
from aoe.target.keys import StoreKey

_SUFFIX = ".failed"
_VERSION = 1


def name_of(key: StoreKey) -> str:
    """Of the mark of a disk: that of the store itself, whatever serial or address it is served under."""
    what = f"{key.name.kind} {key.name.text}" if key.name.kind else key.place
    return hashlib.blake2s(what.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


class Marks:
    """Those of a directory. They are in force in one `life` of the service, which goes on over restarts and
    crashes and ends when the service is stopped; those of another life are removed."""

    def __init__(self, directory: Path, life: str) -> None:
        self._directory = directory
        self._life = life
        self.found: dict[str, float] = {}
        """When a sync failed (seconds since 1970, 0 where that is not known), by the name of the mark."""
        with suppress(OSError):  # the records say what is wrong with the directory
            for file in directory.glob(f"*{_SUFFIX}"):
                self._take(file)

    def _take(self, file: Path) -> None:
        life, since_s = _read(file)
        if life in (None, self._life):
            self.found[file.stem] = since_s
        else:
            with suppress(OSError):
                file.unlink()

    def put(self, key: StoreKey, since_s: float) -> None:
        """Mark a disk; on stable storage when this returns. Blocks. OSError."""
        facts = {"version": _VERSION, "store": key.place, "life": self._life, "since": since_s}
        lasting.put(self._file(name_of(key)), json.dumps(facts))

    def remove(self, key: StoreKey) -> None:
        """A disk is trusted again. Blocks. OSError."""
        lasting.remove(self._file(name_of(key)))

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}{_SUFFIX}"


def stores(directory: Path) -> tuple[str, ...]:
    """The paths of those that are marked there, of whatever life."""
    return tuple(filter(None, map(_store, sorted(directory.glob(f"*{_SUFFIX}")))))


def _store(file: Path) -> str:
    """Empty where the mark does not tell."""
    try:
        return str(json.loads(lasting.read(file, RECORD_BYTES_MAX))["store"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


def _read(file: Path) -> tuple[str | None, float]:
    """Of which life it is (None where that is not known), and since when."""
    try:
        said = json.loads(lasting.read(file, RECORD_BYTES_MAX).decode())
        life, since_s = str(said["life"]), float(said["since"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None, 0.0
    return life, since_s if 0 < since_s < timing.DATE_MAX_S else 0.0
