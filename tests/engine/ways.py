"""How a disk is served: each way is another path through the engine."""

from typing import NamedTuple

WRITE_BACK = ("--durability", "write-back")


class Way(NamedTuple):
    """Options of the target and its engine; whether the disk is a block device, or a file in memory; what the
    target's world lacks (words of `fault_launch`)."""

    name: str
    options: tuple[str, ...] = ()
    engine: str = "c"
    device: bool = False
    memory: bool = False
    launcher: tuple[str, ...] = ()

    @property
    def direct(self) -> bool:
        """Whether a file is served past the page cache."""
        return "--direct" in self.options


def in_python(way: Way) -> Way:
    """The same without the engine in C."""
    return way._replace(name=f"{way.name}-python", engine="python")


BUFFERED = Way("buffered")
WRITTEN_BACK = Way("write-back", WRITE_BACK)
DIRECT = Way("direct", ("--direct",))
DEVICE = Way("device", device=True)
NO_URING = ("no-uring",)
