"""What a server asks of the kernel while it serves, beyond what is open."""

from collections.abc import Callable, Sequence

from aoe.disk.watch import add_watches
from aoe.errors import ConfigurationError
from aoe.target.address_locks import Names


class System(Names):
    """Asked by this process; one that gave up its rights has another process ask."""

    def image_again(self, key: tuple[int, int], image: str) -> tuple[str, int]:
        """Of an image at an address, whose process ended, what tells it now, and another descriptor. Blocks.
        AoeError."""
        raise ConfigurationError("nothing here has images served")

    def add_watches(self, inotify: int, fds: Sequence[int], then: Callable[[Sequence[int]], None]) -> None:
        """As `aoe.disk.watch.add_watches`."""
        add_watches(inotify, fds, then)
