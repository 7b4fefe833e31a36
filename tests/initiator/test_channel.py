"""One server is asked: tags, copies and their fate, retransmission, the window. Time is a number here."""

import random

import pytest

from aoe import limits
from aoe.initiator.channel import USER_TAG, Channel
from aoe.initiator.exchange import Answered, Effect, Exchange, Kind, Peer, Settled, Transmit
from aoe.timing import USUAL
from aoe.wire import ata, frame, protocol
from aoe.wire.ata import AFLAG_EXTENDED, AFLAG_WRITE, AtaReply, AtaRequest
from aoe.wire.frame import FLAG_ERROR, FLAG_RESPONSE, Command, Header

OWN, SERVER, STRANGER = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", b"\2\0\0\0\0\3"
MS = 1_000_000
QUIESCE_NS = 3000 * MS
DATA = b"\xa5" * 512


def make_path(window_max: int = 64, first_tag: int = 5) -> Channel:
    peer = Peer(OWN, SERVER, 7, 3)
    return Channel(peer, window_max=window_max, first_tag=first_tag, quiesce_ns=QUIESCE_NS)


def read(lba: int = 0) -> Exchange:
    request = AtaRequest(AFLAG_EXTENDED, 0, 1, 0x24, lba)
    return Exchange(Command.ATA, ata.encode(request), reply_min=protocol.ATA_HEADER + 512)


def write(lba: int = 0, data: bytes = DATA) -> Exchange:
    request = AtaRequest(AFLAG_EXTENDED | AFLAG_WRITE, 0, 1, 0x34, lba, data)
    return Exchange(Command.ATA, ata.encode(request), kind=Kind.CHANGES, reply_min=protocol.ATA_HEADER)


def busy(channel: Channel) -> bool:
    """Whether anything of it is open or of unknown fate."""
    return bool(channel.load or channel._tags)


def frames(effects: list[Effect]) -> list[bytes]:
    return [effect.frame for effect in effects if isinstance(effect, Transmit)]


def sent(effects: list[Effect]) -> bytes:
    (raw,) = frames(effects)
    return raw


def reply(request: bytes, data: bytes = b"", status: int = 0x40, **fields: object) -> bytes:
    """What a target says to a frame."""
    asked = frame.decode(request)
    assert isinstance(asked, Header)
    header = asked._replace(dst=asked.src, src=asked.dst, flags=FLAG_RESPONSE)._replace(**fields)
    registers = ata.decode_request(request)
    assert isinstance(registers, AtaRequest)
    return frame.encode(header, ata.encode(AtaReply(registers.aflags, 0, 0, status, registers.lba, data)))


def received(channel: Channel, raw: bytes, now: int) -> list[Effect]:
    """What a channel does about a frame, which its session has decoded."""
    header = frame.decode(raw)
    assert isinstance(header, Header)
    return channel.received(header, raw, now)


def answered(effects: list[Effect]) -> list[Exchange]:
    return [effect.exchange for effect in effects if isinstance(effect, Answered)]


def settled(effects: list[Effect]) -> list[Exchange]:
    return [effect.exchange for effect in effects if isinstance(effect, Settled)]


def warm(channel: Channel, rtt_ns: int, requests: int = 32, now: int = 0) -> int:
    """Some requests that are answered as they should be; the time afterwards."""
    for _ in range(requests):
        for exchange in (read(), write()):
            raw = sent(channel.start(exchange, now))
            now += rtt_ns
            received(channel, reply(raw, DATA), now)
    return now


# Copies


def test_every_transmission_has_a_tag_of_its_own_and_the_same_bytes() -> None:
    channel, exchange = make_path(), write(9)
    copies = [sent(channel.start(exchange, 0))]
    copies += [sent(channel.tick(at * 300 * MS)) for at in (1, 2, 4)]
    tags = [int.from_bytes(raw[20:24], "big") for raw in copies]
    assert len(set(tags)) == 4
    assert all(tag & USER_TAG for tag in tags), "the Linux driver would take the replies for its own"
    assert len({raw[:20] + raw[24:] for raw in copies}) == 1
    assert copies[0][:24] == bytes.fromhex("020000000002 020000000001 88a2 10 00 0007 03 00 80000006")


def test_any_copy_may_be_answered_but_only_one_answer_counts() -> None:
    channel, exchange = make_path(), write()
    first = sent(channel.start(exchange, 0))
    second = sent(channel.tick(100 * MS))
    effects = received(channel, reply(first), 101 * MS)
    assert (answered(effects), settled(effects)) == ([exchange], [])
    effects = received(channel, reply(second), 102 * MS)
    assert (answered(effects), settled(effects)) == ([], [exchange])
    assert channel.counters == {"retransmits": 1, "late_replies": 1}
    assert not busy(channel)


def test_a_request_that_was_sent_once_is_settled_by_its_answer() -> None:
    channel, exchange = make_path(), write()
    effects = received(channel, reply(sent(channel.start(exchange, 0))), MS)
    assert (answered(effects), settled(effects)) == ([exchange], [exchange])
    assert not busy(channel)


def test_what_is_never_answered_settles_when_its_last_copy_can_do_nothing_any_more() -> None:
    channel, exchange = make_path(), write()
    channel.start(exchange, 0)
    second = sent(channel.tick(100 * MS))
    received(channel, reply(second), 101 * MS)
    assert settled(channel.tick(100 * MS + QUIESCE_NS - 1)) == []
    assert settled(channel.tick(100 * MS + QUIESCE_NS + USUAL.sweep_ns)) == [exchange]
    assert not busy(channel)


def test_what_was_abandoned_settles_likewise() -> None:
    channel, exchange = make_path(), write()
    channel.start(exchange, 0)
    assert settled(channel.abandon(exchange, MS)) == []
    assert frames(channel.tick(QUIESCE_NS - 1)) == [], "nobody wants an answer any more"
    assert settled(channel.tick(QUIESCE_NS + USUAL.sweep_ns)) == [exchange]


def test_what_was_abandoned_before_it_was_sent_is_settled_at_once() -> None:
    channel = make_path(window_max=1)
    channel.start(write(0), 0)
    waiting = write(1)
    assert channel.start(waiting, 0) == []
    assert channel.abandon(waiting, 0) == [Settled(waiting)]


def test_an_open_request_is_answered_however_late() -> None:
    """A disk that takes a minute to spin up is slow, not dead."""
    channel, exchange = make_path(), read()
    first = sent(channel.start(exchange, 0))
    for second in range(1, 60):
        channel.tick(second * 1000 * MS)
    assert answered(received(channel, reply(first, DATA), 60_000 * MS)) == [exchange]


def test_copies_are_bounded_however_long_nobody_answers() -> None:
    channel, exchange = make_path(), write()
    channel.start(exchange, 0)
    last = b""
    for at in range(0, 3_600_000, 100):
        for raw in frames(channel.tick(at * MS)):
            last = raw
    assert len(exchange.copies) == len(channel._tags) == limits.COPIES_MAX
    assert answered(received(channel, reply(last), 3_600_000 * MS)) == [exchange]
    assert settled(channel.tick(3_610_000 * MS)) == [exchange]
    assert not channel._tags


# What is no reply


@pytest.mark.parametrize(
    "fields",
    [{"src": STRANGER}, {"shelf": 8}, {"slot": 4}, {"command": 1}, {"tag": 5}, {"tag": 0}],
    ids=lambda fields: next(iter(fields)),
)
def test_a_reply_that_does_not_fit_has_no_effect(fields: dict[str, object]) -> None:
    channel, exchange = make_path(), read()
    raw = sent(channel.start(exchange, 0))
    assert received(channel, reply(raw, DATA, **fields), MS) == []
    assert sum(channel.counters.values()) == 1
    assert answered(received(channel, reply(raw, DATA), 2 * MS)) == [exchange]


def test_a_read_is_not_answered_by_less_than_it_asked_for() -> None:
    channel, exchange = make_path(), read()
    raw = sent(channel.start(exchange, 0))
    assert received(channel, reply(raw, DATA[:-1]), MS) == []
    assert channel.counters == {"unfit_reply": 1}
    assert answered(received(channel, reply(raw, DATA + b"trailing"), 2 * MS)) == [exchange]


@pytest.mark.parametrize("shape", ["ata", "aoe", "bare"])
def test_an_error_is_an_answer_however_short(shape: str) -> None:
    channel, exchange = make_path(), read()
    raw = sent(channel.start(exchange, 0))
    aoe_error = {"flags": FLAG_RESPONSE | FLAG_ERROR, "error": 6}
    error = reply(raw, status=0x41) if shape == "ata" else reply(raw, **aoe_error)
    assert answered(received(channel, error[:24] if shape == "bare" else error, MS)) == [exchange]


def test_guessed_tags_hit_nothing() -> None:
    """A million guesses at 64 of 2^31 tags hit 0.03 times; with this seed, not once."""
    channel, rng = make_path(first_tag=random.Random(2).getrandbits(31)), random.Random(1)
    warm(channel, MS, 64)
    requests = [raw for lba in range(64) for raw in frames(channel.start(read(lba), 10**12))]
    assert len(requests) == 64
    forged = bytearray(reply(requests[0], bytes(512)))
    for _ in range(1_000_000):
        forged[20:24] = (USER_TAG | rng.getrandbits(31)).to_bytes(4, "big")
        assert received(channel, bytes(forged), 10**12 + MS) == []
    assert channel.counters["unknown_tag"] == 1_000_000


# When it is sent again


def test_the_first_wait_is_short_and_doubles_up_to_a_bound() -> None:
    channel = make_path()
    channel.start(read(), 0)
    times = [at for at in range(0, 20_000, 5) if frames(channel.tick(at * MS))]
    waits = [later - earlier for earlier, later in zip([0, *times], times, strict=False)]
    assert waits[:5] == [100, 200, 400, 800, 1600]
    assert set(waits[5:]) == {USUAL.rto_max_ns // MS}


def test_afterwards_the_wait_follows_the_round_trip_time() -> None:
    channel = make_path()
    now = warm(channel, 20 * MS)
    channel.start(read(), now)
    assert not frames(channel.tick(now + 19 * MS))
    assert frames(channel.tick(now + 25 * MS))


def test_it_is_never_shorter_than_the_bound_where_nothing_tells_of_a_loss() -> None:
    channel = make_path()
    now = warm(channel, MS // 10)
    channel.start(read(), now)
    assert not frames(channel.tick(now + USUAL.rto_min_ns - 1))
    assert frames(channel.tick(now + USUAL.rto_min_ns))


def test_what_later_requests_have_overtaken_is_sent_again_early() -> None:
    channel = make_path()
    now = warm(channel, MS // 10)
    lost, later = read(1), read(2)
    channel.start(lost, now)
    second = sent(channel.start(later, now + MS // 5))
    effects = received(channel, reply(second, DATA), now + 3 * MS // 10)
    assert answered(effects) == [later]
    assert len(frames(effects)) == 1, "not after RTO_MIN: it was overtaken"


def test_a_target_that_answers_out_of_order_earns_patience() -> None:
    """Otherwise every slow read of a disk with a cache would be sent twice."""
    channel = make_path()
    now = warm(channel, MS // 10, 200)
    doubled = []
    for _ in range(8):
        before = channel.counters["retransmits"]
        slow, quick = read(1), read(2)
        first = sent(channel.start(slow, now))
        second = sent(channel.start(quick, now + 1))
        received(channel, reply(second, DATA), now + MS // 5)
        channel.tick(now + 4 * MS // 5)
        received(channel, reply(first, DATA), now + MS)
        doubled.append(channel.counters["retransmits"] - before)
        now += 2 * MS
    assert doubled[0] == 1
    assert doubled[-1] == 0


def pause(channel: Channel, now: int, requests: int, lasts_ns: int) -> int:
    """Requests to a server that pauses and then answers all; how often one was sent again."""
    before = channel.counters["retransmits"]
    copies = [raw for lba in range(requests) for raw in frames(channel.start(read(lba), now))]
    assert len(copies) == requests
    for at in range(now, now + lasts_ns, USUAL.rto_min_ns):
        copies += frames(channel.tick(at))
    for raw in copies:
        received(channel, reply(raw, DATA), now + lasts_ns)
    return channel.counters["retransmits"] - before


@pytest.mark.parametrize(("lasts_ms", "most", "window"), [(9, 1, 64), (50, 3, 64), (1000, 8, 2)])
def test_a_server_that_pauses_is_not_asked_again_for_all_that_it_has(
    lasts_ms: int, most: int, window: int
) -> None:
    """It may have lost its processor for some milliseconds; nothing tells that anything else was lost."""
    channel = make_path()
    now = grown(channel)
    assert 1 <= pause(channel, now, 64, lasts_ms * MS) <= most
    assert channel.window.size >= window


def test_a_server_that_pauses_often_and_loses_nothing_is_not_asked_again_at_all() -> None:
    channel = make_path()
    now = grown(channel)
    again = []
    for _ in range(8):
        again.append(pause(channel, now, 64, 20 * MS))
        now = warm(channel, MS // 10, 64, now + 20 * MS)
    assert again[0] > 0
    assert again[3:] == [0] * 5


def test_after_a_pause_what_is_lost_is_waited_for_no_longer_than_a_round_trip() -> None:
    """Copies that only time asked for tell nothing of a network that changes the order of frames."""
    channel = make_path()
    now = grown(channel)
    assert pause(channel, now, 64, 300 * MS) > 3
    now = warm(channel, MS // 10, 16, now + 300 * MS)
    channel.start(read(1), now)
    later = sent(channel.start(read(2), now + 1))
    assert frames(received(channel, reply(later, DATA), now + MS // 10)) == []
    usual_ns = channel._lanes[Kind.READS].rtt.usual_ns
    assert frames(channel.tick(now + usual_ns - MS)) == []
    assert len(frames(channel.tick(now + usual_ns))) == 1


def test_where_frames_are_lost_the_wait_becomes_short_again() -> None:
    channel = make_path()
    now = grown(channel)
    for _ in range(4):
        pause(channel, now, 64, 45 * MS)
        now = warm(channel, MS // 10, 64, now + 50 * MS)
    waits = []
    for _ in range(4):
        channel.start(read(), now)
        waits.append(next(ms for ms in range(1, 100) if (again := frames(channel.tick(now + ms * MS)))))
        now += 200 * MS
        received(channel, reply(again[0], DATA), now)
        now = warm(channel, MS // 10, 64, now)
    assert waits[0] == USUAL.rto_calm_ns // MS
    assert waits[-1] == USUAL.rto_min_ns // MS


def test_all_that_was_lost_is_sent_again_as_soon_as_one_copy_is_answered() -> None:
    channel = make_path()
    now = grown(channel)
    for lba in range(64):
        channel.start(read(lba), now)
    probe = sent(channel.tick(now + USUAL.rto_min_ns))
    assert frames(channel.tick(now + USUAL.rto_min_ns + MS)) == []
    again = frames(received(channel, reply(probe, DATA), now + USUAL.rto_min_ns + 2 * MS))
    assert len(again) == 63


def test_changes_that_nobody_answers_are_noticed_however_many_there_are() -> None:
    """Their server may have forgotten who sends them."""
    noticed = []
    for changes in (1, 8):
        channel = make_path()
        for lba in range(changes):
            channel.start(write(lba), 0)
        times = (ms for ms in range(5, 10_000, 5) if channel.tick(ms * MS) and channel.stuck)
        noticed.append(next(times))
    assert noticed[0] == noticed[1]


def test_slow_writes_do_not_slow_down_the_resending_of_reads() -> None:
    channel = make_path()
    now = 0
    for _ in range(64):
        raw = sent(channel.start(write(), now))
        now += 500 * MS
        received(channel, reply(raw), now)
    now += warm(channel, MS)
    channel.start(read(), now)
    assert frames(channel.tick(now + 200 * MS))


# The window


def test_no_more_than_the_window_is_outstanding_and_the_rest_follows() -> None:
    channel = make_path(window_max=4)
    exchanges = [read(lba) for lba in range(20)]
    flying = [raw for exchange in exchanges for raw in frames(channel.start(exchange, 0))]
    done = []
    while flying:
        assert channel.outstanding <= 4
        effects = received(channel, reply(flying.pop(0), DATA), MS)
        done += answered(effects)
        flying += frames(effects)
    assert done == exchanges


def grown(channel: Channel) -> int:
    now = warm(channel, MS, 64)
    assert channel.window.size == 64
    return now


def test_isolated_losses_leave_the_window_alone() -> None:
    channel = make_path()
    now = grown(channel)
    for _ in range(50):
        exchange = read()
        channel.start(exchange, now)
        second = sent(channel.tick(now + 50 * MS))
        received(channel, reply(second, DATA), now + 51 * MS)
        now += 100 * MS
    assert channel.window.size == 64


def test_losing_much_of_a_round_halves_it_once() -> None:
    channel = make_path()
    now = grown(channel)
    for lba in range(63):
        channel.start(read(lba), now)
    last = sent(channel.start(read(63), now + 1))
    assert len(frames(received(channel, reply(last, DATA), now + MS + 1))) == 63
    assert channel.window.size == 32


def test_it_never_falls_below_what_keeps_requests_going() -> None:
    channel = make_path()
    for lba in range(64):
        channel.start(read(lba), 0)
    for second in range(1, 60):
        channel.tick(second * 1000 * MS)
    assert channel.window.size == limits.WINDOW_MIN
    assert make_path(window_max=1).window.size == 1


# The round trip that is shown


def asked(channel: Channel, count: int, now: int) -> list[bytes]:
    """Reads under way at a time."""
    return [sent(channel.start(read(lba), now)) for lba in range(0, 8 * count, 8)]


def test_a_pause_of_the_server_is_no_round_trip() -> None:
    """All that waited is answered at once when it goes on."""
    channel = make_path()
    now = warm(channel, 1 * MS)
    for pause_ms in (300, 2000):
        waiting = asked(channel, 8, now)
        now += pause_ms * MS
        for raw in waiting:
            received(channel, reply(raw, DATA), now)
        assert channel.rtt_ns == 1 * MS
        now = warm(channel, 1 * MS, 2, now)
    assert channel.rtt_ns == 1 * MS


def test_a_pause_is_none_when_others_are_answered_meanwhile() -> None:
    channel = make_path()
    now = warm(channel, 1 * MS)
    (slow,) = asked(channel, 1, now)
    now = warm(channel, 1 * MS, 64, now)
    received(channel, reply(slow, DATA), now)
    assert channel.rtt_ns > 8 * MS


def test_a_path_that_is_slow_from_now_on_is_shown_so() -> None:
    channel = make_path()
    now = warm(channel, 1 * MS)
    warm(channel, 40 * MS, 64, now)
    assert channel.rtt_ns > 38 * MS
