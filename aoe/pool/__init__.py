"""Volumes, clones and snapshots of disks, on stores that people already have.

    async with await aoe.pool.Pool.open("/srv/fast", name="fast") as pool:
        await pool.create("base", 10 << 30)
        await pool.snapshot("base", "golden")
        await pool.clone("base", "web1", snapshot="golden")
        print(pool.path_of("web1"))
        await pool.import_image("https://example.org/debian.qcow2", "debian", told=bar.update)
        await pool.template("debian")

A pool is a directory, or a thin pool of LVM (`kind="lvm-thin"`, path `VG/THIN-POOL`), that `aoe.pool.init`
marked. Sizes are in bytes, whole sectors of 512; times are UTC, ISO 8601. Names are 1 to 64 letters (a to z,
A to Z), digits, `.`, `_` and `-`, with a letter or digit first; two that differ only by case are refused. A
volume has a UUID, made once and kept by rename, rollback and resize.

Copy-on-write is what LVM has (lvmthin(7)), or the file system (FICLONE of ioctl_ficlone(2): XFS, btrfs). On a
file system without, volumes are qcow2, and later states are overlays of earlier ones. A verb that is
interrupted at any point leaves the pool as it was, or as it was asked to be: what is half-made is removed
when it is next opened.

What cannot be done raises `ConfigurationError`, one line with the remedy; what a store fails at raises
`PoolError`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aoe.pool.pool import Pool
    from aoe.pool.store import init

__all__ = ["Pool", "init"]

_HOMES = {"Pool": "pool", "init": "store"}


def __getattr__(name: str) -> Any:
    """Loaded when it is asked for: the names alone are used by what reads a configuration file."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(importlib.import_module(f"aoe.pool.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
