"""A server that drains is left for another one that has the disk, without a pause, in either language."""

from typing import Any

import pytest

from aoe.initiator.path import Policy
from aoe.initiator.request import Outcome, Verb
from aoe.timing import USUAL
from aoe.wire import frame, protocol
from aoe.wire.frame import Command
from aoe.wire.stamp import AWAY, BACKGROUND, UNPROVED
from tests.initiator.play import MS, Play, Server, both, mac

SECTOR = protocol.SECTOR
IDENTIFY, READ, WRITE, FLUSH = 0xEC, 0x24, 0x34, 0xEA
PAUSE_MS = 50


class Two:
    """Primaries of one disk, which are proved; `left` is the owner, and drains from `drain` on."""

    def __init__(self, make: Any, *, proved: bool = True, **policy: Any) -> None:
        store = bytearray(4096 * SECTOR)
        servers = Server(0, store, streams=True), Server(1, store, streams=True)
        self.play = Play(make, *servers, policy=Policy(**policy))
        self.play.run(500)
        self.left = next(it for it in servers if it.mac == self.play.owner)
        self.other = next(it for it in servers if it is not self.left)
        self.slow_ns: dict[int, int] = {}
        """How much later a server answers a command."""
        if proved:
            self.play.write(2000, b"w" * SECTOR)
            assert self.play.run(20).path(self.other).proved

    def say(self, server: Server, on: bool = True) -> None:
        server.drain(on)
        self.play.arrive(0, server.advertisement())

    def drain(self, ms: float = 300) -> None:
        self.say(self.left)
        self.play.run(ms)

    def slow(self, server: Server, opcode: int, ms: float) -> None:
        """That server answers that command so much later from now on."""

        def cut(port: int, raw: bytes, back: bool) -> bool:
            late = back and raw[6:12] == server.mac and raw[19] == 0
            late = late and self.asked.get(raw[20:24]) == opcode
            if late and raw not in self.kept:
                self.kept.append(raw)
                self.play.arrive(port, raw, int(ms * MS))
                return True
            if not back and raw[19] == 0:
                self.asked[raw[20:24]] = raw[27]
            return False

        self.asked: dict[bytes, int] = {}
        self.kept: list[bytes] = []
        self.play.cut = cut

    def drain_slowly(self, ms: float) -> None:
        """Until the owner was sent its FLUSH, which it answers so much later."""
        self.slow(self.left, FLUSH, ms)
        self.say(self.left)
        while not self.left.count(FLUSH):
            self.play.run(0.5)

    def load(self, ms: int, depth: int = 8) -> list[float]:
        """Writes and reads for so long, so many at a time; how long each took, in ms. None fails."""
        took, flying, number = [], list[tuple[Any, int]](), 0
        end = self.play.now + ms * MS
        while self.play.now < end or flying:
            while self.play.now < end and len(flying) < depth:
                number += 1
                verb = Verb.READ if number % 4 == 0 else Verb.WRITE
                data = b"" if verb is Verb.READ else bytes((number % 251,)) * SECTOR
                offset = number * 7 % 1500 * SECTOR
                flying.append((self.play.start(verb, offset, SECTOR, data), self.play.now))
            self.play.run(1)
            while self.play.core.done:
                self.play.core.done.popleft()
            for request, began in [it for it in flying if it[0].result is not None]:
                assert request.result.outcome is Outcome.OK
                took.append((self.play.now - began) / MS)
                flying.remove((request, began))
        return took


def changes(server: Server, since_ns: int = 0) -> list[int]:
    """When it was asked to write."""
    return [it.at_ns for it in server.heard if it.opcode == WRITE and it.at_ns >= since_ns]


@both
def test_changes_end_and_are_flushed_before_the_first_goes_elsewhere(make: Any) -> None:
    two = Two(make)
    two.slow(two.left, WRITE, 3)
    began = two.play.now
    two.say(two.left)
    took = two.load(200)
    assert two.play.owner == two.other.mac
    flushes = [it.at_ns for it in two.left.heard if it.opcode == FLUSH and it.at_ns >= began]
    assert len(flushes) == 1
    last, first = max(changes(two.left)), min(changes(two.other))
    assert last + 3 * MS <= flushes[0] < first, "they were answered before it was sent"
    assert first - flushes[0] < MS, "nothing else is waited for"
    assert max(took) < PAUSE_MS
    assert len(took) > 300


@both
def test_reads_go_on_at_the_old_server_until_then(make: Any) -> None:
    two = Two(make)
    two.drain_slowly(15)
    write = two.play.start(Verb.WRITE, 0, data=b"w" * SECTOR)
    before = two.left.count(READ)
    assert two.play.read(0) == bytes(SECTOR)
    assert two.play.read(5) == bytes(SECTOR)
    assert two.left.count(READ) == before + 2
    assert write.result is None, "it waits"
    assert two.play.owner == two.left.mac
    assert two.play.wait(write, 20) is not None
    assert (two.left.count(WRITE), two.other.count(WRITE)) == (1, 1)
    assert two.play.read(0) == b"w" * SECTOR
    assert two.left.count(READ) == before + 2


@both
def test_what_was_not_sent_yet_does_not_go_to_the_old_server(make: Any) -> None:
    """A window's worth ends there, however much waits."""
    two = Two(make)
    two.slow(two.left, WRITE, 5)
    two.say(two.left)
    two.load(60, depth=150)
    assert two.play.owner == two.other.mac
    flushed = next(it.at_ns for it in two.left.heard if it.opcode == FLUSH)
    late = [at for at in changes(two.left) if at > flushed - 10 * MS]
    assert len(late) <= 64


@both
@pytest.mark.parametrize("why", ["unproved", "it drains too", "alone"])
def test_without_a_better_server_it_stays(make: Any, why: str) -> None:
    two = Two(make, proved=why != "unproved")
    if why == "it drains too":
        two.say(two.other)
    elif why == "alone":
        two.other.deaf = True
        two.play.run(12_000)
    two.drain()
    if why != "unproved":  # else a write proves it
        two.load(200)
    assert two.play.owner == two.left.mac
    if why == "it drains too":
        two.say(two.other, on=False)
        two.play.run(300)
        assert two.play.owner == two.other.mac, "it goes when it can"


@both
def test_an_idle_client_goes_too_and_says_so(make: Any) -> None:
    two = Two(make)
    assert not two.play.path(two.left).draining
    two.drain()
    assert two.play.owner == two.other.mac
    assert [two.play.path(it).draining for it in (two.left, two.other)] == [True, False]
    asked = [it.lba for it in two.left.heard if it.opcode == IDENTIFY]
    assert asked[-1] & 0xFF == AWAY
    assert all(not it.lba & 0xFF for it in two.other.heard if it.opcode == IDENTIFY)
    before = len(two.left.heard)
    two.play.run(5000)
    assert len(two.left.heard) == before, "once"


def words(server: Server) -> list[int]:
    """What it was told of our staying there, as often as it was asked what it is."""
    return [it.lba & 0xFF for it in server.heard if it.opcode == IDENTIFY]


@both
def test_an_idle_client_that_has_proved_no_other_server_says_so_and_goes_with_its_first_write(
    make: Any,
) -> None:
    """It may be another disk with the same first blocks."""
    two = Two(make, proved=False)
    two.drain()
    assert two.play.path(two.other).state.name == "USABLE"
    two.play.read(100)
    two.play.run(5000)
    assert two.play.owner == two.left.mac
    assert (words(two.left)[-1], set(words(two.other))) == (UNPROVED, {0})
    two.play.write(2000, b"w" * SECTOR)
    two.play.run(300)
    assert two.play.owner == two.other.mac
    assert words(two.left)[-1] == AWAY


@both
def test_it_says_so_of_a_server_that_it_would_go_to_and_of_no_other(make: Any) -> None:
    two = Two(make, proved=False)
    two.say(two.other)
    two.drain()
    assert words(two.left)[-1] == 0, "the other one drains, too"
    two.say(two.other, on=False)
    two.play.run(300)
    assert words(two.left)[-1] == UNPROVED
    two.other.deaf = True
    two.play.run(12_000)
    assert words(two.left)[-1] == 0, "it is lost"
    two.other.deaf = False
    two.play.run(12_000)
    assert words(two.left)[-1] == UNPROVED


@both
def test_a_server_that_started_again_has_to_be_proved_anew_before_an_idle_client_comes_back(
    make: Any,
) -> None:
    """Maintenance of one server after the other: nothing is known of what the first one serves now."""
    two = Two(make)
    two.drain()
    two.left.restart(99)
    two.say(two.left, on=False)
    two.play.run(3000)
    two.say(two.other)
    two.play.run(3000)
    assert two.play.owner == two.other.mac
    assert words(two.other)[-1] == UNPROVED
    two.play.write(2000, b"v" * SECTOR)
    two.play.run(300)
    assert two.play.owner == two.left.mac


@both
def test_a_second_path_to_the_server_in_use_does_not_say_that_it_is_left(make: Any) -> None:
    """Its network cards are two, and we have one."""
    store = bytearray(4096 * SECTOR)
    cards = Server(0, store, streams=True, instance=9), Server(1, store, streams=True, instance=9)
    play = Play(make, *cards).run(500)
    for card in cards:
        card.drain()
        play.arrive(0, card.advertisement())
    play.run(3000)
    assert [words(card)[-1] for card in cards] == [0, 0]


@both
def test_it_comes_back_where_it_has_to_and_says_so(make: Any) -> None:
    two = Two(make)
    two.drain()
    two.other.deaf = True
    result = two.play.do(Verb.WRITE, 0, data=b"x" * SECTOR)
    assert result is not None
    assert result.outcome is Outcome.OK
    two.play.run(300)
    assert two.play.owner == two.left.mac
    assert not [it.lba for it in two.left.heard if it.opcode == IDENTIFY][-1] & 0xFF


@both
def test_after_resume_it_stays_where_it_is(make: Any) -> None:
    two = Two(make)
    two.drain()
    two.say(two.left, on=False)
    two.play.run(30_000)
    assert two.play.owner == two.other.mac


@both
def test_failback_waits_for_resume_and_counts_from_then(make: Any) -> None:
    """Whichever of the two is the preferred one."""
    two = Two(make, failback_ns=2000 * MS)
    two.play.run(3000)
    two.drain(5000)
    assert two.play.owner == two.other.mac
    two.say(two.left, on=False)
    assert two.play.run(1500).owner == two.other.mac
    preferred = two.left.mac == mac(0)
    assert two.play.run(1500).owner == (two.left.mac if preferred else two.other.mac)


@both
def test_a_slow_disk_is_asked_again_with_more_patience(make: Any) -> None:
    two = Two(make)
    two.slow(two.left, FLUSH, 60)
    two.say(two.left)
    took = two.load(400)
    assert two.play.owner == two.left.mac
    assert max(took) < PAUSE_MS, "changes wait for a while only"
    assert len(changes(two.left)) > 500
    two.load(4000, depth=1)
    assert two.play.owner == two.other.mac


@both
def test_a_flush_that_fails_keeps_it(make: Any) -> None:
    two = Two(make)
    two.left.fails.add(FLUSH)
    two.drain(3000)
    assert two.play.owner == two.left.mac
    assert two.left.count(FLUSH) > 1
    two.left.fails.clear()
    two.play.run(3000)
    assert two.play.owner == two.other.mac


@both
def test_another_life_of_the_server_vouches_for_nothing(make: Any) -> None:
    """It started again while the FLUSH was on its way: what it was sent before is asked for again."""
    two = Two(make)
    two.drain_slowly(10)
    two.left.restart(99)
    two.play.arrive(0, two.left.advertisement())
    two.play.run(12)
    flushes = two.left.count(FLUSH)
    two.load(1500, depth=1)
    assert two.play.owner == two.other.mac
    assert two.left.count(FLUSH) >= flushes


@both
@pytest.mark.parametrize("which", ["the old", "the new"])
def test_a_server_that_is_lost_meanwhile_costs_what_it_always_costs(make: Any, which: str) -> None:
    two = Two(make)
    two.drain_slowly(20)
    lost, there = (two.left, two.other) if which == "the old" else (two.other, two.left)
    lost.deaf = True
    two.load(2500, depth=1)
    assert two.play.owner == there.mac


@both
def test_a_change_of_unknown_fate_keeps_its_range_closed_at_the_new_server(make: Any) -> None:
    """A copy of it is lost on its way back, and the old server's FLUSH settles it (order rule I2)."""
    two = Two(make)
    lost: list[bytes] = []

    def cut(_: int, raw: bytes, back: bool) -> bool:
        loses = back and raw[6:12] == two.left.mac and raw[19] == Command.ATA and not lost
        if loses and two.left.heard[-1].opcode == WRITE:
            lost.append(raw)
            return True
        return False

    two.play.cut = cut
    first = two.play.start(Verb.WRITE, 0, data=b"a" * SECTOR)
    two.drain(2000)
    assert two.play.owner == two.other.mac
    result = two.play.wait(first)
    assert result is not None
    assert result.outcome is Outcome.OK
    assert two.play.do(Verb.WRITE, 0, data=b"b" * SECTOR) is not None
    again = [it.at_ns for it in two.left.heard if it.opcode == WRITE and it.lba == 0]
    settled = [it.at_ns for it in two.left.heard if it.opcode == FLUSH]
    elsewhere = [it.at_ns for it in two.other.heard if it.opcode == WRITE and it.lba == 0]
    assert len(again) > 1
    assert max(again) < max(settled) < min(elsewhere)


@both
def test_what_drains_is_chosen_by_no_word_and_not_at_first(make: Any) -> None:
    two = Two(make)
    two.drain()
    number = two.play.path(two.left).number
    assert not two.play.core.switch(number, two.play.now)
    assert two.play.owner == two.other.mac
    store = bytearray(4096 * SECTOR)
    servers = Server(0, store), Server(1, store)
    servers[0].drain()
    assert Play(make, *servers).run(500).owner == servers[1].mac


@both
def test_spread_reads_leave_at_once(make: Any) -> None:
    two = Two(make, spread=True)
    two.drain()
    before = two.left.count(READ)
    for lba in range(20):
        two.play.read(lba)
    assert two.left.count(READ) == before


def test_no_wait_is_longer_than_what_is_promised() -> None:
    assert USUAL.handover_ns < PAUSE_MS * MS


def test_the_copies_that_are_cut_are_frames() -> None:
    """Of `Two.slow`: where command and opcode of a frame are."""
    header = frame.Header(mac(1), mac(2), frame.VERSION, 0, 0, 7, 3, Command.ATA, 5)
    raw = frame.encode(header, bytes((0, 0, 1, READ)) + bytes(8))
    assert (raw[19], raw[27], raw[20:24]) != (0, 0, b"")


@both
@pytest.mark.parametrize("background", [False, True])
def test_it_says_whether_what_it_asks_for_can_wait(make: Any, background: bool) -> None:
    """To a server that knows its stream, beside what one that drains is told."""
    two = Two(make, background=background)
    two.drain()
    said = [it.lba & (BACKGROUND | 0xFF) for it in two.left.heard if it.opcode == IDENTIFY]
    assert said[0] == 0, "it does not know yet who is asked"
    assert said[-1] == AWAY | BACKGROUND * background
    assert {bool(it & BACKGROUND) for it in said[1:]} == {background}
