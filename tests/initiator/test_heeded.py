"""What becomes of a stream whose server was away, or takes long (order rule T9): it is kept as long as the
server heeds it. Where another one is taken, what was sent twice is of unknown fate, and time has to pass."""

from typing import Any

import pytest

from aoe.drive import identify
from aoe.initiator.compiled_core import CompiledCore
from aoe.initiator.core import Core
from aoe.initiator.request import Outcome, Result, Verb
from aoe.target.streams import Place, Streams
from aoe.wire.opcodes import IDENTIFY_DEVICE
from aoe.wire.stamp import Stamp, stamp_of
from tests.initiator.play import MS, Play, Server, both

Make = type[Core] | type[CompiledCore]
WRITE = 0x34
AGE_NS = 1000 * MS
BY_TIME_MS = 900
"""Less than what is of unknown fate waits for."""


class Judging(Server):
    """As our target: knows streams, drops what is over, and takes no question for a place that is too old.
    `tells`: as of this release, it says whom it heeds; `full`: it has no place. While it `pauses` its socket
    keeps what comes, and while its disk `hangs` it answers no write."""

    def __init__(self, *, tells: bool = True, knows_late: bool = True) -> None:
        super().__init__(1, streams=True, alone=True)
        self.streams = Streams()
        self.tells, self.knows_late, self.full = tells, knows_late, False
        self.pauses = self.hangs = False
        self.kept: list[tuple[int, bytes]] = []
        self.now_ns = 0
        self.stamps: list[int] = []
        """The streams of writes that were heeded, 0 for none."""

    def answer(self, raw: bytes, now_ns: int) -> bytes | None:
        self.now_ns = now_ns
        if self.pauses:
            self.kept.append((now_ns, raw))
            return None
        return self._heed(raw, now_ns, now_ns)

    def go_on(self, play: Play) -> None:
        """With what its socket kept."""
        self.pauses = False
        for stamp_ns, raw in self.kept:
            answer = self._heed(raw, stamp_ns, play.now)
            if answer is not None:
                play.arrive(self.port, answer, MS)
        self.kept.clear()

    def _heed(self, raw: bytes, stamp_ns: int, now_ns: int) -> bytes | None:
        opcode = raw[27] if raw[19] == 0 else 0
        stamp, tag, src = stamp_of(raw), int.from_bytes(raw[20:24], "big"), raw[6:12]
        is_old = now_ns - stamp_ns > AGE_NS
        if opcode == IDENTIFY_DEVICE:
            return self._named(raw, self._place(src, stamp, tag, is_old), now_ns)
        if opcode not in (WRITE, 0xEA):
            return super().answer(raw, now_ns)
        if is_old or self.hangs:
            return None
        if stamp is not None:
            if stamp.instance != self._facts.instance or self.streams.stale(src, stamp, tag):
                return None
            self.streams.see(src, stamp, tag, stamp_ns)
        self.stamps += [stamp.stream if stamp else 0] * (opcode == WRITE)
        return super().answer(raw, now_ns)

    def _place(self, src: bytes, stamp: Stamp | None, tag: int, is_old: bool) -> Place | None:
        if stamp is None or stamp.instance != self._facts.instance:
            return None
        if is_old:
            return self.streams.place(src, stamp, tag) if self.knows_late else Place.NONE
        return Place.NONE if self.full else self.streams.register(src, stamp, tag, 0, 1)

    def _named(self, raw: bytes, place: Place | None, now_ns: int) -> bytes | None:
        said = self.identity
        assert said is not None
        if place is Place.NONE:
            self.identity = identify.without_streams(said)
        elif self.tells and place in (Place.KNOWN, Place.ANEW):
            self.identity = identify.heeding(said)
        try:
            return super().answer(raw, now_ns)
        finally:
            self.identity = said


def attached(make: Make, server: Judging) -> Play:
    play = Play(make, server).run(300)
    assert play.write(0, bytes(512)) == Result(Outcome.OK)
    assert server.stamps[-1]
    return play


def renewed(play: Play, server: Server) -> int:
    return play.path(server).renewed


def overwritten_ms(play: Play) -> float:
    """How long a write of the first sector takes."""
    began = play.now
    assert play.write(0, bytes([1]) * 512) == Result(Outcome.OK)
    return (play.now - began) / MS


def write(play: Play) -> Any:
    return play.start(Verb.WRITE, 0, 512, bytes(512))


def reading(play: Play, ms: int) -> None:
    """Reads are answered for so long."""
    for lba in range(ms // 20):
        assert play.read(8 + lba % 8) == bytes(512)
        play.run(20)


def paused(play: Play, server: Judging, ms: float, instance: int | None = None) -> None:
    """It starts again while a write is under way: as the same life, or another one that knows no stream."""
    server.pauses = True
    request = write(play)
    play.run(ms)
    if instance is not None:
        server.restart(instance)
        server.streams = Streams()
    server.go_on(play)
    play.run(20)
    play.arrive(server.port, server.advertisement())
    assert play.wait(request, 10_000) == Result(Outcome.OK)


@both
@pytest.mark.parametrize("knows_late", [True, False], ids=["", "of before"])
@pytest.mark.parametrize("ms", [400, 1500, 4000])
def test_a_stream_is_kept_over_a_restart_however_long_that_takes(
    make: Make, ms: float, knows_late: bool
) -> None:
    """The question which life it is waited in its socket until it was too old to register anything."""
    server = Judging(knows_late=knows_late)
    play = attached(make, server)
    first = server.stamps[-1]
    paused(play, server, ms)
    assert overwritten_ms(play) < BY_TIME_MS
    assert 0 not in server.stamps
    assert renewed(play, server) == 0
    if knows_late:
        assert {*server.stamps} == {first}


@both
def test_a_new_life_is_told_of_a_stream_however_long_the_question_waited(make: Make) -> None:
    """It waited while the new life had others to answer. What goes out meanwhile without a stream would be of
    unknown fate."""
    server = Judging()
    play = attached(make, server)
    paused(play, server, 100)
    server.restart(99)
    server.streams = Streams()
    answered: list[bytes] = []

    def cut(_: int, raw: bytes, from_server: bool) -> bool:
        """The life is new for the first question; then it has other things to do."""
        if from_server and raw[19] == 0 and raw[27] != 0x24 and not answered:
            answered.append(raw)
            server.pauses = True
        return False

    play.cut = cut
    play.arrive(0, server.advertisement())
    request = write(play)
    play.run(1300)
    assert answered
    server.go_on(play)
    assert play.wait(request, 10_000) == Result(Outcome.OK)
    assert overwritten_ms(play) < BY_TIME_MS
    assert 0 not in server.stamps
    assert renewed(play, server) == 0


@both
def test_a_life_that_ends_at_once_keeps_none_waiting_for_a_stream(make: Make) -> None:
    """It spoke, was asked again, and was killed before it had answered what it was asked."""
    server = Judging()
    play = attached(make, server)
    server.hangs = True
    request = write(play)
    reading(play, 600)
    server.restart(99)
    server.streams, server.hangs = Streams(), False
    play.arrive(0, server.advertisement())
    assert play.wait(request, 10_000) == Result(Outcome.OK)
    assert overwritten_ms(play) < BY_TIME_MS
    assert 0 not in server.stamps


@both
@pytest.mark.parametrize("ms", [600, 1500, 5000])
def test_a_disk_that_takes_long_costs_no_stream(make: Make, ms: int) -> None:
    """Reads are answered, out of its cache, and writes are not: as long as the server heeds them, that is no
    sign of a stream that is over."""
    server = Judging()
    play = attached(make, server)
    first, server.hangs = server.stamps[-1], True
    request = write(play)
    reading(play, ms)
    server.hangs = False
    assert play.wait(request, 10_000) == Result(Outcome.OK)
    assert overwritten_ms(play) < BY_TIME_MS
    assert {*server.stamps} == {first}
    assert renewed(play, server) == 0


@both
def test_a_server_of_before_is_told_of_another_one(make: Make) -> None:
    """It cannot say that it heeds us."""
    server = Judging(tells=False)
    play = attached(make, server)
    server.hangs = True
    request = write(play)
    reading(play, 3000)
    server.hangs = False
    assert play.wait(request, 10_000) == Result(Outcome.OK)
    assert renewed(play, server) > 0


@both
def test_a_stream_that_was_forgotten_is_known_again(make: Make) -> None:
    """Its place was given to another host's: the question whether it is heeded gives it one."""
    server = Judging()
    play = attached(make, server)
    first, server.streams = server.stamps[-1], Streams()
    request = write(play)
    reading(play, 1500)
    assert request.result == Result(Outcome.OK)
    assert {*server.stamps} == {first}
    assert renewed(play, server) == 0


@both
def test_a_stream_that_another_host_ended_is_followed_by_another_one(make: Make) -> None:
    server = Judging()
    play = attached(make, server)
    (one,) = server.streams.left()
    server.streams.see(one.mac, Stamp(one.number, (one.epoch + 100) & 0xFF, 0), one.newest, 0)
    request = write(play)
    reading(play, 1500)
    assert request.result == Result(Outcome.OK)
    assert renewed(play, server) == 1
    play.run(2500)
    assert play.write(8, bytes(512)) == Result(Outcome.OK)
    assert server.stamps[-1] not in (0, one.number)


@both
def test_a_server_without_a_place_is_asked_again_later(make: Make) -> None:
    server = Judging()
    server.full = True
    play = Play(make, server).run(300)
    for _ in range(2):
        assert play.write(0, bytes(512)) == Result(Outcome.OK)
        play.run(1000)
    assert {*server.stamps} == {0}
    server.full = False
    play.run(3000)
    assert play.write(0, bytes(512)) == Result(Outcome.OK)
    assert server.stamps[-1]
