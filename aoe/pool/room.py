"""How full a pool is, and what that allows."""

from typing import NamedTuple

from aoe.errors import ConfigurationError


class Room(NamedTuple):
    """Bytes of the store that a pool is on, and those of them that are free (statvfs(3)). Where its own
    metadata have a bound (lvmthin(7)), what is free of that is in percent."""

    total: int
    free: int
    metadata: int = 100

    @property
    def left(self) -> int:
        """The part of the bytes that can still be written: what has no metadata cannot."""
        return min(self.free, self.total * self.metadata // 100)

    def is_below(self, reserve: int) -> bool:
        """Whether less than so many percent are left."""
        return self.left * 100 < self.total * reserve

    def check(self, reserve: int, what: str) -> None:
        """ConfigurationError where less than the reserve (percent) is free, which is for the disks that are
        there: a first write into a shared block needs a new one."""
        if self.is_below(reserve):
            share = self.free * 100 // max(self.total, 1)
            of, more = "the pool's store", ""
            if self.metadata < share:
                share, of, more = self.metadata, "the pool's metadata", " for metadata"
            raise ConfigurationError(
                f"{what} is refused: {share} % of {of} is free, and {reserve} % is its reserve; "
                f"delete volumes or snapshots, or give it more room{more}"
            )

    def spare(self, reserve: int) -> int:
        """Bytes that are free above the reserve (percent)."""
        return max(0, self.left - self.total * reserve // 100)

    def check_for(self, needed: int, reserve: int, what: str) -> None:
        """ConfigurationError where so many bytes more would leave less than the reserve (percent)."""
        spare = self.spare(reserve)
        if needed > spare:
            raise ConfigurationError(
                f"{what} takes {needed} bytes, and the pool has {spare} above its reserve of {reserve} %; "
                "delete volumes or snapshots, or give it more room"
            )


class Usage(NamedTuple):
    """Bytes of the store that an image refers to, and those that it alone does: by deleting it, and nothing
    else, these would be free again. What several images share is part of the first number of each. Of a file
    its `extents` are counted, and how many of them it shares."""

    allocated: int
    own: int
    extents: int = 0
    shared: int = 0


NOTHING = Usage(0, 0)


def together(*usages: Usage) -> Usage:
    """Of several images. What these share among themselves alone is in no `own`, so that is the least."""
    return Usage(sum(it.allocated for it in usages), sum(it.own for it in usages))
