"""What a server asks of the kernel while it serves, beyond what is open."""

from aoe.disk.watch import add_watch
from aoe.target.address_locks import Names


class System(Names):
    """Asked by this process; one that gave up its rights has another process ask."""

    def add_watch(self, inotify: int, fd: int) -> int:
        """As `aoe.disk.watch.add_watch`."""
        return add_watch(inotify, fd)
