"""The requests of one kind on a channel: how long each is waited for, without I/O."""

from typing import NamedTuple

from aoe import limits
from aoe.initiator.exchange import Exchange, Kind
from aoe.initiator.rtt import Rtt
from aoe.timing import Timing


class Suspect(NamedTuple):
    """What was lost again and again, perhaps because it is large."""

    kind: Kind
    sectors: int
    lba: int


class Lane:
    """The requests of one kind. `quiesce_ns` after its last transmission a copy can do nothing any more."""

    def __init__(self, quiesce_ns: int, timing: Timing) -> None:
        self.quiesce_ns = quiesce_ns
        self._timing = timing
        self.rtt = Rtt(timing)
        self.patience = 1.0
        """How many times the usual round trip an overtaken request is waited for."""
        self.flying: dict[Exchange, None] = {}
        """Open and sent, in the order of their last transmission."""
        self.unsettled: dict[Exchange, None] = {}
        """Not open any more, but with copies of unknown fate."""
        self.newest_ns = 0
        """When the youngest copy that was answered had been sent."""
        self.probes = 0
        """How often something was sent again, since the last answer, although nothing told of a loss."""
        self.probed_ns = 0
        self.resumed_ns = 0
        """When we last ran again: what was sent before tells nothing of round trips."""
        self.large = (0, 0)
        """How many sectors went with a large request that has passed of late, and when it was sent."""

    def passed(self, sectors: int, sent_ns: int) -> None:
        """A request with so many has."""
        if sectors >= self.large[0] or sent_ns - self.large[1] > self._timing.size_wait_ns:
            self.large = (sectors, sent_ns)

    def suspects(self, exchange: Exchange) -> bool:
        """Whether a request is lost again and again, and nothing as large passed since it was first sent."""
        again = exchange.tries >= limits.SIZE_LOSSES or self.probes >= limits.SIZE_LOSSES - 1
        if exchange.sectors <= 1 or not again:
            return False
        sectors, sent_ns = self.large
        return sectors < exchange.sectors or sent_ns < next(iter(exchange.copies.values()))

    def wait_ns(self, exchange: Exchange) -> int:
        """How long after its last transmission a request counts as lost."""
        wait = int(self.rtt.usual_ns * self.patience) if self.overtook(exchange) else self.rtt.timeout_ns
        return min(wait << min(exchange.tries - 1, 16), self._timing.rto_max_ns)

    def overtook(self, exchange: Exchange) -> bool:
        """Whether something was answered that was sent later: the sign of a loss."""
        return exchange.sent_ns < self.newest_ns

    def late(self, exchange: Exchange, now_ns: int) -> bool:
        """Whether it is waited for no longer."""
        return now_ns - exchange.since_ns >= self.wait_ns(exchange)

    def may_probe(self, now_ns: int) -> bool:
        """Whether the last probe was long enough ago."""
        wait = min(self.rtt.timeout_ns << min(self.probes, 16), self._timing.rto_max_ns)
        return not self.probes or now_ns - self.probed_ns >= wait

    @property
    def stuck(self) -> bool:
        """Whether it is not answered although it is sent again and again. What was sent again while the peer
        was silent is not, as long as what was sent beside its last copy is answered."""
        first = next(iter(self.flying), None)
        if first is None:
            return False
        tries = first.tries if first.sent_ns > self.newest_ns else 0
        return max(self.probes + 1, tries) > limits.STUCK_TRIES

    def ignored(self, heard_ns: int) -> bool:
        """Whether it is stuck, and its peer was heard after the last of it was sent."""
        return self.stuck and heard_ns > next(reversed(self.flying)).sent_ns

    def stand_still(self, gap_ns: int, now_ns: int) -> None:
        """As for `Channel`."""
        self.resumed_ns = now_ns
        self.probed_ns += gap_ns
        for exchange in self.flying:
            exchange.since_ns += gap_ns

    def answered(self, exchange: Exchange, sent_ns: int, now_ns: int) -> None:
        if sent_ns >= self.resumed_ns:
            self.rtt.heard(sent_ns, now_ns)
        self.newest_ns = max(self.newest_ns, sent_ns)
        self.probes = 0
        if sent_ns < exchange.sent_ns:
            self.rtt.spurious()
            if not exchange.guessed:
                self.patience = min(2 * self.patience, limits.PATIENCE_MAX)
            return
        if exchange.tries > 1 and exchange.open:
            self.rtt.lost()
        self.patience += (1 - self.patience) / 256
