"""Two servers with one serial are one disk only where a write of ours shows it, in either language."""

import random
from typing import Any

import pytest

from aoe import limits
from aoe.drive.identify import NO_STORE_ID, StoreId, StoreKind
from aoe.initiator.facts import Reason
from aoe.initiator.life import State
from aoe.initiator.path import Policy, Port
from aoe.initiator.request import Outcome, Verb
from aoe.timing import USUAL
from aoe.wire import ata, protocol
from tests.initiator.play import MS, Play, Server, both

SECTOR = protocol.SECTOR
PROBES = 3
"""Reads that show how large frames pass."""
LARGE = 32768
"""Sectors of a disk that is not sampled whole."""


def content(sectors: int = LARGE, seed: int = 1) -> bytearray:
    return bytearray(random.Random(seed).randbytes(sectors * SECTOR))


def two(
    store: bytearray | None = None, other: bytearray | None = None, **facts: Any
) -> tuple[Server, Server]:
    """Primaries of one disk, unless the second one has another store."""
    store = content() if store is None else store
    return Server(0, store, **facts), Server(1, store if other is None else other, **facts)


def settled(play: Play) -> tuple[Server, Server]:
    """The owner, and the one beside it."""
    play.run(500)
    owner = next(server for server in play.servers if server.mac == play.owner)
    return owner, next(server for server in play.servers if server is not owner)


def differing(at: int, store: bytearray) -> bytearray:
    """A clone that differs in one sector."""
    clone = bytearray(store)
    clone[at * SECTOR + 100] ^= 1
    return clone


# Proof


@both
def test_a_write_proves_that_a_second_server_has_the_disk(make: Any) -> None:
    play = Play(make, *two())
    owner, other = settled(play)
    assert play.path(other).state is State.USABLE
    assert (play.path(owner).proved, play.path(other).proved) == (True, False)
    play.write(9000, b"w" * SECTOR)
    assert play.run(1).path(other).proved
    reads = [asked.lba for asked in other.heard if asked.opcode == 0x24][-2:]
    assert reads == [9000, 9000], "before and after"
    before = len(other.heard)
    for lba in range(50):
        play.write(lba, b"v" * SECTOR)
    assert len(other.heard) == before, "once for each life of a server"


@both
@pytest.mark.parametrize("how", ["durable", "patched", "large"])
def test_any_write_of_bytes_will_do(make: Any, how: str) -> None:
    play = Play(make, *two())
    _, other = settled(play)
    verb = Verb.WRITE_FUA if how == "durable" else Verb.WRITE
    offset, length = {"durable": (0, 4096), "patched": (777, 100), "large": (4096, 100_000)}[how]
    result = play.do(verb, offset, data=b"w" * length)
    assert result is not None
    assert result.outcome is Outcome.OK
    assert play.run(1).path(other).proved


@both
def test_a_write_of_what_is_there_proves_nothing(make: Any) -> None:
    store = content()
    play = Play(make, *two(store))
    _, other = settled(play)
    for lba in range(100):
        play.write(5000 + lba, bytes(store[(5000 + lba) * SECTOR : (5001 + lba) * SECTOR]))
        play.run(20)
    assert play.path(other)[5:7] == (State.USABLE, Reason.NONE)
    assert not play.path(other).proved


@both
def test_a_clone_is_refused_after_some_writes(make: Any) -> None:
    """Its samples are equal, as both were made of one template."""
    store = content()
    clone = bytearray(store)
    play = Play(make, *two(store, clone))
    owner, other = settled(play)
    assert play.path(other).state is State.USABLE
    for number in range(limits.ECHOES_MAX):
        assert play.path(other).state is State.USABLE
        assert not play.path(other).proved
        play.write(7000 + number, b"w" * SECTOR)
        play.run(20)
    assert play.path(other)[5:7] == (State.REFUSED, Reason.NOT_SEEN)
    assert play.path(other).lba == 7000 + limits.ECHOES_MAX - 1
    assert other.count(0x34) == 0
    assert play.owner == owner.mac


@both
def test_another_host_that_writes_between_is_no_other_disk(make: Any) -> None:
    play = Play(make, *two())
    _, other = settled(play)
    turn = 0

    def spoil(_: int, data: bytes) -> bytes:
        nonlocal turn
        turn += 1
        return bytes(len(data)) if turn % 2 == 0 and turn < 2 * limits.ECHOES_MAX else data

    other.spoil = spoil
    for number in range(limits.ECHOES_MAX):
        assert not play.path(other).proved
        play.write(7000 + number, b"w" * SECTOR)
        play.run(20)
    assert play.path(other).proved


@both
def test_a_range_is_closed_until_it_was_read_once_more(make: Any) -> None:
    play = Play(make, *two())
    owner, other = settled(play)
    requests = [play.start(Verb.WRITE, 9000 * SECTOR, data=bytes((n,)) * SECTOR) for n in range(5)]
    for request in requests:
        result = play.wait(request)
        assert result is not None
        assert result.outcome is Outcome.OK
    writes = [asked.at_ns for asked in owner.heard if asked.opcode == 0x34]
    before, after = [asked.at_ns for asked in other.heard if asked.opcode == 0x24][-2:]
    assert before < writes[0] < after < writes[1]
    assert play.read(9000) == b"\4" * SECTOR


@both
def test_the_write_is_answered_before_its_range_is_open(make: Any) -> None:
    """The second read costs nobody anything but those who write there."""
    play = Play(make, *two())
    _, other = settled(play)
    reads = other.count(0x24)
    other.spoil = lambda _, data: data
    request = play.start(Verb.WRITE, 9000 * SECTOR, data=b"w" * SECTOR)
    while request.result is None:
        play.run(0.1)
        while play.core.done:
            play.core.done.popleft()
    assert other.count(0x24) == reads + 2
    assert not play.path(other).proved, "its answer is still on the way"
    assert play.run(1).path(other).proved


@both
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_second_server_that_is_silent_holds_up_a_write_for_a_moment(make: Any, when: str) -> None:
    play = Play(make, *two())
    _, other = settled(play)
    reads = other.count(0x24)
    play.cut = lambda _, raw, back: (
        back and raw[6:12] == other.mac and (other.count(0x24) - reads > (when == "after"))
    )
    began = play.now
    first, second = (play.start(Verb.WRITE, 9000 * SECTOR, data=data * SECTOR) for data in (b"a", b"b"))
    for request in (first, second):
        result = play.wait(request)
        assert result is not None
        assert result.outcome is Outcome.OK
    assert play.now - began < 2 * USUAL.proof_ns
    began = play.now
    for number in range(100):
        play.write(9000 + number, b"c" * SECTOR)
    assert play.now - began < 2 * USUAL.proof_ns, "it is not asked again and again"
    play.run(2000)
    assert play.path(other).state is State.DOWN


@both
def test_a_read_that_fails_there_shows_nothing(make: Any) -> None:
    play = Play(make, *two())
    _, other = settled(play)
    other.status = 0x41
    for number in range(20):
        play.write(7000 + number, b"w" * SECTOR)
        play.run(1100)
    other.status = 0x40
    play.run(11_000)
    assert play.path(other).state is State.USABLE
    play.write(9000, b"w" * SECTOR)
    assert play.run(1).path(other).proved


@both
def test_a_write_that_is_given_up_leaves_its_range(make: Any) -> None:
    play = Play(make, *two())
    _, other = settled(play)
    play.cut = lambda _, raw, back: back and raw[6:12] == other.mac
    request = play.start(Verb.WRITE, 9000 * SECTOR, data=b"w" * SECTOR)
    play.run(1)
    play.core.abandon(request, play.now)
    play.cut = lambda *_: False
    began = play.now
    play.write(9000, b"v" * SECTOR)
    assert play.now - began < 10 * MS
    assert play.read(9000) == b"v" * SECTOR


def comparing_a_third(make: Any) -> tuple[Play, Server, Server]:
    """An owner, one that is to be proved, and one that is compared and does not answer reads of samples."""
    store = content()
    third = Server(2, store)
    third.deaf = True
    play = Play(make, *two(store), third)
    _, other = settled(play)
    third.deaf = False
    play.cut = lambda _, raw, back: (
        not back and raw[:6] == third.mac and ata.command_in(raw[protocol.AOE_HEADER :]) == 0x24
    )
    play.arrive(0, third.advertisement())
    assert play.run(2).core.comparing
    return play, other, third


@both
def test_a_write_that_waited_for_a_sample_may_be_the_next_that_is_looked_for(make: Any) -> None:
    play, other, third = comparing_a_third(make)
    requests = [play.start(Verb.WRITE, 5 * SECTOR, data=bytes((n,)) * SECTOR) for n in b"ab"]
    assert not play.run(1).path(other).proved
    assert not requests[0].result, "the range is closed"
    for request in requests:
        result = play.wait(request)
        assert result is not None
        assert result.outcome is Outcome.OK
    assert play.path(other).proved
    assert [asked.lba for asked in other.heard if asked.opcode == 0x24][-2:] == [5, 5]
    assert play.read(5) == b"b" * SECTOR
    play.cut = lambda *_: False
    assert play.run(12_000).path(third).state is State.USABLE


@both
def test_what_was_given_up_behind_a_sample_lets_the_next_one_go(make: Any) -> None:
    play, other, _ = comparing_a_third(make)
    requests = [play.start(Verb.WRITE, 5 * SECTOR, data=bytes((n,)) * 3 * SECTOR) for n in b"abcd"]
    for request in requests[:3]:
        play.core.abandon(request, play.now)
    began = play.now
    result = play.wait(requests[3])
    assert result is not None
    assert result.outcome is Outcome.OK
    assert play.now - began < 2 * USUAL.proof_ns
    assert play.run(1).path(other).proved
    assert play.read(5) == b"d" * SECTOR


# Samples


@both
@pytest.mark.parametrize("at", [0, 2047, LARGE - 1, LARGE - 2048, LARGE // 17, LARGE // 17 * 16 + 7])
def test_samples_that_differ_refuse_a_server(make: Any, at: int) -> None:
    store = content()
    play = Play(make, *two(store, differing(at, store)))
    owner, other = settled(play)
    assert play.path(other)[5:7] == (State.REFUSED, Reason.OTHER_DATA)
    assert play.path(other).lba == at
    assert play.owner == owner.mac
    assert other.count(0x34) == 0


@both
@pytest.mark.parametrize("sectors", [1, 7, 16, 100, 4095, 4096, 4097])
def test_small_disks_are_compared_whole(make: Any, sectors: int) -> None:
    store = content(sectors)
    for at in {0, sectors // 2, sectors - 1}:
        play = Play(make, *two(store, differing(at, store)))
        _, other = settled(play)
        assert play.path(other)[5:7] == (State.REFUSED, Reason.OTHER_DATA)
        assert play.path(other).lba == at


@both
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_range_that_differs_is_read_three_times(make: Any, times: int) -> None:
    one, other = two()
    left = times

    def spoil(lba: int, data: bytes) -> bytes:
        nonlocal left
        if lba != 512 or not left:
            return data
        left -= 1
        return bytes(len(data))

    other.spoil = spoil
    play = Play(make, one, other)
    play.run(500)
    assert play.path(other).state is (State.USABLE if times < 3 else State.REFUSED)


@both
def test_our_own_writes_do_not_make_samples_differ(make: Any) -> None:
    """They go on while a second server joins, in the very ranges that are compared."""
    one, other = two()
    play = Play(make, one).run(300)
    play.servers.append(other)
    play.arrive(0, other.advertisement())
    rng, open_ = random.Random(3), []
    for _ in range(2000):
        open_.append(play.start(Verb.WRITE, rng.randrange(64) * SECTOR, data=rng.randbytes(SECTOR)))
        play.run(0.05)
    for request in open_:
        assert play.wait(request) is not None
    assert play.path(other).state is State.USABLE
    assert play.path(other).proved
    assert play.path(other).lba == 0


@both
def test_sectors_that_cannot_be_read_are_left_out(make: Any) -> None:
    one, other = two()
    other.bad = {5, 3000}
    play = Play(make, one, other)
    play.run(500)
    assert play.path(other).state is State.USABLE


@both
def test_a_server_that_was_refused_is_looked_at_again(make: Any) -> None:
    store = content()
    play = Play(make, *two(store, differing(9, store)))
    _, other = settled(play)
    assert play.path(other).state is State.REFUSED
    other.store = store
    play.run(USUAL.condemned_ns / MS / 2)
    assert play.path(other).state is State.REFUSED
    play.run(USUAL.condemned_ns / MS)
    assert play.path(other).state is State.USABLE
    assert not play.path(other).proved


@both
def test_one_that_did_not_show_our_writes_stays_refused_until_it_does(make: Any) -> None:
    """Its samples are equal all the time."""
    store = content()
    play = Play(make, *two(store, bytearray(store)))
    owner, other = settled(play)
    for number in range(limits.ECHOES_MAX):
        play.write(7000 + number, b"w" * SECTOR)
        play.run(20)
    for minute in range(3):
        play.run(USUAL.condemned_ns / MS + 1000)
        assert play.path(other)[5:7] == (State.REFUSED, Reason.NOT_SEEN)
        play.write(7100 + minute, b"w" * SECTOR)
        play.run(20)
    owner.deaf = True
    assert play.do(Verb.READ, 0, 512) is None, "it does not take over"
    owner.deaf = False
    play.run(2000)
    other.store = store
    play.run(USUAL.condemned_ns / MS + 1000)
    play.write(7200, b"w" * SECTOR)
    play.run(20)
    assert play.path(other).state is State.USABLE
    assert play.path(other).proved


# Large frames that do not pass


def reads_of(server: Server) -> list[int]:
    """How many sectors each read had that was no probe of sizes."""
    return [asked.sectors for asked in server.heard if asked.opcode == 0x24 and asked.sectors > 1]


def loses_large(play: Play, server: Server) -> None:
    """A switch before it passes frames of 1500 bytes."""
    play.cut = lambda _, raw, __: len(raw) > 1514 and server.mac in (raw[:6], raw[6:12])


@both
def test_samples_are_as_large_as_passes(make: Any) -> None:
    play = Play(make, *two())
    for server in settled(play):
        assert max(reads_of(server)) == 16
        assert len(reads_of(server)) < 2 * limits.SAMPLE_END_SECTORS // 16 + 60, "few of them small"


@both
@pytest.mark.parametrize("at", [None, 2047], ids=["one", "two"])
def test_a_server_behind_a_switch_for_small_frames_is_compared(make: Any, at: int | None) -> None:
    store = content()
    one, other = two(store, store if at is None else differing(at, store))
    play = Play(make, one)
    loses_large(play, other)
    play.run(300)
    play.servers.append(other)
    play.arrive(0, other.advertisement())
    play.run(3000)
    if at is not None:
        assert play.path(other)[5:7] == (State.REFUSED, Reason.OTHER_DATA)
        assert play.path(other).lba == at
        return
    assert play.path(other).state is State.USABLE
    play.write(9000, b"w" * 16 * SECTOR)
    assert play.run(20).path(other).proved


@both
@pytest.mark.parametrize("how", ["switch", "server"])
@pytest.mark.parametrize("whose", ["owner's", "second"])
def test_frames_may_get_smaller_while_servers_are_compared(make: Any, how: str, whose: str) -> None:
    one, other = two()
    play = Play(make, one, other)
    while not any(server.count(0x24) > 50 for server in (one, other)):
        play.run(1)
    smaller = one if (play.owner == one.mac) is (whose == "owner's") else other
    assert not play.path(one).proved or not play.path(other).proved
    if how == "switch":
        loses_large(play, smaller)
    else:
        smaller.frame = 2
    play.run(3000)
    assert [play.path(server).state for server in (one, other)] == [State.USABLE] * 2
    play.write(9000, b"w" * 16 * SECTOR)
    play.run(50)
    assert [play.path(server).proved for server in (one, other)] == [True, True]


@both
@pytest.mark.parametrize(("whose", "trip_ms"), [("owner's", 40), ("second", 40), ("owner's", 90)])
def test_frames_may_get_smaller_on_a_long_way(
    make: Any, whose: str, trip_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A range is open again before it is known that no large frame passes: smaller ones are tried."""
    one, other = two()
    play = Play(make, one, other)
    monkeypatch.setattr("tests.initiator.play.TRIP_NS", trip_ms * MS)
    while not any(server.count(0x24) > 50 for server in (one, other)):
        play.run(1)
    loses_large(play, one if (play.owner == one.mac) is (whose == "owner's") else other)
    while not all(play.path(server).state is State.USABLE for server in (one, other)):
        assert play.run(100).now < 60_000 * MS


@both
@pytest.mark.parametrize("how", ["switch", "server"])
def test_a_write_waits_not_for_frames_that_got_smaller(make: Any, how: str) -> None:
    play = Play(make, *two())
    _, other = settled(play)
    if how == "switch":
        loses_large(play, other)
    else:
        other.frame = 2
    began = play.now
    play.write(9000, b"w" * 16 * SECTOR)
    assert play.now - began < 2 * USUAL.proof_ns
    play.run(3000)
    play.write(9100, b"w" * 16 * SECTOR)
    assert play.run(50).path(other).proved


# Who is compared


@both
@pytest.mark.parametrize("vendor", [True, False], ids=["ours", "foreign"])
def test_one_server_with_two_cards_is_one_server(make: Any, vendor: bool) -> None:
    one, other = two(instance=9)
    if not vendor:
        for server in (one, other):
            shown = server.identity or b""
            server.identity = shown[:258] + b"vblade" + shown[264:510] + b"\0\0"
    play = Play(make, one, other)
    _, beside = settled(play)
    assert play.path(beside).proved is vendor
    assert (beside.count(0x24) > PROBES) is not vendor


@both
def test_one_server_on_two_ports_of_ours_is_one_server(make: Any) -> None:
    one = Server(0, content())
    again = Server(0, one.store)
    again.port = 1
    play = Play(make, one, again).run(500)
    assert [path.proved for path in play.core.paths] == [True, True]


@both
@pytest.mark.parametrize(
    ("kinds", "texts", "refused"),
    [
        ((StoreKind.FILE, StoreKind.FILE), ("a", "b"), True),
        ((StoreKind.RBD, StoreKind.RBD), ("a", "b"), True),
        ((77, 77), ("a", "b"), True),
        ((StoreKind.FILE, StoreKind.FILE), ("a", "a"), False),
        ((StoreKind.FILE, StoreKind.DEVICE), ("a", "b"), False),
        ((StoreKind.NONE, StoreKind.DEVICE), ("a", "b"), False),
        ((StoreKind.NONE, StoreKind.NONE), ("a", "b"), False),
    ],
)
def test_ids_of_stores_that_differ_refuse_at_once(make: Any, kinds: Any, texts: Any, refused: bool) -> None:
    store = content()
    servers = [
        Server(number, store, store_id=StoreId(int(kind), text.encode() * 16 if kind else bytes(16)))
        for number, (kind, text) in enumerate(zip(kinds, texts, strict=True))
    ]
    play = Play(make, *servers)
    _, other = settled(play)
    assert (play.path(other).reason is Reason.OTHER_STORE) is refused
    assert (play.path(other).state is State.REFUSED) is refused
    assert (other.count(0x24) == 0) is refused


COPY = StoreId.of(StoreKind.IMAGE, "one")


def copies(store: bytearray, other: bytearray, *ids: StoreId) -> tuple[Server, Server]:
    """Two servers, each with its own copy of an image that is never written to."""
    one, another = ids
    return Server(0, store, store_id=one), Server(1, other, store_id=another)


@both
def test_copies_of_one_image_need_no_write_but_equal_samples(make: Any) -> None:
    store = content()
    play = Play(make, *copies(store, bytearray(store), COPY, COPY), policy=Policy(require=True))
    owner, other = settled(play)
    assert [(it.proved, it.copy) for it in map(play.path, (owner, other))] == [(True, True)] * 2
    owner.deaf = True
    assert play.read(9000) == store[9000 * SECTOR : 9001 * SECTOR]
    assert play.owner == other.mac
    owner.deaf = False
    owner.restart(77)
    play.run(3000)
    assert [(it.proved, it.copy) for it in map(play.path, (owner, other))] == [(True, True)] * 2


@both
@pytest.mark.parametrize(
    ("ids", "at", "reason"),
    [
        ((COPY, StoreId.of(StoreKind.IMAGE, "two")), None, Reason.OTHER_STORE),
        ((COPY, COPY), 5, Reason.OTHER_DATA),
        ((COPY, NO_STORE_ID), None, Reason.NONE),
        ((COPY, StoreId.of(StoreKind.FILE, "one")), None, Reason.NONE),
    ],
)
def test_what_is_no_copy_of_the_image_proves_nothing(make: Any, ids: Any, at: Any, reason: Reason) -> None:
    store = content()
    other_store = bytearray(store) if at is None else differing(at, store)
    play = Play(make, *copies(store, other_store, *ids))
    _, other = settled(play)
    assert play.path(other).reason is reason
    assert (play.path(other).proved, play.path(other).copy) == (False, False)


# What depends on it


@both
def test_an_owner_that_dies_before_the_proof_is_replaced_as_ever(make: Any) -> None:
    play = Play(make, *two())
    owner, other = settled(play)
    owner.deaf = True
    began = play.now
    play.write(9000, b"w" * SECTOR)
    assert play.now - began < 1500 * MS
    assert play.owner == other.mac
    assert not play.path(other).proved
    owner.deaf = False
    play.run(3000)
    assert play.path(owner)[5:7] == (State.USABLE, Reason.NONE)
    assert not play.path(owner).proved, "what it was compared with is no more"
    play.write(9001, b"w" * SECTOR)
    play.run(20)
    assert (play.path(owner).proved, play.path(other).proved) == (True, True)


@both
def test_another_disk_that_took_over_keeps_the_first_one_out(make: Any) -> None:
    """It is said, as nobody can know any more which of the two is meant."""
    store = content()
    play = Play(make, *two(store, bytearray(store)))
    owner, other = settled(play)
    owner.deaf = True
    play.write(9000, b"w" * SECTOR)
    owner.deaf = False
    play.run(3000)
    for number in range(limits.ECHOES_MAX):
        play.write(7000 + number, b"w" * SECTOR)
        play.run(20)
    assert play.owner == other.mac
    assert play.path(owner)[5:7] == (State.REFUSED, Reason.NOT_SEEN)


@both
@pytest.mark.parametrize("stage", ["before", "writing", "after", "samples"])
def test_an_owner_that_dies_in_the_middle_of_it_holds_up_nothing(make: Any, stage: str) -> None:
    one, other = two()
    play = Play(make, one, other)
    if stage == "samples":
        while not any(server.count(0x24) > 20 for server in (one, other)):
            play.run(1)
    else:
        play.run(500)
    owner, beside = (one, other) if play.owner == one.mac else (other, one)
    reads = beside.count(0x24)
    request = play.start(Verb.WRITE, 9000 * SECTOR, data=b"w" * SECTOR)
    while stage in ("writing", "after") and beside.count(0x24) == reads + (stage == "after"):
        play.run(0.1)
    owner.deaf = True
    began = play.now
    result = play.wait(request)
    assert result is not None
    assert result.outcome is Outcome.OK
    play.write(100, b"v" * SECTOR)
    play.write(9000, b"v" * SECTOR)
    assert play.now - began < 4500 * MS, "the range of what may still be under way opens last"
    assert play.owner == beside.mac
    play.run(5000)
    assert getattr(play.core, "pending", 0) == 0


@both
def test_one_that_must_be_proved_waits(make: Any) -> None:
    play = Play(make, *two(), policy=Policy(require=True))
    owner, other = settled(play)
    owner.deaf = True
    request = play.start(Verb.WRITE, 9000 * SECTOR, data=b"w" * SECTOR)
    assert play.wait(request, 20_000) is None
    assert play.owner == b""
    assert not play.core.switch(play.path(other).number, play.now)
    owner.deaf = False
    result = play.wait(request)
    assert result is not None
    assert result.outcome is Outcome.OK
    play.write(9001, b"w" * SECTOR)
    assert play.run(20).path(other).proved
    owner.deaf = True
    play.write(9002, b"w" * SECTOR)
    assert play.owner == other.mac


@both
def test_reads_are_not_spread_over_an_unproved_server(make: Any) -> None:
    store = content()
    play = Play(make, *two(store, differing(9000, store)), policy=Policy(spread=True))
    _, other = settled(play)
    right = bytes(store[9000 * SECTOR : 9001 * SECTOR])
    reads = other.count(0x24)
    assert {play.read(9000) for _ in range(20)} == {right}
    assert other.count(0x24) == reads
    other.store = store
    play.write(9001, b"w" * SECTOR)
    play.run(20)
    reads = other.count(0x24)
    for _ in range(20):
        play.read(9000)
    assert other.count(0x24) > reads


@both
def test_it_goes_back_only_to_a_proved_server(make: Any) -> None:
    store = content()
    play = Play(make, *two(store), policy=Policy(failback_ns=1000 * MS))
    first, second = play.servers
    play.run(500)
    assert play.owner == first.mac
    first.deaf = True
    play.write(9000, b"w" * SECTOR)
    first.deaf = False
    play.run(10_000)
    assert play.owner == second.mac
    play.write(9001, b"w" * SECTOR)
    play.run(2000)
    assert play.owner == first.mac


@both
def test_an_owner_that_started_again_is_replaced_by_a_proved_server(make: Any) -> None:
    """It may have come back with what it had some time ago: a stale replica."""
    store = content()
    play = Play(make, *two(store))
    owner, other = settled(play)
    play.write(9000, b"new" + bytes(509))
    assert play.run(20).path(other).proved
    owner.store = content()
    owner.restart(77)
    play.arrive(0, owner.advertisement())
    play.run(1)
    play.write(9001, b"w" * SECTOR)
    assert play.owner == other.mac
    assert play.read(9000)[:3] == b"new"
    assert owner.count(0x34) == 1, "what it was asked before"
    play.run(500)
    for number in range(limits.ECHOES_MAX):
        play.write(7000 + number, b"w" * SECTOR)
        play.run(20)
    assert play.path(owner)[5:7] == (State.REFUSED, Reason.NOT_SEEN)
    assert not play.path(owner).proved


@both
def test_an_only_server_that_started_again_goes_on(make: Any) -> None:
    server = Server(0, content())
    play = Play(make, server).run(300)
    server.restart(77)
    play.arrive(0, server.advertisement())
    play.write(9000, b"w" * SECTOR)
    assert play.owner == server.mac
    assert play.path(server).proved


@both
def test_a_proved_server_takes_over_before_one_that_is_not(make: Any) -> None:
    store = content()
    servers = [Server(number, store) for number in range(3)]
    late = servers[0]
    play = Play(make, servers[1], servers[2])
    owner, other = settled(play)
    play.write(9000, b"w" * SECTOR)
    assert play.run(20).path(other).proved
    play.servers.insert(0, late)
    play.arrive(0, late.advertisement())
    play.run(500)
    assert play.path(late).state is State.USABLE
    assert not play.path(late).proved
    owner.deaf = True
    play.write(9001, bytes(play.read(9001)))
    assert play.owner == other.mac


@both
def test_one_that_must_be_proved_goes_on_when_all_have_started_again(make: Any) -> None:
    """Nobody is left who could prove anybody."""
    play = Play(make, *two(), policy=Policy(require=True))
    owner, other = settled(play)
    play.write(9000, b"w" * SECTOR)
    assert play.run(20).path(other).proved
    for server in (owner, other):
        server.deaf = True
    play.run(3000)
    for number, server in enumerate((owner, other)):
        server.restart(70 + number)
        server.deaf = False
    play.run(3000)
    assert play.write(9001, b"w" * SECTOR) is not None
    assert not any(path.proved for path in play.core.paths)
    play.run(500)
    play.write(9002, b"w" * SECTOR)
    play.run(20)
    assert [path.proved for path in play.core.paths] == [True, True]


@both
@pytest.mark.parametrize("how", ["volatile", "other store"])
def test_a_server_that_is_barred_keeps_out_none_that_comes_back(make: Any, how: str) -> None:
    """It cannot take over as long as the proved one may come back, which then must be let in."""
    store, volatile = content(), how == "volatile"
    ids = [NO_STORE_ID] * 2 if volatile else [StoreId.of(StoreKind.FILE, name) for name in ("one", "two")]
    cached = {"cache": volatile, "cache_on": volatile}
    server, late = (Server(number, store, store_id=it, **cached) for number, it in enumerate(ids))
    server.port, late.port = 0, 1
    play = Play(make, server, late, policy=Policy(require=True)).run(2000)
    first = next(it for it in (server, late) if it.mac == play.owner)
    plug = bytes((2, 0, 0, 0, 9, first.port))
    play.core.set_port(first.port, Port(plug, 16, 64, False), play.now)
    writing = play.start(Verb.WRITE, 0, data=b"w" * SECTOR)
    play.arrive(1 - first.port, (late if first is server else server).advertisement())
    play.run(2000)
    assert play.owner == b""
    play.core.set_port(first.port, Port(plug, 16, 64, True), play.now)
    result = play.wait(writing, 20_000)
    assert result is not None
    assert result.outcome is Outcome.OK
    assert play.owner == first.mac
