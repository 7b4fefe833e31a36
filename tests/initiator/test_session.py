"""Which paths there are, which of them carries an operation, and what becomes of it."""

import pytest

from aoe import limits, timing
from aoe.drive import identify
from aoe.drive.identify import Identity
from aoe.initiator.channel import USER_TAG
from aoe.initiator.exchange import Kind
from aoe.initiator.facts import Reason
from aoe.initiator.life import State
from aoe.initiator.path import Answered, Operation, Path, Policy, Port, Settled
from aoe.initiator.session import Session
from aoe.timing import USUAL
from aoe.wire import ata, config, frame, protocol
from aoe.wire.ata import AtaRequest
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import FLAG_RESPONSE, Header
from tests.initiator.play import resealed
from tests.initiator.test_channel import MS, OWN, SERVER, STRANGER, reply

ADDRESS = (7, 3)
PORT = Port(OWN, 16, 64, True)


def identity(serial: str = "S", sectors: int = 2048, **more: int) -> bytes:
    return identify.build(Identity(sectors, serial, frame_age_ms=1000, **more))


def is_probe(session: Session, raw: bytes) -> bool:
    """Whether it asks how large frames may be."""
    return any(path.sizes.asked(int.from_bytes(raw[20:24], "big")) for path in session.paths)


def sent(session: Session) -> list[bytes]:
    """What it has to say, once, but for how large frames may be."""
    out = [raw for _, raw in session.out if not is_probe(session, raw)]
    session.out.clear()
    return out


def pass_probes(session: Session, now: int) -> None:
    """Frames of every size pass."""
    probes = [(port, raw) for port, raw in session.out if is_probe(session, raw)]
    for port, raw in probes:
        session.out.remove((port, raw))
        session.received(port, reply(raw, bytes(512 * raw[26])), now)


def settled(session: Session) -> list[Operation]:
    found = [event.operation for event in session.events if isinstance(event, Settled)]
    session.events.clear()
    return found


def told(query: bytes, src: bytes = SERVER, buffers: int = 64, sectors: int = 16, **fields: object) -> bytes:
    """A config reply."""
    asked = frame.decode(query)
    assert isinstance(asked, Header)
    header = asked._replace(dst=asked.src, src=src, flags=FLAG_RESPONSE)._replace(**fields)
    return frame.encode(header, config.encode(Config(ConfigCommand.READ, b"", buffers, 0, sectors, 1)))


def advertised(src: bytes = SERVER, sectors: int = 16) -> bytes:
    header = Header(b"\xff" * 6, src, 0, FLAG_RESPONSE, 0, *ADDRESS, 1, 0)
    return frame.encode(header, config.encode(Config(ConfigCommand.READ, b"", 64, 0, sectors, 1)))


def make_session(
    window: int = 64, policy: Policy = Policy(), data: bytes = identity()
) -> tuple[Session, Path]:
    """A session whose one path has been looked at and chosen."""
    session = Session(1, [ADDRESS], 1, policy)
    session.set_port(0, PORT, MS)
    (query,) = sent(session)
    session.received(0, told(query, buffers=window), 2 * MS)
    (look,) = sent(session)
    session.received(0, reply(look, data), 3 * MS)
    pass_probes(session, 3 * MS)
    session.tick(3 * MS + USUAL.settle_in_ns)
    (path,) = session.paths
    assert session.owner is path
    assert session.frame(Kind.READS) == session.frame(Kind.CHANGES) == 16
    return session, path


NOW = 3 * MS + USUAL.settle_in_ns


def write(lba: int) -> Operation:
    body = ata.encode(AtaRequest(0x41, 0, 1, 0x34, lba, bytes(512)))
    return Operation(body, kind=Kind.CHANGES, reply_min=36)


def read(lba: int) -> Operation:
    body = ata.encode(AtaRequest(0x40, 0, 1, 0x24, lba))
    return Operation(body, kind=Kind.READS, reply_min=36 + 512, free=True)


# Operations


def test_what_waits_for_the_window_settles_once_when_it_is_abandoned() -> None:
    session, _ = make_session(window=1)
    session.start(write(0), NOW)
    sent(session)
    waiting = write(1)
    session.start(waiting, NOW)
    assert not sent(session)
    session.abandon(waiting, NOW)
    assert settled(session) == [waiting]


def test_what_waits_for_a_path_settles_once_when_it_is_abandoned() -> None:
    session, _ = make_session()
    session.set_port(0, PORT._replace(up=False), NOW)
    waiting = write(0)
    session.start(waiting, NOW)
    assert not sent(session)
    session.abandon(waiting, NOW)
    assert settled(session) == [waiting]


def test_what_was_sent_settles_once_when_nothing_can_come_of_it() -> None:
    session, path = make_session()
    path.channel.drains = False
    operation = write(0)
    session.start(operation, NOW)
    assert sent(session)
    session.abandon(operation, NOW)
    assert settled(session) == []
    session.tick(NOW + 3001 * MS)
    assert settled(session) == [operation]
    session.tick(NOW + 9000 * MS)
    assert settled(session) == []


@pytest.mark.parametrize("kind", ["request", "empty", "runt", "type"])
def test_requests_of_others_and_scraps_are_no_replies(kind: str) -> None:
    session, path = make_session()
    operation = write(0)
    session.start(operation, NOW)
    (raw,) = sent(session)
    whole = reply(raw)
    scraps = {
        "request": raw,
        "empty": b"",
        "runt": whole[:23],
        "type": whole.replace(b"\x88\xa2", b"\x08\x00", 1),
    }
    before = session.counters.copy()
    session.received(0, scraps[kind], NOW + MS)
    assert (session.counters, [*session.events], sent(session)) == (before, [], [])
    assert path.channel.knows(frame.tag_of(raw))
    session.received(0, whole, NOW + 2 * MS)
    assert [type(event) for event in session.events] == [Answered, Settled]


def test_a_reply_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    session, _ = make_session()
    session.start(write(0), NOW)
    (raw,) = sent(session)
    frames = [reply(raw), advertised(), told(raw, tag=0x80000003), reply(raw, tag=0x80000004)]
    decoded = []
    decode = frame.decode
    monkeypatch.setattr(frame, "decode", lambda raw: decoded.append(raw) or decode(raw))
    for one in frames:
        session.received(0, one, NOW + MS)
    assert decoded == frames


def test_what_is_lost_with_a_path_is_not_sent_there_once_more() -> None:
    """What waits for the window must not take the place of what is abandoned."""
    session, _ = make_session(window=1)
    for lba in range(3):
        session.start(write(lba), NOW)
    assert len(sent(session)) == 1
    session.set_port(0, PORT._replace(up=False), NOW)
    assert not sent(session)


# Fate


def test_a_flush_that_comes_behind_settles_what_went_before() -> None:
    session, _ = make_session()
    operation = write(0)
    session.start(operation, NOW)
    session.abandon(operation, NOW)
    sent(session)
    session.tick(NOW + 900 * MS)
    assert not sent(session), "the network may still deliver it"
    session.tick(NOW + 1000 * MS)
    (drain,) = sent(session)
    assert drain[27] == 0xEA
    session.received(0, reply(drain), NOW + 1001 * MS)
    assert settled(session) == [operation]


def test_a_flush_that_fails_settles_nothing() -> None:
    session, _ = make_session()
    operation = write(0)
    session.start(operation, NOW)
    session.abandon(operation, NOW)
    sent(session)
    session.tick(NOW + 1000 * MS)
    (drain,) = sent(session)
    session.received(0, reply(drain, status=0x41), NOW + 1001 * MS)
    assert settled(session) == []
    session.tick(NOW + 3001 * MS)
    assert settled(session) == [operation]


def test_what_is_held_waits_for_its_answer_or_a_fence() -> None:
    session, path = make_session(policy=Policy(hold=True))
    path.channel.drains = False
    first, second = write(0), write(1)
    for operation in (first, second):
        session.start(operation, NOW)
    raw, _ = sent(session)
    session.abandon(first, NOW)
    session.abandon(second, NOW)
    session.tick(NOW + 3600_000 * MS)
    assert settled(session) == []
    session.received(0, reply(raw), NOW + 3600_001 * MS)
    assert settled(session) == [first]
    session.fenced(path, NOW + 3600_002 * MS)
    assert settled(session) == [second]


# Finding paths


def test_it_asks_until_somebody_answers() -> None:
    session = Session(1, [ADDRESS, (8, 0)], 1)
    session.set_port(0, PORT, 0)
    asked = len(sent(session))
    assert asked == 2
    for at in range(0, 3000, 5):
        session.tick(at * MS)
    asked = len(sent(session))
    assert 10 <= asked <= 14, "50 ms, and twice as long each time, up to a second"


def test_a_primary_that_was_away_becomes_a_path_when_it_tells_of_itself() -> None:
    session, _ = make_session()
    session.received(0, advertised(STRANGER), NOW)
    (look,) = sent(session)
    session.received(0, reply(look, identity(), src=STRANGER), NOW)
    assert [path.state for path in session.paths] == [State.USABLE, State.USABLE]


def test_an_answer_to_a_query_that_nobody_asked_is_none() -> None:
    session, _ = make_session()
    (query,) = [told(advertised(), STRANGER, tag=USER_TAG | 12345)]
    session.received(0, query, NOW)
    assert len(session.paths) == 1
    assert session.counters["unknown_tag"] == 1


def test_paths_are_bounded() -> None:
    session, _ = make_session()
    for number in range(100):
        session.received(0, advertised(bytes((2, 1, 1, 1, 1, number))), NOW)
    assert len(session.paths) == limits.PATHS_MAX
    assert session.counters["too_many_paths"] == 101 - limits.PATHS_MAX


def advertise_strangers(session: Session, count: int) -> None:
    for number in range(count):
        session.received(0, advertised(bytes((2, 1, 1, 1, 1, number))), NOW)


def test_paths_that_were_lost_make_room() -> None:
    """However many servers there were over the life of a disk, the next one can be used."""
    session, path = make_session()
    advertise_strangers(session, limits.PATHS_MAX - 1)
    for later in range(NOW, NOW + USUAL.dead_ns + timing.NETWORK_LIFETIME_NS + 100 * MS, 10 * MS):
        path.channel.heard_ns = later
        session.tick(later)
    assert {other.reason for other in session.paths if other is not path} == {Reason.SILENT}
    before = session.counters + path.channel.counters
    sent(session)
    session.received(0, advertised(STRANGER), later)
    (look,) = sent(session)
    session.received(0, reply(look, identity(), src=STRANGER), later)
    assert len(session.paths) == limits.PATHS_MAX
    assert session.owner is path
    usable = [other.channel.peer.mac for other in session.paths if other.state is State.USABLE]
    assert usable == [SERVER, STRANGER]
    assert session.counters + path.channel.counters >= before


def test_a_lost_path_with_a_change_of_unknown_fate_stays() -> None:
    session, path = make_session()
    change = write(7)
    session.start(change, NOW)
    session.abandon(change, NOW)
    session.set_port(0, PORT._replace(up=False), NOW)
    session.set_port(0, PORT, NOW)
    advertise_strangers(session, limits.PATHS_MAX + 10)
    assert len(session.paths) == limits.PATHS_MAX
    assert path in session.paths


def test_one_that_takes_smaller_frames_is_a_path() -> None:
    session, _ = make_session()
    session.received(0, advertised(STRANGER, sectors=2), NOW)
    (look,) = sent(session)
    session.received(0, reply(look, identity(), src=STRANGER), NOW)
    assert [path.state for path in session.paths] == [State.USABLE, State.USABLE]
    assert session.frame(Kind.READS) == 16
    session.switch(session.paths[1], NOW)
    assert session.frame(Kind.READS) == 2


def without_fua_and_flush(data: bytes) -> bytes:
    words = (0x4400).to_bytes(2, "little") + (0x4000).to_bytes(2, "little")
    return resealed(data[:166] + words + data[170:])


def test_the_disk_can_do_what_all_can_who_are_there_when_it_is_opened() -> None:
    """A TRIM that one primary turns into zeroes and the other into nothing in particular is not one."""
    session = Session(1, [ADDRESS], 1)
    session.set_port(0, PORT, MS)
    (query,) = sent(session)
    for src, data in (
        (SERVER, identity(trim_blocks=8, trim_zeroes=True)),
        (STRANGER, without_fua_and_flush(identity(trim_blocks=2))),
    ):
        session.received(0, told(query, src), 2 * MS)
        (look,) = sent(session)
        session.received(0, reply(look, data, src=src), 3 * MS)
    session.tick(3 * MS + USUAL.settle_in_ns)
    assert [path.state for path in session.paths] == [State.USABLE, State.USABLE]
    assert session.chosen
    assert session.facts is not None
    data = session.facts.data
    assert identify.trim_blocks_of(data) == 2
    assert not identify.trims_to_zeroes(data)
    assert not identify.has_fua(data)
    assert identify.flush_of(data) == 0xEA, "what has a cache must still be flushed"


def late_joiner(data: bytes) -> Session:
    """A disk opened with a server that trims to zeroes, and then there is one more."""
    session, _ = make_session(data=identity(trim_blocks=8, trim_zeroes=True))
    session.received(0, advertised(STRANGER), NOW)
    (look,) = sent(session)
    session.received(0, reply(look, data, src=STRANGER), NOW)
    return session


def test_one_whose_trim_leaves_anything_does_not_join_late() -> None:
    """What is under way may be sent there, and nobody would know."""
    session = late_joiner(identity(trim_blocks=8))
    assert [path.reason for path in session.paths] == [Reason.NONE, Reason.NO_ZEROES]


@pytest.mark.parametrize(
    "data",
    [identity(trim_blocks=2, trim_zeroes=True), identity(), identity(trim_blocks=16, trim_zeroes=True)],
    ids=["smaller TRIMs", "no TRIM, as one served read-only", "larger TRIMs"],
)
def test_one_that_refuses_what_it_cannot_do_joins_late(data: bytes) -> None:
    """As a server does that starts again with a smaller MTU, or read-only."""
    session = late_joiner(data)
    assert [path.state for path in session.paths] == [State.USABLE, State.USABLE]


def test_a_refused_path_is_looked_at_again_when_its_server_starts_again() -> None:
    session, _ = make_session()
    session.received(0, advertised(STRANGER), NOW)
    (look,) = sent(session)
    session.received(0, reply(look, identity("T"), src=STRANGER), NOW)
    assert session.paths[1].reason is Reason.OTHER_DISK
    session.received(0, advertised(STRANGER), NOW)
    (look,) = sent(session)
    session.received(0, reply(look, identity(), src=STRANGER), NOW)
    assert session.paths[1].state is State.USABLE


# Choosing paths


def two_paths(policy: Policy = Policy()) -> tuple[Session, Path, Path]:
    """The second one joins later."""
    session, first = make_session(policy=policy)
    session.received(0, advertised(STRANGER), NOW)
    (look,) = sent(session)
    session.received(0, reply(look, identity(), src=STRANGER), NOW)
    return session, first, session.paths[1]


def test_reads_are_spread_but_not_those_that_overlap_a_change() -> None:
    session, _, _ = two_paths(Policy(spread=True))
    for lba in range(4):
        session.start(read(lba), NOW)
    peers = [raw[:6] for raw in sent(session)]
    assert sorted(peers) == [SERVER, SERVER, STRANGER, STRANGER]
    for lba in range(4):
        bound = read(lba)
        bound.free = False
        session.start(bound, NOW)
    assert {raw[:6] for raw in sent(session)} == {SERVER}


def test_it_goes_back_to_the_preferred_path_after_a_stable_time() -> None:
    session, first, second = two_paths(Policy(failback_ns=5000 * MS))
    session.switch(second, NOW)
    session.tick(NOW + 4000 * MS)
    assert session.owner is second
    session.tick(NOW + 5000 * MS)
    assert session.owner is first


def test_without_that_it_stays() -> None:
    session, _, second = two_paths()
    session.switch(second, NOW)
    for second_ in range(10):
        session.tick(NOW + second_ * 1000 * MS)
    assert session.owner is second


def test_an_idle_path_that_falls_silent_is_noticed() -> None:
    session, _, second = two_paths()
    for tick in range(1, 130):
        session.tick(NOW + tick * 100 * MS)
        for raw in sent(session):
            if raw[:6] == SERVER and raw[19] == 0:
                session.received(0, reply(raw, identity()), NOW + tick * 100 * MS)
    assert (second.state, second.reason) == (State.DOWN, Reason.SILENT)


def test_one_that_was_slow_has_to_read_before_it_is_usable() -> None:
    session, first, second = two_paths()
    stuck = read(0)
    session.start(stuck, NOW)
    now = NOW
    while first.state is State.USABLE:
        now += 250 * MS
        session.tick(now)
        for raw in sent(session):
            if raw[19] == 1:
                session.received(0, told(raw, src=raw[:6]), now)
            elif raw[:6] == STRANGER:
                session.received(0, reply(raw, identity()), now)
        assert now < NOW + 20_000 * MS
    assert first.reason is Reason.SLOW
    assert session.owner is second
    while True:
        now += 1000 * MS
        session.tick(now)
        frames = [raw for raw in sent(session) if raw[:6] == SERVER]
        if any(raw[27] == 0x24 for raw in frames if raw[19] == 0):
            break
        for raw in frames:
            if raw[19] == 0 and raw[27] == 0xEC:
                session.received(0, reply(raw, identity()), now)
        assert now < NOW + 60_000 * MS
    assert first.state is State.DOWN
    session.received(0, reply(frames[-1], bytes(512)), now)
    assert first.state is State.USABLE


def test_a_path_whose_frames_became_smaller_is_used() -> None:
    session, path = make_session()
    session.set_port(0, PORT._replace(sectors=2), NOW)
    assert (path.state, path.sectors) == (State.USABLE, 2)
    session.set_port(0, PORT, NOW)
    assert path.sectors == 16


# What the fuzzer found


def test_no_path_is_chosen_by_hand_before_one_is_at_all() -> None:
    session = Session(1, [ADDRESS], 1)
    session.set_port(0, PORT, MS)
    (query,) = sent(session)
    session.received(0, told(query), 2 * MS)
    (look,) = sent(session)
    session.received(0, reply(look, identity()), 3 * MS)
    (path,) = session.paths
    assert path.state is State.USABLE
    assert not session.switch(path, 4 * MS)
    assert session.owner is None


def test_a_disk_larger_than_a_request_can_name_is_none() -> None:
    session = Session(1, [ADDRESS], 1)
    session.set_port(0, PORT, MS)
    (query,) = sent(session)
    session.received(0, told(query), 2 * MS)
    (look,) = sent(session)
    data = bytearray(identity())
    data[200:208] = (protocol.LBA48_SECTORS + 1).to_bytes(8, "little")
    session.received(0, reply(look, resealed(data)), 3 * MS)
    (path,) = session.paths
    assert (path.state, path.reason) == (State.REFUSED, Reason.TOO_LARGE)
    assert session.facts is None
    data[200:208] = protocol.LBA48_SECTORS.to_bytes(8, "little")
    session.tick(4 * MS + USUAL.recheck_ns)
    look = next(raw for raw in sent(session) if raw[19] == 0)
    session.received(0, reply(look, resealed(data)), 5 * MS + USUAL.recheck_ns)
    assert path.state is State.USABLE


def test_what_goes_out_as_a_port_changes_has_its_new_address() -> None:
    session, first, second = two_paths(Policy(spread=True))
    session.start(read(0), NOW)
    session.start(read(1), NOW)
    session.start(read(2), NOW)
    assert {raw[6:12] for raw in sent(session)} == {OWN}
    session.owner = second
    session.set_port(0, PORT._replace(mac=STRANGER, up=False), NOW)
    assert {raw[6:12] for raw in sent(session)} <= {STRANGER}
    assert first.state is second.state is State.DOWN


def test_a_path_that_takes_no_frame_any_more_is_not_chosen() -> None:
    session = Session(2, [ADDRESS], 1)
    for number in range(2):
        session.set_port(number, PORT, MS)
    queries = dict(session.out)
    session.out.clear()
    for number, query in queries.items():
        session.received(number, told(query), 2 * MS)
    for number, look in dict(session.out).items():
        session.received(number, reply(look, identity()), 3 * MS)
    session.set_port(0, PORT._replace(sectors=0), 4 * MS)
    session.tick(NOW)
    assert session.paths[0].reason is Reason.LINK_DOWN
    assert session.owner is session.paths[1]
    assert session.paths[1].sectors == 16


def test_the_end_of_a_check_makes_no_room_on_a_path_that_is_lost() -> None:
    session, _ = make_session(window=1)
    session.start(write(0), NOW)
    session.start(write(1), NOW)
    (first,) = sent(session)
    later = NOW + USUAL.silence_ns
    session.start(write(2), later)
    (look,) = sent(session)
    assert look[27] == 0xEC
    session.received(0, reply(first), later)
    assert not sent(session)
    session.set_port(0, PORT._replace(up=False), later)
    assert not sent(session)


def test_every_flush_that_is_under_way_is_told_of_a_loss() -> None:
    session, _ = make_session()
    session.losses += 1
    began = [(0, 0), (0, 0)]
    assert [session.flushed(it) for it in began] == [False, False]
    assert session.flushed(session.changes())


def test_a_refused_path_is_asked_again_though_its_server_says_nothing() -> None:
    session, _ = make_session()
    session.received(0, advertised(STRANGER), NOW)
    (look,) = sent(session)
    session.received(0, reply(look, identity("T"), src=STRANGER), NOW)
    assert session.paths[1].state is State.REFUSED
    session.tick(NOW + USUAL.query_idle_ns)
    (look,) = [raw for raw in sent(session) if raw[:6] == STRANGER]
    session.received(0, reply(look, identity(), src=STRANGER), NOW + USUAL.query_idle_ns)
    assert session.paths[1].state is State.USABLE
