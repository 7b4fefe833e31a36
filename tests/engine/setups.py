"""How a disk is served: each setup takes other parts of the engine."""

from typing import NamedTuple

WRITE_BACK = ("--durability", "write-back")


class Setup(NamedTuple):
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


def in_python(setup: Setup) -> Setup:
    """The same without the engine in C."""
    return setup._replace(name=f"{setup.name}-python", engine="python")


BUFFERED = Setup("buffered")
WRITTEN_BACK = Setup("write-back", WRITE_BACK)
DIRECT = Setup("direct", ("--direct",))
DEVICE = Setup("device", device=True)
NO_URING = ("no-uring",)
