"""ATA over Ethernet: disks on the network, to use and to serve.

    async with aoe.attach("e1.0", interface="eth0") as disk:     # aoe.Disk: use one
        await disk.write(0, b"data")
    with aoe.open("e1.0", interface="eth0") as disk:             # the same without an event loop
        disk.write(0, b"data")
    for found in await aoe.discover(interface="eth0"):           # who answers
        print(found.address)
    async with aoe.serve(store, link, address="e1.0"):           # serve one
        ...

An address is written "e1.0" everywhere: shelf and slot. Sizes and offsets are in bytes, times in seconds.
What goes wrong raises a subclass of `AoeError`; a word or type that a function does not take is a TypeError.
"""

from importlib import metadata

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
from aoe.initiator.blocking import BlockingDisk, open
from aoe.initiator.discover import Found, discover
from aoe.initiator.options import Options
from aoe.initiator.remote import RemoteDisk as Disk
from aoe.initiator.remote import attach
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


def __getattr__(name: str) -> str:
    """`__version__`, which the installed package knows; looked up when somebody asks."""
    if name == "__version__":
        return metadata.version("aoe-target")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
