"""The one interface of everything that stores sectors, in bytes."""

import abc
import re
from typing import NamedTuple

from aoe.drive.identify import StoreId, StoreKind

_MULTIPATH = re.compile(r"^(?:part(\d+)-)?mpath-([123]?)([^@]+)")
_KINDS = {"1": "t10.", "2": "eui.", "3": "naa.", "": ""}
"""What multipath(8) writes before an id, and what the kernel does."""


def _one_path(text: str) -> str:
    """The id that a host shows of a device to which it has one path only."""

    def kernels(found: re.Match[str]) -> str:
        part, kind, rest = found.groups()
        return _KINDS[kind] + rest + (f"-{part}" if part else "")

    text = _MULTIPATH.sub(kernels, text)
    return re.sub(r"[\s_]+", "_", text) if text.startswith("t10.") else text


class StoreName(NamedTuple):
    """The id of a store in words, empty where it has none; where only a part is served, with that part."""

    kind: StoreKind = StoreKind.NONE
    text: str = ""

    @property
    def id(self) -> StoreId:
        """What IDENTIFY says of it, the same from every host, however many paths to the device it has."""
        return StoreId.of(self.kind, _one_path(self.text))

    def part(self, text: str) -> "StoreName":
        """The name of a part of it."""
        return self._replace(text=self.text + text) if self.kind else self


class Disk(abc.ABC):
    """A backing store.

    `size` is in bytes and a multiple of 512; `block` the unit (bytes, >= 512) in which it can be written
    without reading first; `physical_block` and `alignment` (bytes: power of two; 512-byte sectors) are what
    IDENTIFY says of the medium; `trims` whether `trim` works and `trim_zeroes` whether zeroes are guaranteed
    after it; `store_name` the store's own id where it has one, `identity` what the device says it is, which
    thousands may say.

    Every method raises `DiskError` with the first failing byte. Offsets and lengths are inside `size`
    and multiples of 512: the caller has checked that.
    """

    size: int
    block: int = 512
    physical_block: int = 512
    alignment: int = 0
    read_only: bool = False
    trims: bool = False
    trim_zeroes: bool = False
    direct: bool = False
    """Whether requests go to the device itself, past the page cache."""
    alone: bool = False
    """Whether nothing that an earlier process began there can still take effect: it was locked against that
    (order rules T8 and T10)."""
    life: int = 0
    """How often what serves it was replaced: what was not synced then may be lost."""
    failed: bool = False
    """Whether a sync failed, so that nothing may be promised any more (order rule T6)."""
    identity: str | None = None
    store_name: StoreName = StoreName()

    def try_read(self, offset: int, length: int) -> bytes | None:
        """The bytes if they can be had without waiting, else None."""
        return None

    def distrust(self) -> None:
        """A sync failed: nothing may be promised any more until a restart or `reopen` (rule T6)."""
        self.failed = True

    @abc.abstractmethod
    async def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes."""

    async def read_into(self, offset: int, buffer: bytearray) -> None:
        """As `read`, but the bytes fill a buffer of the caller's."""
        buffer[:] = await self.read(offset, len(buffer))

    @abc.abstractmethod
    async def write(self, offset: int, data: bytes, fua: bool = False) -> None:
        """Store `data`; with `fua` it is on stable storage when this returns."""

    @abc.abstractmethod
    async def flush(self) -> None:
        """Put every write that returned before this call on stable storage."""

    async def reopen(self) -> None:
        """Trust the store again after a sync that failed, as the operator says (order rule T6): it holds what
        it gives to read from now on, and what was lost is lost. DiskFailed if it still fails."""
        await self.flush()

    @abc.abstractmethod
    async def trim(self, offset: int, length: int) -> None:
        """Give the range back to the store; durable with the next flush."""

    @abc.abstractmethod
    async def write_zeroes(self, offset: int, length: int) -> None:
        """Make the range read as zeroes; durable with the next flush."""

    @abc.abstractmethod
    def refresh(self) -> None:
        """Look again how large the store is; `size` changes."""

    async def measure(self) -> None:
        """As `refresh`, for an event loop that must not wait for the store."""
        self.refresh()

    @abc.abstractmethod
    def close(self) -> None:
        """Release it; it is closed even where this raises. Requests in flight may fail."""
