"""The initiator's side of order rule T9: streams that the server was told of, and what happens without."""

import pytest

from aoe import limits, timing
from aoe.drive import identify as drive_identify
from aoe.initiator.exchange import Kind
from aoe.initiator.life import State
from aoe.initiator.path import Operation, Path, Port
from aoe.initiator.session import Session
from aoe.timing import USUAL
from aoe.wire import ata
from aoe.wire.ata import AtaRequest
from aoe.wire.stamp import Stamp, stamp_of
from tests.initiator.test_channel import MS, OWN, STRANGER, reply
from tests.initiator.test_session import (
    ADDRESS,
    NOW,
    PORT,
    advertised,
    identity,
    read,
    sent,
    settled,
    told,
    write,
)

HEEDS = identity(streams=True)
FULL = drive_identify.without_streams(HEEDS)
OTHER_LIFE = identity(streams=True, instance=5)


def stamps(frames: list[bytes], *opcodes: int) -> list[Stamp | None]:
    """Of the frames with these opcodes."""
    return [stamp_of(raw) for raw in frames if raw[19] == 0 and raw[27] in opcodes]


def asked(session: Session) -> bytes:
    """The one IDENTIFY among what is sent."""
    (raw,) = [raw for raw in sent(session) if raw[19] == 0 and raw[27] == 0xEC]
    return raw


def attached(data: bytes, port: Port = PORT, sectors: int = 16) -> tuple[Session, Path]:
    """A path that was asked once, and got that answer."""
    session = Session(1, [ADDRESS], 1)
    session.set_port(0, port, MS)
    (query,) = sent(session)
    session.received(0, told(query, sectors=sectors), 2 * MS)
    look = asked(session)
    assert stamp_of(look) is None
    session.received(0, reply(look, data), 3 * MS)
    return session, session.paths[0]


def make_stamped_session() -> tuple[Session, Path]:
    """Its server heeds streams, and knows ours."""
    session, path = attached(HEEDS)
    registers = asked(session)
    assert stamp_of(registers) == Stamp(int.from_bytes(registers[34:36], "big"), 0, 0)
    session.received(0, reply(registers, HEEDS), 3 * MS)
    session.tick(NOW)
    assert path.channel.stamp == stamp_of(registers)
    return session, path


def test_a_drain_of_the_next_epoch_settles_at_once() -> None:
    session, path = make_stamped_session()
    operation = write(0)
    session.start(operation, NOW)
    (first,) = sent(session)
    session.abandon(operation, NOW)
    session.tick(NOW + 5 * MS)
    (drain,) = sent(session)
    assert drain[27] == 0xEA
    assert drain[34:36] == first[34:36]
    assert drain[25] == (first[25] + 1) % 256
    session.received(0, reply(drain), NOW + 6 * MS)
    assert settled(session) == [operation]
    later = write(0)
    session.start(later, NOW + 7 * MS)
    (raw,) = sent(session)
    assert raw[25] == drain[25]
    assert path.channel.counters["drains"] == 1


def test_reads_carry_no_stamp() -> None:
    session, _ = make_stamped_session()
    session.start(read(0), NOW)
    (raw,) = sent(session)
    assert (raw[25], raw[34:36], stamp_of(raw)) == (0, b"\0\0", None)


def test_a_server_that_started_again_is_told_of_another_stream() -> None:
    """So that what it might still get of the old one counts for nothing."""
    session, path = make_stamped_session()
    before = path.channel.stamp.stream
    session.received(0, advertised(), NOW)
    waiting = write(0)
    session.start(waiting, NOW)
    look = asked(session)
    assert stamp_of(look) == Stamp(before, 0, 0)
    session.received(0, reply(look, OTHER_LIFE), NOW + MS)
    (registers,) = sent(session)
    registered = stamp_of(registers)
    assert registered is not None
    assert registered == Stamp(registered.stream, 0, 5)
    assert registered.stream != before
    session.received(0, reply(registers, OTHER_LIFE), NOW + 2 * MS)
    (raw,) = sent(session)
    assert raw[27] == 0x34
    assert stamp_of(raw) == registered == path.channel.stamp


def answer_looks(session: Session, data: bytes, now: int) -> list[bytes]:
    """Its server says what it is, and nothing else; the other frames that were sent."""
    frames = sent(session)
    for raw in frames:
        if raw[19] == 0 and raw[27] == 0xEC:
            session.received(0, reply(raw, data), now)
    return [raw for raw in frames if raw[27] != 0xEC]


def renew(session: Session, path: Path) -> tuple[int, list[bytes]]:
    """Let time pass until it takes another stream as its changes are not answered; and what was sent then."""
    before, now = path.channel.stamp.stream, NOW
    while path.channel.stamp.stream == before:
        answer_looks(session, HEEDS, now)
        now += 5 * MS
        session.tick(now)
        assert now < NOW + 4_000 * MS
    return now, sent(session)


def test_a_server_that_forgot_us_is_told_again() -> None:
    """Reads go on, writes are dropped there: it forgot us, or somebody forged a FLUSH of our stream."""
    session, path = make_stamped_session()
    before = path.channel.stamp
    session.start(write(0), NOW)
    now, frames = renew(session, path)
    (registered,) = stamps(frames, 0xEC)
    assert registered is not None
    assert registered.stream not in (0, before.stream)
    assert stamps(frames, 0x34)[-1] is None, "it is served as anybody's is, until the next one is known"
    assert path.renewed == 1
    (registers,) = [raw for raw in frames if raw[27] == 0xEC]
    session.received(0, reply(registers, HEEDS), now)
    assert path.channel.stamp == registered
    session.start(write(8), now)
    assert stamps(sent(session), 0x34) == [registered]


def test_where_the_window_is_full_of_what_is_not_heeded_it_is_told_all_the_same() -> None:
    session, path = make_stamped_session()
    for lba in range(100):
        session.start(write(lba), NOW)
    _, frames = renew(session, path)
    assert len(stamps(frames, 0xEC)) == 1
    again = [raw[28] for raw in frames if raw[27] == 0x34 and stamp_of(raw) is None]
    assert again == sorted(again)
    assert len(again) >= 2


SILENT_NS = 2_400 * MS
"""Longer than a write may wait. The next copies of what is sent would go out a second later."""


def silence(session: Session) -> list[bytes]:
    """What is sent to a server that answers nothing for so long."""
    frames = sent(session)
    for now in range(NOW, NOW + SILENT_NS, 5 * MS):
        session.tick(now)
        frames += sent(session)
    return frames


def told_anew(session: Session, now: int) -> list[Stamp | None]:
    """The server has begun another life: it is told of another stream; of which one the writes are then."""
    session.received(0, reply(asked(session), OTHER_LIFE), now)
    return stamps(sent(session), 0x34)


def test_a_server_that_was_silent_gets_changes_again_as_soon_as_it_speaks() -> None:
    """What waited there was too old, reads were not: nothing is wrong with our stream."""
    session, path = make_stamped_session()
    before = path.channel.stamp
    for lba in range(0, 32, 8):
        session.start(write(lba), NOW)
    session.start(read(64), NOW)
    waited = silence(session)
    assert set(stamps(waited, 0x34)) == {before}
    now = NOW + SILENT_NS
    (asked_last,) = [raw for raw in waited if raw[27] == 0x24][-1:]
    session.received(0, reply(asked_last, bytes(512)), now)
    answer_looks(session, HEEDS, now)
    session.received(0, reply([raw for raw in waited if raw[27] == 0xEC][-1], HEEDS), now)
    session.tick(now + 5 * MS)
    again = [raw for raw in sent(session) if raw[27] == 0x34]
    assert {raw[28] for raw in again} == {0, 8, 16, 24}
    assert set(stamps(again, 0x34)) == {before}
    for raw in again:
        session.received(0, reply(raw), now + 6 * MS)
    session.tick(now + 2_000 * MS)
    assert (path.channel.stamp.stream, path.renewed) == (before.stream, 0)


def test_a_server_that_works_off_what_it_got_again_is_not_blamed() -> None:
    """One change was sent more often than the others while it was silent, and is answered last."""
    session, path = make_stamped_session()
    for lba in range(0, 32, 8):
        session.start(write(lba), NOW)
    now, waited = NOW + SILENT_NS, silence(session)
    session.received(0, reply([raw for raw in waited if raw[27] == 0xEC][-1], OTHER_LIFE), now)
    registers = asked(session)
    session.received(0, reply(registers, OTHER_LIFE), now)
    first, *others, often = [raw for raw in sent(session) if raw[27] == 0x34]
    assert sum(raw[28] == often[28] for raw in waited if raw[27] == 0x34) > limits.STUCK_TRIES
    session.received(0, reply(first), now + MS)
    session.tick(now + 2 * MS)
    for raw in others:
        session.received(0, reply(raw), now + 3 * MS)
    session.tick(now + 4 * MS)
    assert (stamp_of(registers), path.renewed) == (path.channel.stamp, 0)


def test_a_silent_server_is_asked_what_it_is_and_told_anew_if_it_started_again() -> None:
    session, path = make_stamped_session()
    before = path.channel.stamp
    session.start(write(0), NOW)
    waited = silence(session)
    assert set(stamps(waited, 0xEC)) == {before}
    now = NOW + SILENT_NS
    session.received(0, reply([raw for raw in waited if raw[27] == 0xEC][-1], OTHER_LIFE), now)
    assert told_anew(session, now) == [path.channel.stamp], "it goes out at once, as that of the new stream"
    assert path.channel.stamp.stream not in (0, before.stream)
    assert path.renewed == 0


def test_a_server_that_speaks_again_and_still_answers_no_change_is_told_of_another_stream() -> None:
    session, path = make_stamped_session()
    before = path.channel.stamp.stream
    session.start(write(0), NOW)
    now, waited = NOW + SILENT_NS, silence(session)
    session.received(0, reply([raw for raw in waited if raw[27] == 0xEC][-1], HEEDS), now)
    while path.channel.stamp.stream == before:
        answer_looks(session, HEEDS, now)
        now += 5 * MS
        session.tick(now)
        assert now < NOW + SILENT_NS + 2_000 * MS
    assert path.renewed == 1


def test_a_server_that_tells_of_itself_is_asked_at_once_whether_it_started_again() -> None:
    """It drops the changes that are under way there, and no other request may come that would ask."""
    session, path = make_stamped_session()
    session.start(write(0), NOW)
    sent(session)
    session.received(0, advertised(), NOW + MS)
    session.received(0, reply(asked(session), OTHER_LIFE), NOW + 2 * MS)
    assert told_anew(session, NOW + 2 * MS) == [path.channel.stamp]
    assert path.renewed == 0


def test_a_server_that_tells_of_itself_is_asked_again_what_its_last_life_has_lost() -> None:
    """The next copy of the question would go out a second later."""
    session, path = make_stamped_session()
    session.start(write(0), NOW)
    silence(session)
    session.received(0, advertised(), NOW + SILENT_NS)
    look = asked(session)
    session.received(0, reply(look, OTHER_LIFE), NOW + SILENT_NS)
    assert told_anew(session, NOW + SILENT_NS) == [path.channel.stamp]


def test_a_server_that_tells_of_itself_is_not_asked_twice_at_once() -> None:
    session, _ = make_stamped_session()
    session.start(write(0), NOW)
    silence(session)
    session.received(0, advertised(), NOW + SILENT_NS)
    asked(session)
    session.received(0, advertised(), NOW + SILENT_NS + MS)
    assert not sent(session)


def test_a_server_is_told_when_we_have_another_mac() -> None:
    session, _ = make_stamped_session()
    session.set_port(0, PORT._replace(mac=STRANGER), NOW)
    (registers,) = sent(session)
    assert (registers[6:12], registers[27]) == (STRANGER, 0xEC)


def test_a_write_sent_under_two_streams_is_settled_by_time_only() -> None:
    session, path = make_stamped_session()
    operation = write(0)
    session.start(operation, NOW)
    path.channel.stamp = path.channel.new_stream(0)
    session.tick(NOW + 400 * MS)
    session.abandon(operation, NOW + 400 * MS)
    sent(session)
    session.tick(NOW + 405 * MS)
    assert not [raw for raw in sent(session) if raw[27] == 0xEA]
    session.tick(NOW + 1400 * MS)
    (drain,) = [raw for raw in sent(session) if raw[27] == 0xEA]
    session.received(0, reply(drain), NOW + 1401 * MS)
    assert settled(session) == [operation]


def test_after_a_change_of_mac_no_epoch_vouches_for_what_went_before() -> None:
    """To the server the old address is somebody else, whose epochs nobody ends."""
    session, path = make_stamped_session()
    before = path.channel.stamp.stream
    operation = write(0)
    session.start(operation, NOW)
    sent(session)
    session.set_port(0, PORT._replace(mac=STRANGER), NOW)
    (registers,) = sent(session)
    assert registers[34:36] != before.to_bytes(2, "big")
    session.received(0, reply(registers, HEEDS), NOW)
    session.abandon(operation, NOW)
    sent(session)
    session.tick(NOW + 50 * MS)
    assert not [raw for raw in sent(session) if raw[27] == 0xEA]
    assert settled(session) == []


def test_another_process_does_not_speak_for_what_the_one_before_had_begun() -> None:
    session, _ = make_stamped_session()
    operation = write(0)
    session.start(operation, NOW)
    session.abandon(operation, NOW)
    session.received(0, advertised(), NOW)
    session.start(write(8), NOW)
    now = NOW
    for _ in range(2):  # it is looked at, and told of another stream
        (look,) = [raw for raw in sent(session) if raw[27] == 0xEC]
        session.received(0, reply(look, OTHER_LIFE), now)
    while now < NOW + 2900 * MS:
        now += 5 * MS
        session.tick(now)
        for raw in sent(session):
            if raw[19] == 0 and raw[27] != 0xEC:
                session.received(0, reply(raw), now)
    assert operation not in settled(session)
    session.tick(NOW + 3100 * MS)
    assert operation in settled(session)


def flush_body() -> Operation:
    return Operation(ata.encode(AtaRequest(0, 0, 0, 0xEA, 0)), kind=Kind.SYNCS, reply_min=36)


def test_a_flush_says_whose_it_is_so_that_another_process_does_not_answer_it() -> None:
    session, path = make_stamped_session()
    session.start(flush_body(), NOW)
    (raw,) = sent(session)
    assert raw[34:36] == path.channel.stamp.stream.to_bytes(2, "big")


def test_a_flush_that_was_sent_with_and_without_a_stream_ends_no_epoch() -> None:
    """The answer may be to the one that carried none, which says nothing of epochs."""
    session, path = make_stamped_session()
    operation = write(0)
    session.start(operation, NOW)
    session.abandon(operation, NOW)
    session.tick(NOW + 5 * MS)
    (drain,) = [raw for raw in sent(session) if raw[27] == 0xEA]
    path.channel.stamp = Stamp(0, 0, 0)
    session.tick(NOW + 400 * MS)
    (again,) = [raw for raw in sent(session) if raw[27] == 0xEA]
    assert (stamp_of(drain) is None, stamp_of(again) is None) == (False, True)
    session.received(0, reply(again), NOW + 401 * MS)
    assert settled(session) == []


# Who does without


def test_the_bit_of_the_version_before_is_not_trusted() -> None:
    """Its fences are not what they were said to be."""
    data = bytearray(identity())
    data[2 * 138] |= 1
    data[511] = -sum(data[:511]) & 0xFF
    session, path = attached(bytes(data))
    assert path.state is State.USABLE
    assert not sent(session)
    session.tick(NOW)
    session.start(write(0), NOW)
    assert stamps(sent(session), 0x34) == [None]


def full_server() -> tuple[Session, Path, int]:
    """It heeds streams, and has no place for ours."""
    session, path = attached(HEEDS)
    session.received(0, reply(asked(session), FULL), 3 * MS)
    assert path.state is State.USABLE
    session.tick(NOW)
    return session, path, 3 * MS


def test_a_server_without_a_place_for_us_is_used_and_asked_again_every_few_seconds() -> None:
    session, path, refused = full_server()
    session.start(write(0), NOW)
    (raw,) = sent(session)
    assert stamp_of(raw) is None
    session.received(0, reply(raw), NOW)
    at, registrations = refused, []
    while len(registrations) < 3:
        at += 5 * MS
        session.tick(at)
        for look in [raw for raw in sent(session) if raw[27] == 0xEC]:
            registrations.append((at - refused, stamp_of(look)))
            refused = at
            session.received(0, reply(look, FULL if len(registrations) < 3 else HEEDS), at)
    assert {waited for waited, _ in registrations} <= {USUAL.stream_again_ns + n * MS for n in range(6)}
    assert len({stamp for _, stamp in registrations} - {None}) == 3, (
        "each time another one: none is half known"
    )
    assert path.channel.stamp == registrations[-1][1]
    session.start(write(0), at)
    assert stamps(sent(session), 0x34) == [path.channel.stamp]


def test_without_a_stream_an_abandoned_write_waits_out_its_time() -> None:
    session, _, _ = full_server()
    operation = write(0)
    session.start(operation, NOW)
    session.abandon(operation, NOW)
    sent(session)
    session.tick(NOW + 50 * MS)
    assert not [raw for raw in sent(session) if raw[27] == 0xEA]
    session.tick(NOW + timing.NETWORK_LIFETIME_NS)
    (drain,) = [raw for raw in sent(session) if raw[27] == 0xEA]
    session.received(0, reply(drain), NOW + timing.NETWORK_LIFETIME_NS + MS)
    assert settled(session) == [operation]


def test_a_server_that_lost_our_place_gets_what_is_open_again_at_once() -> None:
    """What had been sent under the stream is dropped there now."""
    session, path = make_stamped_session()
    session.received(0, advertised(), NOW)
    session.start(write(0), NOW)
    session.received(0, reply(asked(session), HEEDS), NOW)
    (first,) = sent(session)
    assert stamp_of(first) == path.channel.stamp
    later = NOW + USUAL.silence_ns
    session.start(write(8), later)
    session.received(0, reply(asked(session), FULL), later)
    assert path.channel.stamp.stream == 0
    assert stamps(sent(session), 0x34) == [None, None]


def test_the_answer_of_another_life_tells_that_our_stream_is_unknown() -> None:
    """Even if its reply has the bit: it was asked to know a stream of the life before."""
    session, path = attached(HEEDS)
    session.received(0, reply(asked(session), OTHER_LIFE), 4 * MS)
    assert path.channel.stamp.stream == 0
    registers = asked(session)
    registered = stamp_of(registers)
    assert registered is not None
    assert registered.instance == 5
    session.received(0, reply(registers, OTHER_LIFE), 5 * MS)
    assert path.channel.stamp == registered


@pytest.mark.parametrize(("own", "told_sectors"), [(1, 16), (16, 1)])
def test_where_only_one_sector_fits_there_may_be_no_room_for_a_trailer(own: int, told_sectors: int) -> None:
    session, path = attached(HEEDS, Port(OWN, own, 64, True), told_sectors)
    assert path.state is State.USABLE
    assert not sent(session)
    session.tick(NOW + 10_000 * MS)
    assert path.channel.stamp.stream == 0


def test_frames_that_become_that_small_have_no_trailer_any_more() -> None:
    session, path = make_stamped_session()
    path.sectors = 1
    session.tick(NOW + 5 * MS)
    session.start(write(0), NOW + 5 * MS)
    assert stamps(sent(session), 0x34) == [None]


def test_identify_of_the_user_changes_nothing() -> None:
    session, path = make_stamped_session()
    stamp = path.channel.stamp
    session.identified(path, reply(write_raw(), HEEDS), Stamp(0, 0, 0), NOW)
    assert path.channel.stamp == stamp
    assert not sent(session)


def write_raw() -> bytes:
    session, _ = make_stamped_session()
    session.start(write(0), NOW)
    (raw,) = sent(session)
    return raw


def test_a_trailer_stands_behind_the_data_and_names_the_server() -> None:
    raw = write_raw()
    assert len(raw) == 36 + 512 + 12
    assert raw[-12:-8] == bytes.fromhex("d31fb64a")
    assert raw[-8:] == HEEDS[268:276]
