"""ATA over Ethernet: disks on the network, to use and to serve.

    async with aoe.attach("e1.0", interface="eth0") as disk:     # aoe.Disk: use one
        await disk.write(0, b"data")
    with aoe.open("e1.0", interface="eth0") as disk:             # the same without an event loop
        disk.write(0, b"data")
    for found in await aoe.discover(interface="eth0"):           # which disks answer
        print(found.address)
    async with aoe.serve(store, link, address="e1.0"):           # serve one
        ...

An address is written "e1.0" everywhere: shelf and slot. Sizes and offsets are in bytes, times in seconds.

What goes wrong raises a subclass of `AoeError`: `DiskError` where the disk fails, `Unreachable` and
`TargetRefused` where the server does not, `OutOfRangeError` for what is outside the disk. A word or type
that a function does not take is a TypeError.

A request that is lost on the way is sent again. Large transfers are split and overlap. Writes that overlap
are done one after the other: a range takes no new write while a copy of an old one may still be under way
(with our target for about a round trip, at most 3 s). With several addresses or interfaces every server
that answers is a path to the disk: `disk.paths` tells of each, `disk.next_change` waits for the next
change, `disk.prefer(name)` chooses the path that carries the writes, and `disk.fenced(name)` says that a
lost server was made sure to do nothing any more.

`aoe.open` has a thread and an event loop of its own. Ctrl-C ends the waiting; a write that was interrupted
may still be carried out, but never over a later one of ours. Leaving the block waits for what other threads
have under way (at most 5 s), leaving it by an exception does not. A program that ends without closing ends.

A disk belongs to its process and event loop (`aoe.open`: to its process). Elsewhere, as in a child after
`os.fork`, it raises `MisuseError`; attach it there. A program that was stopped (Ctrl-Z, a suspended
machine) goes on: its time-outs count only the time in which it ran, and what arrived meanwhile is read
first.

`aoe.testing` puts targets, clients and faults between them into one event loop, for your own tests.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aoe.errors import (
        AoeError,
        ConfigurationError,
        DiskError,
        DiskFailed,
        MisuseError,
        OutOfRangeError,
        RequestError,
        TargetRefused,
        Unreachable,
    )
    from aoe.initiator.attach import attach
    from aoe.initiator.blocking import BlockingDisk, open
    from aoe.initiator.discover import discover
    from aoe.initiator.inquiry import Found
    from aoe.initiator.options import Options
    from aoe.initiator.remote import RemoteDisk as Disk
    from aoe.initiator.standing import PathStatus
    from aoe.target.serve import serve

__version__: str

__all__ = [
    "AoeError",
    "BlockingDisk",
    "ConfigurationError",
    "Disk",
    "DiskError",
    "DiskFailed",
    "Found",
    "MisuseError",
    "Options",
    "OutOfRangeError",
    "PathStatus",
    "RequestError",
    "TargetRefused",
    "Unreachable",
    "attach",
    "discover",
    "open",
    "serve",
]


_HOMES = {
    "errors": (
        *("AoeError", "ConfigurationError", "DiskError", "DiskFailed", "MisuseError", "OutOfRangeError"),
        *("RequestError", "TargetRefused", "Unreachable"),
    ),
    "initiator.attach": ("attach",),
    "initiator.blocking": ("BlockingDisk", "open"),
    "initiator.discover": ("discover",),
    "initiator.inquiry": ("Found",),
    "initiator.options": ("Options",),
    "initiator.standing": ("PathStatus",),
    "target.serve": ("serve",),
}
_FOUND = {name: (f"aoe.{home}", name) for home, names in _HOMES.items() for name in names}
_FOUND["Disk"] = ("aoe.initiator.remote", "RemoteDisk")


def __getattr__(name: str) -> Any:
    """What a program asks for is loaded then: a command that needs little of this starts at once."""
    if name == "__version__":
        from importlib import metadata  # noqa: PLC0415 - only --version waits for it

        return metadata.version("aoe-target")
    if name not in _FOUND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, there = _FOUND[name]
    globals()[name] = found = getattr(importlib.import_module(home), there)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
