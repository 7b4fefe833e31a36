"""One disk over several paths: which there are, which of them carries what, and when to change, without I/O.

Paths are found by config queries on every port, for every address, as long as there is one without a usable
path. One path, the owner, carries everything; reads that overlap no change may be spread over all (order rule
I5). When a path is lost, what is open there goes to another one at once, with the same bytes (I3); the copies
on the old path keep their ranges locked until their fate is known (I2), as `aoe.initiator.channel` says. A
path is used only while IDENTIFY vouches for it: that it is the same disk, and the same process as before
(I6). One that answers queries but no I/O is slow, not dead, and is given more time (I7).
csrc/initiator/session.c does the same.
"""

from aoe.initiator import discovery, handover, health, lifecycle, looks, traffic, trial, verdict
from aoe.initiator import exchange as on_channel
from aoe.initiator.board import Board
from aoe.initiator.exchange import Kind
from aoe.initiator.facts import Reason
from aoe.initiator.life import Happens, State
from aoe.initiator.path import Note, Operation, Path, Port
from aoe.wire import frame
from aoe.wire.frame import FLAG_RESPONSE, Fault
from aoe.wire.stamp import UNSTAMPED, Stamp


class Session(Board):
    """Carries operations to the servers of `addresses` (in order of preference), by way of `ports`.

    What happens is noted, and seen to before each of these returns: one note after the other, to its end.
    """

    @property
    def pulse_ns(self) -> int:
        """How soon `tick` is wanted."""
        if not self.chosen or any(path.channel.load for path in self.paths if path.state is not State.DOWN):
            return self.timing.rto_min_ns
        return self.timing.pulse_ns

    def set_port(self, number: int, port: Port, now_ns: int) -> None:
        """A port is like this from now on. One over which no sector fits is down."""
        port = port._replace(up=port.up and port.sectors > 0)
        was = self.ports[number]
        came_up = port.up and not (was is not None and was.up)
        renamed = was is not None and was.mac != port.mac
        self.ports[number] = port
        here = [path for path in self.paths if path.port == number]
        for path in here:  # first: losing one path sends on others
            path.channel.peer = path.channel.peer._replace(own=port.mac)
            health.fit(self, path, now_ns)
            if renamed:  # to the server that is another host: what was sent before settles by time
                path.channel.stamp = UNSTAMPED
                path.register_after_ns = now_ns
            if renamed or not port.up:
                path.vouched = False
        for path in here:
            if not port.up:
                self.note(path, Happens.UNPLUGGED, Reason.LINK_DOWN)
                continue
            health.resized(self, path, now_ns)
            if came_up or renamed:
                looks.look(self, path, now_ns)
        if came_up:
            self.seek_wait_ns = self.timing.query_first_ns
            discovery.seek(self, now_ns)
        self._run(now_ns)

    def start(self, operation: Operation, now_ns: int) -> None:
        """Carry it out."""
        self.opened[operation] = None
        traffic.dispatch(self, operation, now_ns)
        self._run(now_ns)

    def abandon(self, operation: Operation, now_ns: int) -> None:
        """No answer is wanted any more. What was sent stays of unknown fate."""
        traffic.abandon(self, operation, now_ns)
        self._run(now_ns)

    def received(self, port: int, raw: bytes, now_ns: int) -> None:
        """A frame came in on a port."""
        header = frame.decode(raw)
        if isinstance(header, Fault) or not header.flags & FLAG_RESPONSE:
            return  # others ask, too
        path = discovery.path_of(self, port, header)
        if path is not None and path.channel.knows(header.tag):
            self.follow(path, path.channel.received(header, raw, now_ns))
        elif path is not None and (probe := path.sizes.asked(header.tag)) is not None:
            health.probe_reply(self, path, probe, header, raw, now_ns)
        elif self.debts.left and self.debts.received(port, header, raw):
            pass  # what an earlier life had under way there is over
        elif discovery.tells_of_itself(self, header):
            discovery.config_reply(self, port, path, header, raw, now_ns)
        elif path is None and discovery.was_asked_as_stranger(self, port, header):
            discovery.stranger_reply(self, discovery.stranger_of(port, header), header, raw)
        else:
            self.counters["unknown_tag"] += 1
        self._run(now_ns)

    def switch(self, path: Path, now_ns: int) -> bool:
        """Make a path the owner that is usable, or is being compared, once one was chosen. What the old one
        has under way ends there."""
        usable = path.state in (State.USABLE, State.COMPARED)
        if not usable or not self.chosen or trial.is_barred(self, path) or self._is_left(path):
            return False
        if path is not self.owner:
            self.note(path, Happens.CHOSEN)
            self._run(now_ns)
        return True

    def _is_left(self, path: Path) -> bool:
        """Whether its server drains while the owner's does not."""
        return path.draining and self.owner is not None and not self.owner.draining

    def fenced(self, path: Path, now_ns: int) -> None:
        """The server of a path was made sure to do nothing any more (I4)."""
        for other in self.paths:
            if other.channel.peer[1:] == path.channel.peer[1:]:
                self.follow(other, other.channel.settle_all())
        self.debts.fenced(path.channel.peer)
        self._run(now_ns)

    def tick(self, now_ns: int) -> None:
        """Time has passed."""
        for path in self.paths:
            self.follow(path, path.channel.tick(now_ns))
        self._run(now_ns)
        for path in self.paths:
            health.watch(self, path, now_ns)
            self._run(now_ns)
            health.tend(self, path, now_ns)
            self._run(now_ns)
        if now_ns >= self.seek_ns:
            discovery.seek(self, now_ns)
        if self.debts.left:  # nothing is admitted before that is over
            self.out.extend(self.debts.tick(self.may_ask, now_ns))
        elif not self.chosen:
            lifecycle.settle_in(self, now_ns)
        elif self.owner is None:
            lifecycle.inherit(self, now_ns)
        elif self.policy.failback_ns is not None:
            lifecycle.go_back(self, self.policy.failback_ns, now_ns)
        self._run(now_ns)
        handover.tend(self, now_ns)
        self._run(now_ns)

    def stand_still(self, gap_ns: int, now_ns: int) -> None:
        """We did not run for so long, which was no server's silence. Only what waits for a sign of life is
        put off: fates (I2), and for how long a path is vouched for (I6), go by true time."""
        self.usable_ns += gap_ns if self.usable_ns else 0
        self.lost_ns += gap_ns
        self.leaves_ns += gap_ns
        for path in self.paths:
            path.channel.stand_still(gap_ns, now_ns)
            path.io_ns += gap_ns
            path.probed_ns += gap_ns
            path.sizes.stand_still(gap_ns)
            path.usable_ns += gap_ns if path.usable_ns else 0
        self._make_anew(now_ns)
        self._run(now_ns)

    def _make_anew(self, now_ns: int) -> None:
        """What was not sent by now has a time of sending that is not true, and with it all that is told from
        that: it goes out as another copy. Queries are due again anyway."""
        unsent = self.out.copy()
        self.out.clear()
        for _, raw in unsent:
            tag = frame.tag_of(raw)
            path = next((path for path in self.paths if path.channel.knows(tag)), None)
            if path is None:
                self.seek_ns = now_ns
            else:
                self.follow(path, path.channel.make_anew(tag, now_ns))

    def _run(self, now_ns: int) -> None:
        """Nothing is left to be done now."""
        self._see_to_all(now_ns)
        if self.heir is not None:
            handover.go_on(self, now_ns)
            self._see_to_all(now_ns)

    def _see_to_all(self, now_ns: int) -> None:
        """One after the other, to its end."""
        while self.todo:
            path, it = self.todo.popleft()
            if isinstance(it, on_channel.Answered):
                self._replied(path, it, now_ns)
            elif isinstance(it, on_channel.Settled):
                traffic.settled(self, it.exchange)
            elif isinstance(it, Note):
                lifecycle.happened(self, path, it, now_ns)

    def _replied(self, path: Path, answer: on_channel.Answered, now_ns: int) -> None:
        if answer.exchange is path.check:
            verdict.checked(self, path, answer, now_ns)
        elif answer.exchange is path.question:
            health.told(self, path, answer, now_ns)
        elif answer.exchange is self.parting:
            handover.parted(self, answer, now_ns)
        elif answer.exchange in self.operations:
            traffic.answered(self, path, answer, now_ns)

    def frame(self, kind: Kind) -> int:
        """How many sectors the owner takes in one request, or any path while there is no owner."""
        return traffic.frame(self, kind)

    def leads_to_owner(self, path: Path) -> bool:
        """Whether it is another path to the server of the owner."""
        return trial.leads_to_owner(self, path)

    def changes(self) -> tuple[int, int]:
        """Changes answered so far, which a flush that begins now vouches for, and losses already told of."""
        return self.changed, self.losses_told

    def flushed(self, began: tuple[int, int]) -> bool:
        """A flush that began when `changes` was so was answered; whether it vouches for them all. A loss is
        told to every flush that was under way then."""
        changes, told = began
        if changes + 1 >= self.changed:  # the flush itself is one
            self.unflushed = None
            self.debts.flushed()
        self.losses_told = self.losses
        return self.losses == told

    def look(self, path: Path, now_ns: int) -> None:
        """Ask a path what it leads to."""
        looks.look(self, path, now_ns)
        self._run(now_ns)

    def identified(self, path: Path, raw: bytes, registering: Stamp, now_ns: int) -> bool:
        """A path answered IDENTIFY, which asked to know a stream or not; whether it leads to the disk."""
        it_does = verdict.identified(self, path, raw, registering, now_ns)
        self._run(now_ns)
        return it_does

    def sampled(self, path: Path, now_ns: int) -> None:
        """Its samples are equal to the owner's. Of copies that is enough: no write will ever prove them."""
        path.trial.sampled, path.trial.condemned = True, Reason.NONE
        if self.owner is not None and trial.are_copies(self.owner.facts, path.facts):
            for it in (self.owner.trial, path.trial):
                it.proved = it.copy = True
        for other in trial.kin(self, path):
            if other.sampling:
                self.note(other, Happens.EQUAL)
        self._run(now_ns)

    def silent(self, path: Path, now_ns: int) -> None:
        """It does not answer what is read to compare it."""
        self.note(path, Happens.SILENT, Reason.SILENT)
        self._run(now_ns)

    def condemn(self, path: Path, reason: Reason, lba: int, now_ns: int) -> None:
        """It has another disk, as is seen there."""
        path.trial.condemned, path.trial.lba = reason, lba
        for other in trial.kin(self, path):
            self.note(other, Happens.CONDEMNED, reason)
        self._run(now_ns)

    def prove(self, path: Path, now_ns: int) -> None:
        """It has the disk of the owner, which thereby is proved, too."""
        assert self.owner is not None, "it acknowledged the write"
        self.news += 1
        for shown in (self.owner.trial, path.trial):
            shown.proved, shown.condemned, shown.misses = True, Reason.NONE, 0
        for other in trial.kin(self, path):
            if other.state.shown is State.REFUSED:
                other.check_after_ns = now_ns
                looks.look(self, other, now_ns)
        self._run(now_ns)
