"""What the rooms of a session share: its ports, paths and operations, and what is to be seen to."""

from collections import Counter, deque
from collections.abc import Sequence

from aoe import limits, timing
from aoe.initiator import exchange as on_channel
from aoe.initiator.debts import NO_LEGACY, Debt, Debts, Legacy
from aoe.initiator.exchange import Exchange
from aoe.initiator.facts import Facts, Reason
from aoe.initiator.life import Happens
from aoe.initiator.path import (
    Address,
    Event,
    Note,
    Operation,
    Path,
    Policy,
    Port,
)
from aoe.initiator.strangers import Strangers
from aoe.wire import config, frame
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import Command, Header
from aoe.wire.protocol import USER_TAG


class Board:
    """Of a session. `out` is what is to be sent, by port; `events` what became of operations; `news` rises
    with every change of a path or of the disk.
    """

    def __init__(
        self,
        ports: int,
        addresses: Sequence[Address],
        first_tag: int,
        policy: Policy = Policy(),
        legacy: Legacy = NO_LEGACY,
    ) -> None:
        self.debts = Debts(policy.timing, legacy, policy.hold)
        self.ports: list[Port | None] = [None] * ports
        self.addresses = list(addresses)
        self.policy = policy
        self.timing = policy.timing
        self.paths: list[Path] = []
        self.owner: Path | None = None
        self.facts: Facts | None = None
        """Of the disk, as the first path described it, less what one of those before the choice cannot do."""
        self.out: list[tuple[int, bytes]] = []
        self.events: deque[Event] = deque()
        self.todo: deque[tuple[Path, on_channel.Effect | Note]] = deque()
        """What is to be seen to, one after the other."""
        self.news = 0
        self.chosen = False
        """Whether there was an owner yet."""
        self.lost_ns = 0
        """When the last one was lost."""
        self.counters: Counter[str] = Counter()
        self.losses = 0
        """How often a server with a volatile cache was replaced before it was flushed (I6)."""
        self.losses_told = 0
        self.unflushed: Path | None = None
        """Which path's volatile cache holds changes that no flush vouches for."""
        self.changed = 0
        self.opened: dict[Operation, None] = {}
        self.held: dict[Operation, None] = {}
        self.operations: dict[Exchange, Operation] = {}
        self.tag = first_tag % USER_TAG
        self.first_tag = self.tag
        self.strangers = Strangers(self.tag, self.timing)
        self.paths_made = 0
        self.asked: deque[int] = deque(maxlen=limits.ASKED_MAX)
        self.seek_ns = 0
        self.seek_wait_ns = self.timing.query_first_ns
        self.usable_ns = 0
        """When the first path became usable."""
        self.heir: Path | None = None
        """Which path is to be the owner, as soon as the present one has done and flushed its changes."""
        self.parting: Exchange | None = None
        """The FLUSH there, as long as it is not answered."""
        self.parted = 0
        """To which process it was sent, once it is."""
        self.leaves_ns = 0
        """When that began; without an heir, before when it is not tried again."""
        self.patience_ns = self.timing.handover_ns
        """How long changes wait for it."""
        self.last: Path | None = None
        """Where the last spread read went."""

    def follow(self, path: Path, done: list[on_channel.Effect]) -> None:
        """What a path did. Frames leave at once; what else it means is seen to in its turn."""
        for effect in done:
            if isinstance(effect, on_channel.Transmit):
                self.out.append((path.port, effect.frame))
            else:
                self.todo.append((path, effect))

    def note(self, path: Path, happens: Happens, reason: Reason = Reason.NONE) -> None:
        """Something has happened to a path: it is seen to in its turn."""
        self.todo.append((path, Note(happens, reason)))

    def query(self, port: int, mac: bytes, address: Address) -> None:
        """Ask a server, or all of them, how much they take."""
        self.tag = (self.tag + 1) % USER_TAG
        tag = USER_TAG | self.tag
        self.asked.append(tag)
        self.say(port, mac, address, Command.CONFIG, tag, config.encode(Config(ConfigCommand.READ)))

    def say(self, port: int, mac: bytes, address: Address, command: Command, tag: int, body: bytes) -> None:
        """A question of our own, for no caller."""
        ours = self.ports[port]
        assert ours is not None, "what is heard is heard by a port"
        header = Header(mac, ours.mac, frame.VERSION, 0, 0, *address, command, tag)
        self.out.append((port, frame.encode(header, body)))

    def may_ask(self, debt: Debt) -> bool:
        """Whether an answer would come to what an earlier life was called."""
        port = self.ports[debt.port]
        return port is not None and port.up and port.mac == debt.peer.own

    def quiesce_ns(self, age_ns: int) -> int:
        """How long a copy of a write can do anything, where a server lets it wait for `age_ns` (I2)."""
        return timing.NEVER_NS if self.policy.hold else self.bound_ns(age_ns)

    def bound_ns(self, age_ns: int) -> int:
        """The same where it is waited for, whatever the policy."""
        return self.timing.network_lifetime_ns + age_ns + self.timing.completion_ns
