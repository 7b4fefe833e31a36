"""What a server says of its drive and of its disk is judged whole, in either language."""

from typing import Any

import pytest

import aoe
from aoe.disk.memory import MemoryDisk
from aoe.drive import identify
from aoe.drive.identify import Identity
from aoe.errors import RequestError, Unreachable
from aoe.initiator.facts import Reason
from aoe.initiator.life import State
from aoe.initiator.path import Port
from aoe.initiator.request import Outcome, Result, Verb
from aoe.link.memory import Network
from aoe.wire import protocol
from tests.initiator.helpers import attach, limited
from tests.initiator.play import SECTORS, Play, Server, both, resealed

BUSY, FAULT, DATA_REQUEST, ERROR = 0x80, 0x20, 0x08, 0x01
SECTOR = protocol.SECTOR
VERBS = {
    "read": (Verb.READ, b""),
    "write": (Verb.WRITE, b"x" * SECTOR),
    "durable": (Verb.WRITE_FUA, b"x" * SECTOR),
    "patched": (Verb.WRITE, b"x" * 100),
    "flush": (Verb.FLUSH, b""),
    "trim": (Verb.TRIM, b""),
    "identify": (Verb.IDENTIFY, b""),
}


def good(serial: str = "S", sectors: int = SECTORS, **more: Any) -> bytes:
    return identify.build(Identity(sectors, serial, frame_age_ms=1000, **more))


def shown(serial: str = "S", sectors: int = SECTORS, **words: int) -> bytes:
    return resealed(good(serial, sectors), **words)


NONSENSE = {
    "checksum": (good()[:511] + bytes((good()[511] ^ 1,)), Reason.CHECKSUM),
    "a bit of the size": (good()[:203] + b"\1" + good()[204:], Reason.CHECKSUM),
    "no LBA": (shown(w49=0x0D00), Reason.NO_LBA),
    "zeroes": (bytes(512), Reason.NO_LBA),
    "no sectors": (shown(w100=0, w101=0), Reason.NO_SECTORS),
    "no sectors of 28 bits": (shown(w60=0, w61=0, w83=0x7000), Reason.NO_SECTORS),
    "49 bits": (shown(w103=1), Reason.TOO_LARGE),
    "all bits": (shown(w100=0xFFFF, w101=0xFFFF, w102=0xFFFF, w103=0xFFFF), Reason.TOO_LARGE),
    "29 bits": (shown(w60=0xFFFF, w61=0x1FFF, w83=0x7000), Reason.TOO_LARGE),
    "ones": (b"\xff" * 512, Reason.TOO_LARGE),
}
nonsense = pytest.mark.parametrize(("data", "reason"), NONSENSE.values(), ids=NONSENSE)


# Status


def does(play: Play, what: str) -> Result | None:
    verb, data = VERBS[what]
    length = len(data) or (SECTOR if verb in (Verb.READ, Verb.TRIM) else 0)
    return play.do(verb, 0, length, data)


@both
@pytest.mark.parametrize("status", [BUSY, DATA_REQUEST, FAULT, ERROR, 0x58, 0xC0, 0xD0, 0x48, 0x7F, 0xFF])
@pytest.mark.parametrize("what", VERBS)
def test_a_status_that_says_it_was_not_done_is_an_error(make: Any, status: int, what: str) -> None:
    server = Server(0, trim_blocks=1)
    play = Play(make, server).run(200)
    server.status = status
    result = does(play, what)
    assert result is not None
    assert (result.outcome, result.status) == (Outcome.ATA_ERROR, status)


@both
@pytest.mark.parametrize("status", [0x40, 0x50, 0x00, 0x02, 0x04, 0x10, 0x56])
@pytest.mark.parametrize("what", VERBS)
def test_other_bits_of_the_status_are_no_error(make: Any, status: int, what: str) -> None:
    server = Server(0, trim_blocks=1)
    play = Play(make, server).run(200)
    server.status = status
    result = does(play, what)
    assert result is not None
    assert result.outcome is Outcome.OK


@both
@pytest.mark.parametrize("status", [BUSY, DATA_REQUEST])
def test_a_busy_drive_is_no_path(make: Any, status: int) -> None:
    server = Server(0)
    server.status = status
    play = Play(make, server).run(500)
    assert play.path(server)[5:7] == (State.DOWN, Reason.IDENTIFY_FAILS)
    assert not play.core.chosen
    server.status = 0x50
    assert play.run(2000).core.chosen


# IDENTIFY


@both
@nonsense
def test_nonsense_is_refused_with_its_reason(make: Any, data: bytes, reason: Reason) -> None:
    server = Server(0)
    server.identity = data
    play = Play(make, server).run(500)
    assert play.path(server)[5:7] == (State.REFUSED, reason)
    assert not play.core.chosen
    assert not play.core.identity
    server.identity = good()
    assert play.run(2000).core.chosen, "it is asked again"


@both
@nonsense
def test_nonsense_that_comes_first_does_not_keep_others_out(make: Any, data: bytes, reason: Reason) -> None:
    liar, server = Server(0), Server(1)
    liar.identity = data[:20] + b"T" + data[21:]
    play = Play(make, liar)
    play.run(1500)
    play.servers.append(server)
    play.run(1500)
    assert play.owner == server.mac
    assert play.core.identity[20:40] == good()[20:40]
    assert play.path(liar).state is State.REFUSED


@both
@nonsense
def test_nonsense_changes_nothing_of_a_disk_in_use(make: Any, data: bytes, reason: Reason) -> None:
    server, other = Server(0), Server(1)
    play = Play(make, server, other).run(500)
    before = play.core.identity
    owner, standby = (server, other) if play.owner == server.mac else (other, server)
    owner.identity = data
    result = play.do(Verb.IDENTIFY)
    assert result is not None
    assert result.outcome is Outcome.REFUSED
    play.run(100)
    assert play.core.identity == before
    assert play.path(owner)[5:7] == (State.REFUSED, reason)
    assert play.owner == standby.mac
    assert play.read(0) == bytes(512)


@both
def test_a_disk_without_a_checksum_is_one(make: Any) -> None:
    """vblade's: byte 510 is not 0xA5, the rest is as it comes."""
    server = Server(0)
    server.identity = good()[:510] + b"\0\7"
    assert Play(make, server).run(500).core.chosen


@both
def test_a_disk_of_28_bits_is_one(make: Any) -> None:
    server = Server(0)
    server.identity = shown(w60=0xFFFF, w61=0x0FFF, w83=0x7000)
    play = Play(make, server).run(500)
    assert identify.sectors_of(play.core.identity) == protocol.LBA28_SECTORS


LARGER = good(sectors=2 * SECTORS)


@both
@pytest.mark.parametrize(
    ("data", "sectors"),
    [(LARGER, 2 * SECTORS), (LARGER[:511] + b"\0", SECTORS), (resealed(LARGER, w49=0), SECTORS)],
    ids=["well", "checksum", "no LBA"],
)
def test_a_disk_grows_only_by_what_passes_every_check(make: Any, data: bytes, sectors: int) -> None:
    server = Server(0)
    play = Play(make, server).run(500)
    server.identity = data
    play.do(Verb.IDENTIFY)
    assert identify.sectors_of(play.core.identity) == sectors


@both
def test_a_server_that_is_not_taken_does_not_enlarge_the_disk(make: Any) -> None:
    """Larger, of the same serial, but with a volatile cache beside another server."""
    server, other = Server(0), Server(1)
    server.port, other.port = 0, 1
    play = Play(make, server, other).run(500)
    owner = server if play.owner == server.mac else other
    owner.identity = good(sectors=2 * SECTORS, cache=True, cache_on=True)
    play.do(Verb.IDENTIFY)
    assert play.path(owner)[5:7] == (State.REFUSED, Reason.VOLATILE)
    assert identify.sectors_of(play.core.identity) == SECTORS


@both
def test_a_server_without_a_cache_does_not_join_one_that_has_a_volatile_one(make: Any) -> None:
    """What the first acknowledged and has not flushed, the second would not have."""
    server, late = Server(0), Server(1)
    server.port, late.port = 0, 1
    server.identity, late.deaf = good(cache=True, cache_on=True), True
    play = Play(make, server, late).run(500)
    assert play.owner == server.mac
    late.deaf = False
    play.run(5000)
    assert play.path(late)[5:7] == (State.REFUSED, Reason.VOLATILE)


@both
def test_a_server_that_was_gone_before_the_choice_does_not_keep_others_out(make: Any) -> None:
    early, server = Server(0, serial="T"), Server(1)
    play = Play(make, early).run(30)
    assert play.core.identity
    assert not play.core.chosen
    play.core.set_port(0, _port(False), play.now)
    play.servers = [server]
    play.core.set_port(0, _port(True), play.now)
    play.run(2000)
    assert play.owner == server.mac


def _port(up: bool) -> Port:
    return Port(bytes((2, 0, 0, 0, 9, 0)), 16, 64, up)


@both
def test_what_a_disk_can_do_with_all_its_servers_sums_up(make: Any) -> None:
    """Whoever reads `identity_data` may check it."""
    server, other = Server(0, trim_blocks=8, trim_zeroes=True), Server(1)
    play = Play(make, server, other).run(500)
    assert identify.trim_blocks_of(play.core.identity) == 0
    assert identify.sums_up(play.core.identity)


# The user's view


@pytest.mark.parametrize("engine", ["python", "c"])
def test_the_reason_is_said(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    build = identify.build
    monkeypatch.setattr(identify, "build", lambda identity: build(identity)[:511] + b"\0")

    @limited
    async def run() -> None:
        network = Network()
        async with aoe.serve(MemoryDisk(1 << 20), network.attach(b"\2\0\0\0\0\1")):
            with pytest.raises(Unreachable, match=r"refused IDENTIFY has a wrong checksum: look at"):
                async with attach("e0.0", link=network.attach(b"\2\0\0\0\0\2"), find_s=0.5, engine=engine):
                    pass

    run()


@pytest.mark.parametrize("engine", ["python", "c"])
def test_the_reason_is_said_of_a_disk_in_use(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @limited
    async def run() -> None:
        network = Network()
        async with (
            aoe.serve(MemoryDisk(1 << 20), network.attach(b"\2\0\0\0\0\1")) as server,
            attach("e0.0", link=network.attach(b"\2\0\0\0\0\2"), engine=engine) as disk,
        ):
            (export,) = server.exports
            export.describe(export.identity._replace(sectors=0))
            with pytest.raises(RequestError, match="IDENTIFY names no sectors"):
                await disk.revalidate()
            assert disk.size == 1 << 20
            (path,) = disk.paths
            assert path.state == "refused"
            assert "no sectors" in path.reason

    run()
