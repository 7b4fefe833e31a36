"""What a disk is made of: a descriptor, and all that was found out about its store when it was opened."""

from typing import NamedTuple

from aoe.disk.base import StoreName
from aoe.wire import protocol


class Store(NamedTuple):
    """What a path was opened as: `size` bytes of `fd` from `base` on.

    `direct` means O_DIRECT in steps of `block`. `shared` is a store that another host serves too.
    `grows` lets `refresh` take up what was added behind the end, up to `most` bytes in all (0: no bound).
    """

    fd: int
    base: int
    size: int
    block: int
    direct: bool
    read_only: bool
    shared: bool
    grows: bool
    most: int = 0


class Beneath(NamedTuple):
    """The disk that a store is or lies on: its directory in sysfs, which tells it from others, and how many
    requests there at a time leave slots free."""

    node: str
    room: int


class Opened(NamedTuple):
    """An open and locked store with its facts, which a process may have from another one that opened it.

    `logical` is the unit in bytes that a block device can address, 0 for a file; `in_memory` a file that
    never waits for a device, `remote` one that another program or host serves, `protected` a block device
    that the kernel has read-only, whatever it was opened for. `image` tells the file of an image from
    others, and the process that serves it from earlier ones; empty: the descriptor is the store itself.
    `lost`: what an earlier life of the target had written there may be. The others are those of `Disk`.
    """

    store: Store
    beneath: Beneath
    logical: int = 0
    physical_block: int = protocol.SECTOR
    alignment: int = 0
    trims: bool = False
    trim_zeroes: bool = False
    in_memory: bool = False
    remote: bool = False
    protected: bool = False
    image: str = ""
    lost: bool = False
    identity: str | None = None
    store_name: StoreName = StoreName()

    @property
    def is_block(self) -> bool:
        """Whether it is a block device."""
        return self.logical > 0
