"""A disk with a volatile cache: what was not flushed is gone when its power fails."""

from pathlib import Path

from tests.support.labs.fault_disk import FuseDisk


class VolatileDisk(FuseDisk):
    """Its `store` has what was flushed."""

    def __init__(self, work: Path) -> None:
        cache = ("cache=writeback", "cache-min-block-size=4K")
        super().__init__(work, plugin=("--filter=cache", "file", str(work / "store"), *cache))

    def lose_power(self) -> None:
        """And get it back."""
        self.die()
        self.revive()
