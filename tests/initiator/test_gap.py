"""A process that was stopped (Ctrl-Z, a suspended machine, a paused guest) goes on as if nothing had happened
where nothing has; and what safety rests on is as old as it is."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aoe.disk.base import Disk
from aoe.disk.faulty import FaultyDisk
from aoe.disk.memory import MemoryDisk
from aoe.errors import Unreachable
from aoe.initiator.core import Core
from aoe.initiator.life import State
from aoe.initiator.path import Policy
from aoe.initiator.remote import RemoteDisk
from aoe.initiator.request import Result, Verb
from aoe.link.memory import MemoryLink, Network
from aoe.target.serve import serve
from aoe.timing import USUAL
from tests.initiator.helpers import attach, limited
from tests.initiator.play import MS, Play, Server, both
from tests.support.waiting import PROMPT_S

DATA = b"\xa5" * 512
STOP_MS = 34_000
PAUSE_MS = 300
IDENTIFY, READ, WRITE, FLUSH = 0xEC, 0x24, 0x34, 0xEA
languages = pytest.mark.parametrize("core", ["python", "c"], indirect=True)


def retransmits(play: Play) -> int:
    return play.core.counters.get("retransmits", 0)


def two_servers(**facts: int) -> list[Server]:
    store = bytearray(1 << 20)
    one, other = Server(1, store, **facts), Server(2, store, **facts)
    other.port = 1
    return [one, other]


@both
def test_what_arrived_meanwhile_is_taken_for_what_it_is(make: type[Core]) -> None:
    play = Play(make, *two_servers()).run(200)
    owner = play.owner
    asked = [play.start(Verb.READ, lba * 512, 512) for lba in range(8)]
    play.stop(STOP_MS)
    results = [play.wait(request, 1) for request in asked]
    assert results == [Result(data=bytes(512))] * 8
    play.run(2000)
    assert play.owner == owner
    assert {path.state for path in play.core.paths} == {State.USABLE}
    assert retransmits(play) == 0


@both
def test_what_was_lost_in_a_gap_is_no_silence_of_the_server(make: type[Core]) -> None:
    """It may have answered, and the answer found no room while nobody took anything."""
    play = Play(make, *two_servers()).run(200)
    owner = play.owner
    play.cut = lambda _, __, back: back
    asked = play.start(Verb.READ, 0, 512)
    play.stop(STOP_MS)
    play.cut = lambda *_: False
    states = set()
    while play.wait(asked, 1) is None:
        states |= {path.state for path in play.core.paths}
    assert states == {State.USABLE}
    assert play.owner == owner
    assert retransmits(play) == 1


@both
def test_the_round_trip_is_not_what_we_did_not_run(make: type[Core]) -> None:
    play = Play(make, Server(1)).run(200)
    for lba in range(64):
        play.read(lba)
    before = play.core.paths[0].rtt_ns
    asked = play.start(Verb.READ, 0, 512)
    play.stop(STOP_MS)
    assert play.wait(asked, 1) is not None
    assert play.core.paths[0].rtt_ns == before


@both
def test_the_round_trip_is_not_what_the_server_did_not_run(make: type[Core]) -> None:
    """It answers all at once when it goes on, copies, too."""
    play = Play(make, Server(1)).run(200)
    for lba in range(64):
        play.read(lba)
    before, arrive, until = play.core.paths[0].rtt_ns, play.arrive, play.now + PAUSE_MS * MS

    def held(port: int, raw: bytes, later_ns: int = 0) -> None:
        arrive(port, raw, max(later_ns, until - play.now))

    play.arrive = held  # type: ignore[method-assign]
    asked = [play.start(Verb.READ, lba * 4096, 512) for lba in range(8)]
    assert all(play.wait(it) is not None for it in asked)
    assert play.now >= until
    assert play.core.paths[0].rtt_ns == before > 0


@both
def test_a_dead_server_is_found_out_however_often_we_are_stopped(make: type[Core]) -> None:
    """The time in which we run counts, and no gap sets it back."""
    play = Play(make, *two_servers()).run(200)
    owner = play.owner
    (dead,) = (server for server in play.servers if server.mac == owner)
    dead.deaf = True
    asked = play.start(Verb.READ, 0, 512)
    ran_ms = 0
    while play.owner == owner:
        play.run(100)
        play.stop(700)
        ran_ms += 100
        assert ran_ms <= 1500
    assert ran_ms >= USUAL.dead_ns // MS
    assert play.wait(asked) == Result(data=bytes(512))


@both
def test_own_time_stands_still_in_gaps_only(make: type[Core]) -> None:
    play = Play(make, Server(1)).run(200)
    before = play.core.own_time_ns(play.now)
    play.run(1000)
    assert play.core.own_time_ns(play.now) == before + 1000 * MS
    play.stop(USUAL.gap_ns / MS - 1)
    assert play.core.own_time_ns(play.now) == before + 999 * MS + USUAL.gap_ns
    play.stop(USUAL.gap_ns / MS)
    assert play.core.own_time_ns(play.now) == before + 999 * MS + USUAL.gap_ns
    play.stop(STOP_MS)
    assert play.core.own_time_ns(play.now) == before + 999 * MS + USUAL.gap_ns


# What safety rests on


@both
def test_a_gap_makes_a_path_unverified(make: type[Core]) -> None:
    """Its server may be another one by now (I6)."""
    server = Server(1)
    play = Play(make, server).run(200)
    play.write(0, DATA)
    before = len(server.heard)
    play.stop(STOP_MS)
    assert play.write(0, DATA) == Result()
    assert [asked.opcode for asked in server.heard[before:]][:2] == [IDENTIFY, WRITE]


@both
@pytest.mark.parametrize("stop_ms", [600, 1500, STOP_MS])
def test_a_range_of_unknown_fate_is_closed_for_as_long_as_ever(make: type[Core], stop_ms: int) -> None:
    server = Server(1, frame_age_ms=1000)
    play = Play(make, server).run(200)
    play.cut = lambda _, raw, __: raw[27] in (WRITE, FLUSH)
    given_up = play.start(Verb.WRITE, 0, data=DATA)
    play.run(1)
    sent_ns = play.now
    play.core.abandon(given_up, play.now)
    play.stop(stop_ms)
    play.cut = lambda _, raw, __: raw[27] == FLUSH
    assert play.do(Verb.WRITE, 0, data=b"B" * 512) == Result()
    (taken,) = [asked for asked in server.heard if asked.opcode == WRITE]
    assert taken.at_ns - sent_ns >= 3000 * MS - MS


@both
def test_a_frame_that_waited_through_a_gap_is_made_anew(make: type[Core]) -> None:
    """Sent now, its copy would be younger than we believe, and its range open before it is over."""
    server = Server(1)
    play = Play(make, server).run(200)
    request = play.core.start(Verb.WRITE, 0, 512, DATA, play.now)
    ((_, unsent),) = play.core.out
    play.stop(STOP_MS)
    play.core.own_time_ns(play.now)
    ((_, anew),) = play.core.out
    assert anew[20:24] != unsent[20:24]
    assert anew[27] == unsent[27] == WRITE
    assert anew[36:] == unsent[36:]
    assert play.wait(request) == Result()
    play.run(5)
    assert play.core.paths[0].unsettled == 0, "the copy that was never sent has no fate"
    assert retransmits(play) == 0


@both
def test_a_frame_that_nobody_wants_any_more_is_not_sent_after_a_gap(make: type[Core]) -> None:
    play = Play(make, Server(1)).run(200)
    request = play.core.start(Verb.WRITE, 0, 512, DATA, play.now)
    play.core.abandon(request, play.now)
    play.stop(STOP_MS)
    play.core.tick(play.now)
    assert [raw for _, raw in play.core.out if raw[27] == WRITE] == []
    assert play.write(0, b"B" * 512) == Result()


@both
def test_failback_counts_what_was_seen(make: type[Core]) -> None:
    """That a path was usable while we did not run is not known."""
    servers = two_servers()
    play = Play(make, *servers, policy=Policy(failback_ns=5000 * MS)).run(200)
    first = play.owner
    number = next(path.number for path in play.core.paths if not path.owner)
    (lost,) = (server for server in servers if server.mac == first)
    lost.deaf = True
    play.core.switch(number, play.now)
    play.start(Verb.READ, 0, 512)
    play.run(12_000)
    lost.deaf = False
    play.run(1500)
    play.write(0, b"B" * 512)  # shows that it has the disk
    assert play.owner != first
    play.stop(STOP_MS)
    play.run(100)
    assert play.owner != first
    play.run(8000)
    assert play.owner == first


# The whole disk: the event loop is held up, which is one of the ways of not running


async def held_up(seconds: float) -> float:
    """From a little later on, the loop does not run; seconds until then."""
    began = time.monotonic()
    await asyncio.sleep(0.05)
    ran = time.monotonic() - began
    time.sleep(seconds)
    return ran


@asynccontextmanager
async def a_server(disk: Disk) -> AsyncIterator[MemoryLink]:
    """A server of a disk, as e1.0, and a link that leads there."""
    wires = Network()
    async with serve(disk, wires.attach(b"\2\0\0\0\0\1"), shelf=1, check=False):
        yield wires.attach(b"\2\0\0\0\0\2")


@asynccontextmanager
async def a_disk(disk: Disk | None = None, **how: float) -> AsyncIterator[RemoteDisk]:
    async with (
        a_server(disk or MemoryDisk(1 << 20)) as link,
        attach("e1.0", link=link, **how) as remote,
    ):
        yield remote


@languages
@limited
async def test_a_timeout_is_time_in_which_we_ran() -> None:
    disk = FaultyDisk(MemoryDisk(1 << 20))
    async with a_disk(disk, timeout_s=0.6) as remote:
        disk.hang.clear()
        reading = asyncio.ensure_future(remote.read(0, 512))
        await held_up(1.5)
        disk.hang.set()
        assert await reading == bytes(512)


@languages
@limited
async def test_a_timeout_still_comes_when_it_is_due() -> None:
    disk = FaultyDisk(MemoryDisk(1 << 20))
    async with a_disk(disk, timeout_s=0.6) as remote:
        disk.hang.clear()
        reading = asyncio.ensure_future(remote.read(0, 512))
        ran = await held_up(1.0)
        began = time.monotonic()
        with pytest.raises(Unreachable):
            await reading
        assert 0.45 - ran < time.monotonic() - began < PROMPT_S
        disk.hang.set()


@languages
@limited
async def test_what_arrived_is_read_before_anything_expires() -> None:
    """Too short for a gap: the answer lies there when the time is over."""
    async with a_disk(timeout_s=0.2) as remote:
        reading = asyncio.ensure_future(remote.read(0, 512))
        await asyncio.sleep(0)
        time.sleep(0.4)
        assert await reading == bytes(512)


@languages
@limited
async def test_looking_for_a_disk_takes_no_time_in_which_we_do_not_run() -> None:
    async with a_server(MemoryDisk(1 << 20)) as link:
        stopping = asyncio.ensure_future(held_up(1.0))
        async with attach("e1.0", link=link, find_s=0.3) as remote:
            assert await remote.read(0, 4) == bytes(4)
        await stopping


@languages
@limited
async def test_a_test_of_the_config_string_is_not_failed_by_a_gap() -> None:
    async with a_disk() as remote:
        await remote.admin.set_config(b"web")
        testing = asyncio.ensure_future(remote.admin.test_config(b"web"))
        await asyncio.sleep(0)
        time.sleep(1.2)
        assert await testing
