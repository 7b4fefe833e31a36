"""One link for many users, each of whom sees what comes from one AoE address, or all of it."""

from collections import Counter, deque
from collections.abc import Hashable

from aoe import limits
from aoe.link.base import Batch, Link, Listener, Received
from aoe.wire import frame
from aoe.wire.frame import Fault

Address = tuple[int, int]


class SplitLink:
    """Takes the frames of `link`, and gives each branch those with its address. The link stays open."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._branches: dict[Address | None, Branch] = {}
        link.start(self)

    def branch(self, address: Address | None) -> "Branch":
        """A link for the user of this address, or of all (None); one at a time for each."""
        assert address not in self._branches, "an address has one user"
        made = self._branches[address] = Branch(self, address)
        return made

    def leave(self, address: Address | None) -> None:
        """Those frames have no user any more."""
        self._branches.pop(address, None)

    def close(self) -> None:
        """Take no more frames."""
        self.link.stop()

    # As a listener

    def ready(self, link: Link) -> None:
        """The link has frames."""
        heard: set[Branch] = set()
        for received in link.take().frames:
            header = frame.decode(received.frame)
            if isinstance(header, Fault):
                continue
            for address in ((header.shelf, header.slot), None):
                if (branch := self._branches.get(address)) is not None:
                    branch.arrive(received)
                    heard.add(branch)
        for branch in heard:
            branch.wake()

    def changed(self, link: Link, came_up: bool) -> None:
        """The link is another one now."""
        for branch in list(self._branches.values()):
            branch.change(came_up)


class Branch(Link):
    """What one user has of a link; closing it leaves the link to the others."""

    def __init__(self, trunk: SplitLink, address: Address | None) -> None:
        link = trunk.link
        self.name, self.mac, self.mtu = link.name, link.mac, link.mtu
        self.receive_buffer = link.receive_buffer
        self.counters = Counter()
        self._trunk = trunk
        self._address = address
        self._listener: Listener | None = None
        self._queue: deque[Received] = deque(maxlen=limits.UDP_QUEUE_MAX)

    @property
    def up(self) -> bool:
        return self._trunk.link.up

    def start(self, listener: Listener) -> None:
        self._listener = listener

    def arrive(self, received: Received) -> None:
        """Keep a frame until it is taken."""
        if self._listener is not None:
            self._queue.append(received)

    def wake(self) -> None:
        """Tell of the frames that are kept, until they are taken."""
        while self._queue and self._listener is not None:
            self._listener.ready(self)

    def change(self, came_up: bool) -> None:
        """The link has another name, MAC, MTU or state."""
        link = self._trunk.link
        self.name, self.mac, self.mtu = link.name, link.mac, link.mtu
        if self._listener is not None:
            self._listener.changed(self, came_up)

    def take(self) -> Batch:
        taken = [self._queue.popleft() for _ in range(min(len(self._queue), limits.RECEIVE_BATCH))]
        return Batch(taken, not self._queue)

    def stop(self) -> None:
        self._listener = None
        self._queue.clear()

    def send(self, frame: bytes, origin: Hashable = None) -> None:
        self._trunk.link.send(frame, origin)

    def close(self) -> None:
        self.stop()
        self._trunk.leave(self._address)
