"""A life that goes on where the last one died: nothing of then may land over what it writes."""

import math
import random
from typing import Any, NamedTuple

import pytest

from aoe import limits, timing
from aoe.initiator.compiled_core import CompiledCore
from aoe.initiator.core import Core
from aoe.initiator.debts import REST, Debt, Debts, Legacy
from aoe.initiator.exchange import Peer
from aoe.initiator.path import Policy
from aoe.initiator.request import Outcome, Verb
from aoe.target.streams import Streams
from aoe.timing import USUAL
from aoe.wire import frame
from aoe.wire.protocol import USER_TAG
from aoe.wire.stamp import UNSTAMPED, Stamp, stamp_of
from tests.initiator.play import MS, Play, Server, both
from tests.support.checkers.linear import Call, faults

BOUND_NS = timing.NETWORK_LIFETIME_NS + 1000 * MS + timing.COMPLETION_NS
OPCODE, LBA = 27, 28
WRITE, FLUSH = 0x34, 0xEA
Make = type[Core] | type[CompiledCore]


class Heeding(Server):
    """One that heeds streams, as our target does."""

    def __init__(self, number: int, store: bytearray | None = None, **facts: Any) -> None:
        super().__init__(number, store, streams=True, **facts)
        self.known = Streams()
        self.dropped = 0

    def answer(self, raw: bytes, now_ns: int) -> bytes | None:
        stamp, tag = stamp_of(raw) if len(raw) > OPCODE else None, frame.tag_of(raw)
        if self.deaf or raw[:6] != self.mac or stamp is None or not stamp.stream:
            return super().answer(raw, now_ns)
        if raw[OPCODE] == 0xEC:
            if stamp.instance == self.instance:
                self.known.register(raw[6:12], stamp, tag, now_ns, 0)
        elif stamp.instance != self.instance or self.known.stale(raw[6:12], stamp, tag):
            self.dropped += 1
            return None
        else:
            self.known.see(raw[6:12], stamp, tag, now_ns)
        return super().answer(raw, now_ns)

    @property
    def instance(self) -> int:
        return self._facts.instance

    def restart(self, instance: int) -> None:
        super().restart(instance)
        self.known = Streams()


class Lives:
    """Of one host, one after the other. `keeps` tells which frames to servers the network keeps back."""

    def __init__(self, make: Make, *servers: Server, policy: Policy = Policy(), first_tag: int = 7) -> None:
        self.make, self.servers, self.policy = make, servers, policy
        self.kept: list[bytes] = []
        self.play = Play(make, *servers, policy=policy, first_tag=first_tag)
        self.play.run(300)

    def keep(self, opcode: int, lba: int = 0) -> None:
        """Frames of that command, from now on."""

        def cut(_: int, raw: bytes, back: bool) -> bool:
            kept = not back and len(raw) > LBA and raw[OPCODE] == opcode and raw[LBA] == lba
            self.kept += [raw] if kept else []
            return kept

        self.play.cut = cut

    def next(self, *, fenced: bool = True, dead_ms: float = 200, first_tag: int = 1 << 20) -> None:
        """The process dies, and another one is there after so long."""
        now = self.play.now
        legacy = Legacy(tuple(self.play.core.debts), now) if fenced else Legacy()
        self.play = Play(
            self.make,
            *self.servers,
            policy=self.policy,
            first_tag=first_tag,
            legacy=legacy,
            now=now + int(dead_ms * MS),
        )

    def let_go(self) -> None:
        """What the network has kept arrives."""
        for raw in self.kept:
            for server in self.servers:
                server.answer(raw, self.play.now)
        self.kept.clear()

    def until_chosen(self, most_ms: float = 10_000) -> float:
        """How long it takes until the disk may be used, in ms."""
        began = self.play.now
        while not self.play.core.chosen and self.play.now - began < most_ms * MS:
            self.play.run(1)
        return (self.play.now - began) / MS


def sector(number: int) -> bytes:
    return number.to_bytes(2, "big") * 256


def stale(lives: Lives, **death: Any) -> bool:
    """Whether a write of the last life lands over one of the next."""
    lives.keep(WRITE)
    lives.play.start(Verb.WRITE, 0, 512, sector(1))
    lives.play.run(20)
    assert lives.kept, "it is under way"
    lives.next(**death)
    lives.until_chosen()
    assert lives.play.write(0, sector(2))
    lives.let_go()
    return lives.play.read(0) != sector(2)


@both
def test_a_late_write_of_the_last_life_is_dropped(make: Make) -> None:
    assert not stale(Lives(make, Heeding(1)))


@both
def test_without_the_fence_it_lands(make: Make) -> None:
    """In a stream that the target knows still, whatever the next life does in its own."""
    assert stale(Lives(make, Heeding(1)), fenced=False)


@both
def test_that_takes_no_time(make: Make) -> None:
    lives = Lives(make, Heeding(1))
    lives.play.write(0, sector(1))
    lives.next()
    assert lives.play.core.left == 1
    assert lives.until_chosen() < 400
    assert lives.play.core.left == 0


@both
def test_a_server_without_streams_is_given_time(make: Make) -> None:
    lives = Lives(make, Server(1))
    lives.play.write(0, sector(1))
    lives.next(dead_ms=200)
    wanted = (BOUND_NS - 200 * MS) / MS
    assert wanted - 150 <= lives.until_chosen() <= wanted + 150
    assert lives.play.write(0, sector(2))


@both
def test_so_is_one_that_does_not_answer(make: Make) -> None:
    """The other one may be chosen only when nothing of the first can land any more."""
    store = bytearray(1 << 20)
    first, second = Heeding(1, store), Heeding(2, store)
    lives = Lives(make, first, second)
    lives.play.write(0, sector(1))
    first.deaf = second.deaf = True
    lives.play.start(Verb.WRITE, 0, 512, sector(2))
    lives.play.run(100)
    second.deaf = False
    lives.next()
    assert lives.until_chosen() >= BOUND_NS / MS - 500
    assert lives.play.write(0, sector(3))


@both
def test_another_life_of_a_server_that_alone_has_the_store_settles_it(make: Make) -> None:
    server = Heeding(1, alone=True)
    lives = Lives(make, server)
    lives.keep(WRITE)
    lives.play.start(Verb.WRITE, 0, 512, sector(1))
    lives.play.run(20)
    server.restart(99)
    lives.next()
    assert lives.until_chosen() < 400
    assert lives.play.write(0, sector(2))
    lives.let_go()
    assert lives.play.read(0) == sector(2)


@both
def test_with_hold_time_settles_nothing(make: Make) -> None:
    server = Heeding(1)
    lives = Lives(make, server, policy=Policy(hold=True))
    lives.play.write(0, sector(1))
    server.deaf = True
    lives.next()
    lives.play.run(10_000)
    assert lives.play.core.left == 1
    server.deaf = False
    lives.until_chosen()
    assert lives.play.write(0, sector(2))


@both
def test_an_idle_life_leaves_nothing_to_wait_for(make: Make) -> None:
    lives = Lives(make, Server(1))
    lives.play.write(0, sector(1))
    lives.play.run(BOUND_NS / MS + 200)
    lives.next()
    assert lives.until_chosen() < 400


@both
def test_a_life_that_dies_at_the_fence_leaves_it_to_the_next(make: Make) -> None:
    """Whose questions have tags above those of the one before."""
    server = Heeding(1)
    lives = Lives(make, server)
    lives.keep(WRITE)
    lives.play.start(Verb.WRITE, 0, 512, sector(1))
    lives.play.run(20)
    server.deaf = True
    lives.next()
    lives.play.run(500)
    assert lives.play.core.left == 1
    server.deaf = False
    lives.next(first_tag=1 << 21)
    assert lives.until_chosen() < 400
    assert lives.play.write(0, sector(2))
    lives.let_go()
    assert lives.play.read(0) == sector(2)


@both
@pytest.mark.parametrize("epochs", [1, 100, 127, 128, 129, 200, 255, 256, 300])
def test_epochs_that_have_begun_anew(make: Make, epochs: int) -> None:
    """A frame of so many epochs ago, which the network has not delivered yet: of 256, half are earlier."""
    server = Heeding(1)
    lives = Lives(make, server)
    lives.keep(WRITE)
    lives.play.start(Verb.WRITE, 0, 512, sector(1))
    lives.play.run(20)
    debt = lives.play.core.debts[0]
    for number in range(epochs):  # as the drains of a lossy network have it
        stamp = Stamp(debt.stamp.stream, (debt.stamp.epoch + 1 + number) & 0xFF, debt.stamp.instance)
        server.known.see(debt.peer.own, stamp, (frame.tag_of(lives.kept[-1]) + 1 + number) % USER_TAG, 0)
    now = lives.play.now
    left = debt._replace(stamp=stamp)
    lives.play = Play(make, server, first_tag=1 << 20, legacy=Legacy((left,), now), now=now + 200 * MS)
    assert lives.until_chosen() < 400
    assert lives.play.write(0, sector(2))
    lives.let_go()
    assert lives.play.read(0) == sector(2)


@both
def test_it_is_noted_before_it_leaves(make: Make) -> None:
    """Every change that a server hears is covered by what the next life is told by then."""
    server = Heeding(1)
    play = Play(make, server).run(300)
    seen = 0

    def covered(_: int, raw: bytes, back: bool) -> bool:
        nonlocal seen
        stamp = stamp_of(raw) if len(raw) > OPCODE and raw[OPCODE] in (WRITE, FLUSH) and not back else None
        if stamp is None:
            return False
        (debt,) = [it for it in play.core.debts if it.stamp.stream == stamp.stream]
        assert debt.stamp == stamp
        assert (debt.tag - frame.tag_of(raw)) % USER_TAG <= limits.DEBT_TAGS
        assert play.now < debt.until_ns
        seen += 1
        return random.random() < 0.2

    random.seed(5)
    play.cut = covered
    for number in range(60):
        play.start(Verb.WRITE, 512 * (number % 7), 512, sector(number))
        play.run(40)
    assert seen > 60


def test_more_than_there_is_room_for_is_over_by_time() -> None:
    debts, now = Debts(USUAL), 1000 * MS
    for number in range(3 * limits.DEBTS_MAX):
        peer = Peer(bytes(6), number.to_bytes(6, "big"), 1, 0)
        debts.owe(0, peer, Stamp(1, 0, 1), 0, BOUND_NS - number, now + number)
    assert len(debts.all) <= limits.DEBTS_MAX
    (rest,) = [it for it in debts.all if it.peer == REST]
    assert rest.stamp == UNSTAMPED
    assert rest.quiesce_ns == BOUND_NS, "the longest of them"
    assert rest.over_ns >= now + USUAL.debt_ns + BOUND_NS


def test_of_few_servers_each_has_a_note() -> None:
    """However many lives and streams each had: so it can be told, and fenced, what is waited for."""
    debts, now = Debts(USUAL), 1000 * MS
    for number in range(5 * limits.DEBTS_MAX):
        peer = Peer(bytes(5) + b"1", bytes(5) + bytes((number % 3,)), 1, 0)
        debts.owe(0, peer, Stamp(1 + number, 0, number), 0, BOUND_NS, now + number)
    assert len(debts.all) <= limits.DEBTS_MAX
    folded = [it for it in debts.all if it.stamp == UNSTAMPED]
    assert {it.peer for it in folded} == {Peer(bytes(6), bytes(5) + bytes((n,)), 1, 0) for n in range(3)}
    assert all(it.over_ns > now + BOUND_NS for it in folded)
    left = Debts(USUAL, Legacy(tuple(debts.all), now), hold=True)
    for number in range(3):
        left.over((bytes(5) + bytes((number,)), 1, 0))
    assert not left.left


@both
def test_many_lives_of_a_server_are_noted_alike(make: Make) -> None:
    """In both languages, and more of them than there is room for."""
    server = Heeding(1)
    play = Play(make, server).run(300)
    other = Play(CompiledCore if make is Core else Core, Heeding(1)).run(300)
    for number in range(2 * limits.DEBTS_MAX):
        for each in (play, other):
            each.servers[0].restart(100 + number)  # type: ignore[attr-defined]
            each.run(20)
            each.start(Verb.WRITE, 0, 512, sector(number))
            each.run(5)
    assert play.core.debts == other.core.debts
    assert len(play.core.debts) > 1


# What leaves late


@both
@pytest.mark.parametrize("held_up_ms", [150, 450, 10_000])
def test_what_left_late_can_land_late(make: Make, held_up_ms: int) -> None:
    """The process was held up between a note and the last of the frames that it is for."""
    lives = Lives(make, Server(1))
    began = lives.play.now
    lives.play.start(Verb.WRITE, 0, 512, sector(1))
    lives.play.now += held_up_ms * MS
    lives.play.core.late(began, lives.play.now)
    (debt,) = lives.play.core.debts
    assert debt.until_ns == lives.play.now
    lives.next(dead_ms=100)
    wanted = (BOUND_NS - 100 * MS) / MS
    assert wanted - 150 <= lives.until_chosen(20_000) <= wanted + 150


@both
def test_what_was_not_sent_for_long_is_not_late(make: Make) -> None:
    lives = Lives(make, Server(1))
    lives.play.write(0, sector(1))
    (debt,) = lives.play.core.debts
    lives.play.run(300)
    lives.play.core.late(lives.play.now - 10 * MS, lives.play.now)
    assert lives.play.core.debts == [debt]
    lives.play.core.late(debt.until_ns - 1, debt.until_ns)
    assert lives.play.core.debts == [debt]


@both
@pytest.mark.parametrize("how", ["it", "all", "another"])
def test_what_was_fenced_by_hand_is_over(make: Make, how: str) -> None:
    """Also where no path leads there any more."""
    server = Server(1)
    lives = Lives(make, server, policy=Policy(hold=True))
    lives.play.write(0, sector(1))
    server.deaf = True
    lives.next()
    lives.play.run(1000)
    (debt,) = lives.play.core.debts
    mac, shelf, slot = debt.peer[1:]
    named = {"it": (mac, shelf, slot), "all": None, "another": (mac, shelf, slot + 1)}[how]
    lives.play.core.left_is_over(lives.play.now, named)
    assert lives.play.core.left == (how == "another")
    server.deaf = False
    assert (lives.until_chosen() < 5000) is (how != "another")


def test_what_is_over_makes_room() -> None:
    debts = Debts(USUAL)
    for number in range(3 * limits.DEBTS_MAX):
        debts.owe(0, Peer(bytes(6), number.to_bytes(6, "big"), 1, 0), UNSTAMPED, 0, 0, number * 1000 * MS)
    assert len(debts.all) == 1


@both
def test_a_new_stream_is_none_that_was_used(make: Make) -> None:
    """The numbers of two lives may be the same: the second one begins where the first did."""
    server = Heeding(1)
    lives = Lives(make, server)
    lives.play.write(0, sector(1))
    (used,) = {it.stamp.stream for it in lives.play.core.debts}
    lives.next(first_tag=7)
    lives.until_chosen()
    lives.play.write(0, sector(2))
    assert used not in {it.stamp.stream for it in lives.play.core.debts}


@both
def test_what_was_left_by_another_host_name_is_over_by_time(make: Make) -> None:
    """The interface has another MAC by now, to which no answer would come."""
    peer = Peer(b"\2\0\0\0\0\1", Server(1).mac, 7, 3)
    debt = Debt(0, peer, Stamp(9, 0, 2), 5, 1000 * MS, BOUND_NS)
    play = Play(make, Heeding(1), legacy=Legacy((debt,), 1000 * MS))
    play.run(500)
    assert play.core.left == 1
    assert not [raw for raw in play.said if raw[OPCODE] == FLUSH]
    play.run(BOUND_NS / MS)
    assert play.core.left == 0
    assert play.core.chosen


# What a volatile cache holds


@both
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("flushes", [False, True])
def test_a_flush_vouches_for_the_last_life_too(make: Make, restarts: bool, flushes: bool) -> None:
    """It fails once where the server lost its cache between the two, with what no flush had vouched for."""
    server = Heeding(1, cache=True, cache_on=True, alone=True)
    lives = Lives(make, server)
    lives.play.write(0, sector(1))
    if flushes:
        lives.play.do(Verb.FLUSH)
    assert any(it.cached for it in lives.play.core.debts) is not flushes
    if restarts:
        server.restart(99)
    lives.next()
    lives.until_chosen()
    lost = restarts and not flushes
    first, second = (lives.play.do(Verb.FLUSH) for _ in range(2))
    assert first is not None
    assert second is not None
    assert (first.outcome is Outcome.CACHE_LOST) is lost
    assert second.outcome is Outcome.OK
    assert not any(it.cached for it in lives.play.core.debts)


@both
def test_what_is_cached_is_told_by_every_life(make: Make) -> None:
    """Also by one that died before it had found a server, and for however long."""
    server = Heeding(1, cache=True, cache_on=True)
    lives = Lives(make, server)
    lives.play.write(0, sector(1))
    lives.play.run(60_000)
    server.deaf = True
    lives.next()
    lives.play.run(100)
    server.deaf = False
    server.restart(99)
    lives.next()
    lives.until_chosen()
    flushed = lives.play.do(Verb.FLUSH)
    assert flushed is not None
    assert flushed.outcome is Outcome.CACHE_LOST


# Random lives


class Told(NamedTuple):
    """How a host's lives went: what its user saw, for the checker, and the longest time without a disk."""

    calls: list[Call]
    pause_ms: float


def live(make: Make, seed: int, *, fenced: bool) -> Told:
    """Five lives of a host that writes one sector again and again, and repeats what was not answered when
    one ended; the network keeps frames for up to its lifetime."""
    rng = random.Random(seed)
    lives = Lives(make, Heeding(1), first_tag=rng.getrandbits(31))
    server, late = lives.servers[0], list[tuple[int, bytes]]()
    calls, pause, value = list[Call](), 0.0, 0

    def cut(_: int, raw: bytes, back: bool) -> bool:
        keeps = not back and raw[OPCODE] == WRITE and rng.random() < 0.3
        if keeps and rng.random() < 0.7:
            late.append((lives.play.now + rng.randrange(900) * MS, raw))
        return keeps or rng.random() < 0.05

    def step() -> None:
        lives.play.run(1)
        for due in [it for it in late if it[0] <= lives.play.now]:
            late.remove(due)
            server.answer(due[1], lives.play.now)

    def ask(verb: Verb, data: bytes, until: int) -> Any:
        request = lives.play.start(verb, 0, 512, data)
        while request.result is None and lives.play.now < until:
            step()
            while lives.play.core.done:
                lives.play.core.done.popleft()
        return request.result

    for _ in range(5):
        lives.play.cut = cut
        ends, repeat = lives.play.now + rng.randrange(50, 400) * MS, 0
        while lives.play.now < ends:
            called = lives.play.now
            if rng.random() < 0.5:
                value += 1
                written = ask(Verb.WRITE, sector(value), ends)
                calls.append(Call(True, value, called, lives.play.now if written else math.inf))
                repeat = 0 if written else value
            else:
                read = ask(Verb.READ, b"", ends)
                seen = int.from_bytes(read.data[:2], "big") if read else None
                calls += [] if seen is None else [Call(False, seen, called, lives.play.now)]
        lives.next(fenced=fenced, dead_ms=rng.randrange(20, 300), first_tag=rng.getrandbits(31))
        pause = max(pause, lives.until_chosen())
        if repeat:  # as the kernel does; whichever of the copies it was, it is done when this one is
            assert ask(Verb.WRITE, sector(repeat), lives.play.now + 60_000 * MS)
            (at,) = [n for n, call in enumerate(calls) if call.writes and call.value == repeat]
            calls[at] = calls[at]._replace(returned=lives.play.now)
    return Told(calls, pause)


@both
@pytest.mark.parametrize("seed", range(12))
def test_an_order_explains_what_all_lives_saw(make: Make, seed: int) -> None:
    told = live(make, seed, fenced=True)
    assert not faults(told.calls, 0)
    assert told.pause_ms < BOUND_NS / MS


@both
def test_without_the_fence_none_does(make: Make) -> None:
    assert any(faults(live(make, seed, fenced=False).calls, 0) for seed in range(12))
