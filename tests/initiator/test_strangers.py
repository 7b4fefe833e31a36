"""Servers that somebody invents keep nobody from a disk, before and after it is attached."""

from typing import Any

import pytest

from aoe import limits
from aoe.initiator.facts import Reason
from aoe.initiator.life import State
from aoe.initiator.request import Outcome
from tests.initiator.play import Play, Server, both, mac

SILENT, GARBAGE, FAILS = "silent", "garbage", "fails"
kinds = pytest.mark.parametrize("kind", [SILENT, GARBAGE, FAILS])


def invented(count: int, kind: str, first: int = 1000) -> list[Server]:
    """They answer queries, and IDENTIFY not at all, or with nonsense, or with an error."""
    made = [Server(first + number) for number in range(count)]
    for server in made:
        server.identity = None if kind == SILENT else b"\xa5" * 512
        server.status = 0x41 if kind == FAILS else 0x40
    return made


def tell(play: Play, servers: list[Server]) -> None:
    """They advertise, all at once."""
    for server in servers:
        play.arrive(server.port, server.advertisement())


def attached(play: Play) -> bool:
    written = play.write(5, b"x" * 512)
    return written is not None and written.outcome is Outcome.OK and play.read(5) == b"x" * 512


@both
@kinds
@pytest.mark.parametrize("count", [31, 32, 33, 64, 500])
def test_a_disk_is_found_among_invented_servers(make: Any, kind: str, count: int) -> None:
    """They are always first to answer."""
    server = Server(0)
    play = Play(make, *invented(count, kind), server).run(2500)
    assert play.owner == server.mac
    assert attached(play)


@both
@kinds
def test_a_disk_is_found_while_more_are_invented_all_the_time(make: Any, kind: str) -> None:
    server, number = Server(0), 1000
    play = Play(make, *invented(40, kind), server)
    for _ in range(250):
        more = invented(20, kind, number := number + 20)
        play.servers = [*more, server]
        tell(play, more)
        play.run(10)
    assert play.owner == server.mac
    assert attached(play)
    assert len(play.core.paths) == limits.PATHS_MAX


@both
@kinds
def test_a_second_server_is_found_among_invented_ones(make: Any, kind: str) -> None:
    one, other = Server(0), Server(1)
    other.store = one.store
    play = Play(make, one).run(200)
    crowd = invented(100, kind)
    play.servers += crowd
    tell(play, crowd)
    play.run(20)
    play.servers.append(other)
    tell(play, [other])
    tell(play, crowd)
    play.run(500)
    assert play.path(other).state is State.USABLE
    one.deaf = True
    assert attached(play)
    assert play.owner == other.mac


@both
@kinds
def test_a_known_server_that_was_away_keeps_its_place(make: Any, kind: str) -> None:
    one, other = Server(0), Server(1)
    other.store = one.store
    play = Play(make, one, other).run(500)
    away = other if play.owner == one.mac else one
    number = play.path(away).number
    away.deaf = True
    play.run(12_000)
    assert play.path(away).state is State.DOWN
    for turn in range(20):
        tell(play, invented(40, kind, 1000 + 40 * turn))
        play.run(100)
    assert play.path(away).number == number
    away.deaf = False
    play.run(2_000)
    assert play.path(away).state is State.USABLE


@both
def test_known_servers_that_are_gone_make_room_for_a_good_one(make: Any) -> None:
    """However many there were over the life of a disk, as each came back with another network card."""
    first, number = Server(0), 1
    play = Play(make, first).run(200)
    for _ in range(limits.PATHS_MAX + 3):
        server = Server(number := number + 1, first.store)
        play.servers = [first, server]
        tell(play, [server])
        play.run(100)
        assert play.path(server).state is State.USABLE
        server.deaf = True
        play.run(12_000)
    assert len(play.core.paths) == limits.PATHS_MAX
    assert play.owner == first.mac
    assert attached(play)


@both
def test_a_change_of_unknown_fate_keeps_its_path(make: Any) -> None:
    one, other = Server(0), Server(1)
    other.store = one.store
    play = Play(make, one, other).run(500)
    owner = one if play.owner == one.mac else other
    owner.deaf = True
    assert attached(play)
    assert play.path(owner).unsettled == 1
    newcomer = Server(2, one.store)
    for turn in range(10):
        tell(play, invented(40, SILENT, 1000 + 40 * turn))
        play.servers = [one, other, newcomer]
        tell(play, [newcomer])
        play.run(10)
    assert play.path(owner).unsettled == 1
    assert play.path(newcomer).state is State.USABLE


@both
def test_another_disk_takes_no_place_in_a_crowd(make: Any) -> None:
    one, foreign = Server(0), Server(1, serial="T")
    play = Play(make, one).run(200)
    crowd = invented(60, SILENT)
    play.servers += [*crowd, foreign]
    tell(play, crowd)
    tell(play, [foreign])
    play.run(50)
    assert foreign.count(0xEC) == 1
    assert all(path.mac != foreign.mac for path in play.core.paths)


@both
def test_questions_to_strangers_are_bounded(make: Any) -> None:
    play = Play(make, Server(0)).run(200)
    play.said.clear()
    (server,) = invented(1, SILENT)
    for number in range(3 * limits.STRANGERS_MAX):
        server.mac = mac(1000 + number)
        tell(play, [server])
    play.run(2)
    assert sum(raw[19] == 0 for raw in play.said) == limits.STRANGERS_MAX + limits.PATHS_MAX - 1
    assert len(play.core.paths) == limits.PATHS_MAX
    assert play.core.counters["too_many_paths"] == 3 * limits.STRANGERS_MAX + 1 - limits.PATHS_MAX


@both
def test_an_answer_that_nobody_asked_for_invites_nobody(make: Any) -> None:
    play = Play(make, Server(0)).run(200)
    tell(play, invented(60, SILENT))
    play.run(1)
    stranger = Server(7)
    asked = bytearray(stranger.advertisement())
    asked[:12] = stranger.mac + bytes((2, 0, 0, 0, 9, 0))
    asked[14] = 0x10
    asked[19:24] = b"\0\x80\0\0\7"
    asked[24:36] = bytes((0, 0, 1, 0xEC, 0, 0, 0, 0xA0, 0, 0, 0, 0))
    answer = stranger.answer(bytes(asked), play.now)
    assert answer is not None
    play.arrive(0, answer)
    before = play.core.counters["unknown_tag"]
    play.run(1)
    assert play.core.counters["unknown_tag"] == before + 1
    tell(play, [stranger])
    play.run(1)
    assert all(path.mac != stranger.mac for path in play.core.paths)


@both
def test_the_reasons_of_those_that_are_there_are_shown(make: Any) -> None:
    play = Play(make, *invented(3, GARBAGE), Server(0)).run(500)
    reasons = sorted(path.reason for path in play.core.paths)
    assert reasons == [Reason.NONE, *3 * [Reason.NO_LBA]]
