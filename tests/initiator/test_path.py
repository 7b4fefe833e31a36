"""One way to a target: tags, copies and their fate, retransmission, the window. Time is a number here."""

import random

import pytest

from aoe import limits
from aoe.initiator.exchange import Answered, Effect, Exchange, Kind, Peer, Settled, Transmit
from aoe.initiator.path import USER_TAG, Path
from aoe.timing import USUAL
from aoe.wire import ata, frame, protocol
from aoe.wire.ata import AFLAG_EXTENDED, AFLAG_WRITE, AtaReply, AtaRequest
from aoe.wire.frame import FLAG_ERROR, FLAG_RESPONSE, Command, Header

OWN, SERVER, STRANGER = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2", b"\2\0\0\0\0\3"
MS = 1_000_000
QUIESCE_NS = 3000 * MS
DATA = b"\xa5" * 512


def make_path(window_max: int = 64, first_tag: int = 5) -> Path:
    peer = Peer(OWN, SERVER, 7, 3)
    return Path(peer, window_max=window_max, first_tag=first_tag, quiesce_ns=QUIESCE_NS)


def read(lba: int = 0) -> Exchange:
    request = AtaRequest(AFLAG_EXTENDED, 0, 1, 0x24, lba)
    return Exchange(Command.ATA, ata.encode(request), reply_min=protocol.ATA_HEADER + 512)


def write(lba: int = 0, data: bytes = DATA) -> Exchange:
    request = AtaRequest(AFLAG_EXTENDED | AFLAG_WRITE, 0, 1, 0x34, lba, data)
    return Exchange(Command.ATA, ata.encode(request), kind=Kind.CHANGES, reply_min=protocol.ATA_HEADER)


def busy(path: Path) -> bool:
    """Whether anything of it is open or of unknown fate."""
    return bool(path.load or path._tags)


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


def received(path: Path, raw: bytes, now: int) -> list[Effect]:
    """What a path does about a frame, which its session has decoded."""
    header = frame.decode(raw)
    assert isinstance(header, Header)
    return path.received(header, raw, now)


def answered(effects: list[Effect]) -> list[Exchange]:
    return [effect.exchange for effect in effects if isinstance(effect, Answered)]


def settled(effects: list[Effect]) -> list[Exchange]:
    return [effect.exchange for effect in effects if isinstance(effect, Settled)]


def warm(path: Path, rtt_ns: int, requests: int = 32, now: int = 0) -> int:
    """Some requests that are answered as they should be; the time afterwards."""
    for _ in range(requests):
        for exchange in (read(), write()):
            raw = sent(path.start(exchange, now))
            now += rtt_ns
            received(path, reply(raw, DATA), now)
    return now


# Copies


def test_every_transmission_has_a_tag_of_its_own_and_the_same_bytes() -> None:
    path, exchange = make_path(), write(9)
    copies = [sent(path.start(exchange, 0))]
    copies += [sent(path.tick(at * 300 * MS)) for at in (1, 2, 4)]
    tags = [int.from_bytes(raw[20:24], "big") for raw in copies]
    assert len(set(tags)) == 4
    assert all(tag & USER_TAG for tag in tags), "the Linux driver would take the replies for its own"
    assert len({raw[:20] + raw[24:] for raw in copies}) == 1
    assert copies[0][:24] == bytes.fromhex("020000000002 020000000001 88a2 10 00 0007 03 00 80000006")


def test_any_copy_may_be_answered_but_only_one_answer_counts() -> None:
    path, exchange = make_path(), write()
    first = sent(path.start(exchange, 0))
    second = sent(path.tick(100 * MS))
    effects = received(path, reply(first), 101 * MS)
    assert (answered(effects), settled(effects)) == ([exchange], [])
    effects = received(path, reply(second), 102 * MS)
    assert (answered(effects), settled(effects)) == ([], [exchange])
    assert path.counters == {"retransmits": 1, "late_replies": 1}
    assert not busy(path)


def test_a_request_that_was_sent_once_is_settled_by_its_answer() -> None:
    path, exchange = make_path(), write()
    effects = received(path, reply(sent(path.start(exchange, 0))), MS)
    assert (answered(effects), settled(effects)) == ([exchange], [exchange])
    assert not busy(path)


def test_what_is_never_answered_settles_when_its_last_copy_can_do_nothing_any_more() -> None:
    path, exchange = make_path(), write()
    path.start(exchange, 0)
    second = sent(path.tick(100 * MS))
    received(path, reply(second), 101 * MS)
    assert settled(path.tick(100 * MS + QUIESCE_NS - 1)) == []
    assert settled(path.tick(100 * MS + QUIESCE_NS + USUAL.sweep_ns)) == [exchange]
    assert not busy(path)


def test_what_was_abandoned_settles_likewise() -> None:
    path, exchange = make_path(), write()
    path.start(exchange, 0)
    assert settled(path.abandon(exchange, MS)) == []
    assert frames(path.tick(QUIESCE_NS - 1)) == [], "nobody wants an answer any more"
    assert settled(path.tick(QUIESCE_NS + USUAL.sweep_ns)) == [exchange]


def test_what_was_abandoned_before_it_was_sent_is_settled_at_once() -> None:
    path = make_path(window_max=1)
    path.start(write(0), 0)
    waiting = write(1)
    assert path.start(waiting, 0) == []
    assert path.abandon(waiting, 0) == [Settled(waiting)]


def test_an_open_request_is_answered_however_late() -> None:
    """A disk that takes a minute to spin up is slow, not dead."""
    path, exchange = make_path(), read()
    first = sent(path.start(exchange, 0))
    for second in range(1, 60):
        path.tick(second * 1000 * MS)
    assert answered(received(path, reply(first, DATA), 60_000 * MS)) == [exchange]


def test_copies_are_bounded_however_long_nobody_answers() -> None:
    path, exchange = make_path(), write()
    path.start(exchange, 0)
    last = b""
    for at in range(0, 3_600_000, 100):
        for raw in frames(path.tick(at * MS)):
            last = raw
    assert len(exchange.copies) == len(path._tags) == limits.COPIES_MAX
    assert answered(received(path, reply(last), 3_600_000 * MS)) == [exchange]
    assert settled(path.tick(3_610_000 * MS)) == [exchange]
    assert not path._tags


# What is no reply


@pytest.mark.parametrize(
    "fields",
    [{"src": STRANGER}, {"shelf": 8}, {"slot": 4}, {"command": 1}, {"tag": 5}, {"tag": 0}],
    ids=lambda fields: next(iter(fields)),
)
def test_a_reply_that_does_not_fit_has_no_effect(fields: dict[str, object]) -> None:
    path, exchange = make_path(), read()
    raw = sent(path.start(exchange, 0))
    assert received(path, reply(raw, DATA, **fields), MS) == []
    assert sum(path.counters.values()) == 1
    assert answered(received(path, reply(raw, DATA), 2 * MS)) == [exchange]


def test_a_read_is_not_answered_by_less_than_it_asked_for() -> None:
    path, exchange = make_path(), read()
    raw = sent(path.start(exchange, 0))
    assert received(path, reply(raw, DATA[:-1]), MS) == []
    assert path.counters == {"unfit_reply": 1}
    assert answered(received(path, reply(raw, DATA + b"trailing"), 2 * MS)) == [exchange]


@pytest.mark.parametrize("shape", ["ata", "aoe", "bare"])
def test_an_error_is_an_answer_however_short(shape: str) -> None:
    path, exchange = make_path(), read()
    raw = sent(path.start(exchange, 0))
    aoe_error = {"flags": FLAG_RESPONSE | FLAG_ERROR, "error": 6}
    error = reply(raw, status=0x41) if shape == "ata" else reply(raw, **aoe_error)
    assert answered(received(path, error[:24] if shape == "bare" else error, MS)) == [exchange]


def test_guessed_tags_hit_nothing() -> None:
    """A million guesses at 64 of 2^31 tags hit 0.03 times; with this seed, not once."""
    path, rng = make_path(first_tag=random.Random(2).getrandbits(31)), random.Random(1)
    warm(path, MS, 64)
    requests = [raw for lba in range(64) for raw in frames(path.start(read(lba), 10**12))]
    assert len(requests) == 64
    forged = bytearray(reply(requests[0], bytes(512)))
    for _ in range(1_000_000):
        forged[20:24] = (USER_TAG | rng.getrandbits(31)).to_bytes(4, "big")
        assert received(path, bytes(forged), 10**12 + MS) == []
    assert path.counters["unknown_tag"] == 1_000_000


# When it is sent again


def test_the_first_wait_is_short_and_doubles_up_to_a_bound() -> None:
    path = make_path()
    path.start(read(), 0)
    times = [at for at in range(0, 20_000, 5) if frames(path.tick(at * MS))]
    waits = [later - earlier for earlier, later in zip([0, *times], times, strict=False)]
    assert waits[:5] == [100, 200, 400, 800, 1600]
    assert set(waits[5:]) == {USUAL.rto_max_ns // MS}


def test_afterwards_the_wait_follows_the_round_trip_time() -> None:
    path = make_path()
    now = warm(path, 20 * MS)
    path.start(read(), now)
    assert not frames(path.tick(now + 19 * MS))
    assert frames(path.tick(now + 25 * MS))


def test_it_is_never_shorter_than_the_bound_where_nothing_tells_of_a_loss() -> None:
    path = make_path()
    now = warm(path, MS // 10)
    path.start(read(), now)
    assert not frames(path.tick(now + USUAL.rto_min_ns - 1))
    assert frames(path.tick(now + USUAL.rto_min_ns))


def test_what_later_requests_have_overtaken_is_sent_again_early() -> None:
    path = make_path()
    now = warm(path, MS // 10)
    lost, later = read(1), read(2)
    path.start(lost, now)
    second = sent(path.start(later, now + MS // 5))
    effects = received(path, reply(second, DATA), now + 3 * MS // 10)
    assert answered(effects) == [later]
    assert len(frames(effects)) == 1, "not after RTO_MIN: it was overtaken"


def test_a_target_that_answers_out_of_order_earns_patience() -> None:
    """Otherwise every slow read of a disk with a cache would be sent twice."""
    path = make_path()
    now = warm(path, MS // 10, 200)
    doubled = []
    for _ in range(8):
        before = path.counters["retransmits"]
        slow, quick = read(1), read(2)
        first = sent(path.start(slow, now))
        second = sent(path.start(quick, now + 1))
        received(path, reply(second, DATA), now + MS // 5)
        path.tick(now + 4 * MS // 5)
        received(path, reply(first, DATA), now + MS)
        doubled.append(path.counters["retransmits"] - before)
        now += 2 * MS
    assert doubled[0] == 1
    assert doubled[-1] == 0


def pause(path: Path, now: int, requests: int, lasts_ns: int) -> int:
    """Requests to a server that pauses and then answers all; how often one was sent again."""
    before = path.counters["retransmits"]
    copies = [raw for lba in range(requests) for raw in frames(path.start(read(lba), now))]
    assert len(copies) == requests
    for at in range(now, now + lasts_ns, USUAL.rto_min_ns):
        copies += frames(path.tick(at))
    for raw in copies:
        received(path, reply(raw, DATA), now + lasts_ns)
    return path.counters["retransmits"] - before


@pytest.mark.parametrize(("lasts_ms", "most", "window"), [(9, 1, 64), (50, 3, 64), (1000, 8, 2)])
def test_a_server_that_pauses_is_not_asked_again_for_all_that_it_has(
    lasts_ms: int, most: int, window: int
) -> None:
    """It may have lost its processor for some milliseconds; nothing tells that anything else was lost."""
    path = make_path()
    now = grown(path)
    assert 1 <= pause(path, now, 64, lasts_ms * MS) <= most
    assert path.window.size >= window


def test_a_server_that_pauses_often_and_loses_nothing_is_not_asked_again_at_all() -> None:
    path = make_path()
    now = grown(path)
    again = []
    for _ in range(8):
        again.append(pause(path, now, 64, 20 * MS))
        now = warm(path, MS // 10, 64, now + 20 * MS)
    assert again[0] > 0
    assert again[3:] == [0] * 5


def test_where_frames_are_lost_the_wait_becomes_short_again() -> None:
    path = make_path()
    now = grown(path)
    for _ in range(4):
        pause(path, now, 64, 45 * MS)
        now = warm(path, MS // 10, 64, now + 50 * MS)
    waits = []
    for _ in range(4):
        path.start(read(), now)
        waits.append(next(ms for ms in range(1, 100) if (again := frames(path.tick(now + ms * MS)))))
        now += 200 * MS
        received(path, reply(again[0], DATA), now)
        now = warm(path, MS // 10, 64, now)
    assert waits[0] == USUAL.rto_calm_ns // MS
    assert waits[-1] == USUAL.rto_min_ns // MS


def test_all_that_was_lost_is_sent_again_as_soon_as_one_copy_is_answered() -> None:
    path = make_path()
    now = grown(path)
    for lba in range(64):
        path.start(read(lba), now)
    probe = sent(path.tick(now + USUAL.rto_min_ns))
    assert frames(path.tick(now + USUAL.rto_min_ns + MS)) == []
    again = frames(received(path, reply(probe, DATA), now + USUAL.rto_min_ns + 2 * MS))
    assert len(again) == 63


def test_changes_that_nobody_answers_are_noticed_however_many_there_are() -> None:
    """Their server may have forgotten who sends them."""
    noticed = []
    for changes in (1, 8):
        path = make_path()
        for lba in range(changes):
            path.start(write(lba), 0)
        times = (ms for ms in range(5, 10_000, 5) if path.tick(ms * MS) and path.stuck)
        noticed.append(next(times))
    assert noticed[0] == noticed[1]


def test_slow_writes_do_not_slow_down_the_resending_of_reads() -> None:
    path = make_path()
    now = 0
    for _ in range(64):
        raw = sent(path.start(write(), now))
        now += 500 * MS
        received(path, reply(raw), now)
    now += warm(path, MS)
    path.start(read(), now)
    assert frames(path.tick(now + 200 * MS))


# The window


def test_no_more_than_the_window_is_outstanding_and_the_rest_follows() -> None:
    path = make_path(window_max=4)
    exchanges = [read(lba) for lba in range(20)]
    flying = [raw for exchange in exchanges for raw in frames(path.start(exchange, 0))]
    done = []
    while flying:
        assert path.outstanding <= 4
        effects = received(path, reply(flying.pop(0), DATA), MS)
        done += answered(effects)
        flying += frames(effects)
    assert done == exchanges


def grown(path: Path) -> int:
    now = warm(path, MS, 64)
    assert path.window.size == 64
    return now


def test_isolated_losses_leave_the_window_alone() -> None:
    path = make_path()
    now = grown(path)
    for _ in range(50):
        exchange = read()
        path.start(exchange, now)
        second = sent(path.tick(now + 50 * MS))
        received(path, reply(second, DATA), now + 51 * MS)
        now += 100 * MS
    assert path.window.size == 64


def test_losing_much_of_a_round_halves_it_once() -> None:
    path = make_path()
    now = grown(path)
    for lba in range(63):
        path.start(read(lba), now)
    last = sent(path.start(read(63), now + 1))
    assert len(frames(received(path, reply(last, DATA), now + MS + 1))) == 63
    assert path.window.size == 32


def test_it_never_falls_below_what_keeps_requests_going() -> None:
    path = make_path()
    for lba in range(64):
        path.start(read(lba), 0)
    for second in range(1, 60):
        path.tick(second * 1000 * MS)
    assert path.window.size == limits.WINDOW_MIN
    assert make_path(window_max=1).window.size == 1
