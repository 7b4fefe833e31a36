"""What was split for large frames, and comes to a path that takes small ones now: it becomes several."""

import struct
from collections.abc import Sequence

import pytest

from aoe import limits
from aoe.drive import identify
from aoe.drive.identify import Identity
from aoe.initiator.core import Core
from aoe.initiator.path import Port
from aoe.initiator.request import Outcome, Request, Verb
from aoe.wire.frame import FLAG_ERROR, FLAG_RESPONSE, Error
from tests.initiator.test_channel import MS, OWN, SERVER, STRANGER, reply
from tests.initiator.test_core import NOW, make_core, sent
from tests.initiator.test_session import ADDRESS, PORT, pass_probes, told

FRAME = 16 * 512
DATA = bytes(number * 7 % 251 for number in range(4 * FRAME))
SMALL = PORT._replace(sectors=2)
BAD = {"flags": FLAG_RESPONSE | FLAG_ERROR, "error": Error.BAD_ARGUMENT}


def aborts(request: bytes, error: int = 4, status: int = 0x41) -> bytes:
    raw = bytearray(reply(request, status=status))
    raw[25] = error
    return bytes(raw)


def at(raw: bytes) -> tuple[int, int]:
    """Which sectors, as (first, how many)."""
    return int.from_bytes(raw[28:34], "little"), raw[26]


def serve(core: Core, held: bytearray, most: int, before: Sequence[bytes] = ()) -> list[bytes]:
    """Answer what was asked before, and whatever is asked until nothing is any more; what it was."""
    seen = []
    while frames := [*before, *sent(core)]:
        before = ()
        for raw in frames:
            seen.append(raw)
            (lba, count), data = at(raw), b""
            if raw[19] == 1:
                core.received(0, told(raw, sectors=most), NOW)
                continue
            assert count <= most
            where = slice(lba * 512, (lba + count) * 512)
            if raw[27] == 0x24:
                data = bytes(held[where])
            elif raw[27] in (0x34, 0x3D):
                held[where] = raw[36:]
            core.received(0, reply(raw, data), NOW)
    return seen


def ended_well(request: Request) -> bool:
    return request.result is not None and request.result.outcome is Outcome.OK


@pytest.mark.parametrize("verb", [Verb.READ, Verb.WRITE, Verb.WRITE_FUA])
@pytest.mark.parametrize("offset", [0, 512, 700])
def test_what_is_under_way_as_the_mtu_falls_is_sent_again_in_parts(verb: Verb, offset: int) -> None:
    core, held = make_core(window=64), bytearray(DATA)
    length, data = 3 * FRAME + 100, bytes(reversed(DATA))[: 3 * FRAME + 100]
    request = core.start(verb, offset, length, b"" if verb is Verb.READ else data, NOW)
    frames = sent(core)
    assert max(at(raw)[1] for raw in frames) == 16
    core.set_port(0, SMALL, NOW)
    frames = serve(core, held, most=2, before=[raw for raw in frames if at(raw)[1] <= 2])
    assert {raw[27] for raw in frames} <= {0x24, 0x34, 0x3D}
    assert ended_well(request)
    expected = bytearray(DATA)
    if verb is Verb.READ:
        assert request.result is not None
        assert request.result.data == DATA[offset : offset + length]
    else:
        expected[offset : offset + length] = data
    assert held == expected


def test_what_is_asked_later_is_split_for_what_fits_then() -> None:
    core = make_core(window=64)
    core.set_port(0, SMALL, NOW)
    first = core.start(Verb.READ, 0, FRAME, b"", NOW)
    serve(core, bytearray(DATA), most=2)
    assert first.result is not None
    core.set_port(0, PORT, NOW)
    core.tick(NOW)
    pass_probes(core.session, NOW)
    core.start(Verb.READ, 0, FRAME, b"", NOW)
    assert [at(raw) for raw in sent(core)] == [(0, 16)]


@pytest.mark.parametrize("how", ["aborts", "bad argument"])
@pytest.mark.parametrize("verb", [Verb.READ, Verb.WRITE])
def test_what_is_refused_as_too_large_is_split(how: str, verb: Verb) -> None:
    """The server's MTU has fallen, and it has not told anybody."""
    core, held = make_core(window=64), bytearray(DATA)
    request = core.start(verb, 0, FRAME, b"" if verb is Verb.READ else bytes(FRAME), NOW)
    (raw,) = sent(core)
    core.received(0, aborts(raw) if how == "aborts" else reply(raw, **BAD), NOW)  # type: ignore[arg-type]
    (query,) = sent(core)
    assert query[19] == 1
    assert request.result is None
    core.received(0, told(query, sectors=2), NOW)
    serve(core, held, most=2)
    assert ended_well(request)
    assert held == (DATA if verb is Verb.READ else bytes(FRAME) + DATA[FRAME:])


def test_what_is_refused_though_it_is_not_too_large_has_failed() -> None:
    core = make_core(window=64)
    request = core.start(Verb.WRITE, 0, FRAME, bytes(FRAME), NOW)
    (raw,) = sent(core)
    core.received(0, aborts(raw), NOW)
    (query,) = sent(core)
    core.received(0, told(query), NOW)
    assert request.result is not None
    assert (request.result.outcome, request.result.error) == (Outcome.ATA_ERROR, 4)
    core.start(Verb.WRITE, 0, FRAME, bytes(FRAME), NOW)
    (again,) = sent(core)
    assert at(again) == (0, 16), "nothing of the first one is left"


def test_a_query_before_the_refusal_says_nothing_of_it() -> None:
    """The MTU fell between the two."""
    core = make_core(window=64)
    first = core.start(Verb.READ, 0, FRAME, b"", NOW)
    second = core.start(Verb.READ, FRAME, FRAME, b"", NOW)
    one, other = sent(core)
    core.received(0, aborts(one), NOW)
    (query,) = sent(core)
    core.received(0, aborts(other), NOW)
    core.received(0, told(query), NOW)
    assert first.result is not None
    assert second.result is None
    (again,) = sent(core)
    core.received(0, told(again, sectors=2), NOW)
    serve(core, bytearray(DATA), most=2)
    assert ended_well(second)


@pytest.mark.parametrize(("error", "status"), [(0x40, 0x41), (0x10, 0x41), (0x04, 0x61)])
def test_other_errors_are_told_at_once(error: int, status: int) -> None:
    core = make_core(window=64)
    request = core.start(Verb.READ, 0, FRAME, b"", NOW)
    (raw,) = sent(core)
    core.received(0, aborts(raw, error, status), NOW)
    assert request.result is not None
    assert request.result.outcome is Outcome.ATA_ERROR
    assert not sent(core)


def test_one_sector_is_never_too_large() -> None:
    core = make_core(window=64)
    request = core.start(Verb.READ, 0, 512, b"", NOW)
    (raw,) = sent(core)
    core.received(0, aborts(raw), NOW)
    assert request.result is not None
    assert not sent(core)


def test_the_range_stays_closed_until_the_fate_of_the_large_copy_is_known() -> None:
    """All parts of it are answered, but the large one may still arrive (order rule I2)."""
    core, held = make_core(window=64), bytearray(DATA)
    first = core.start(Verb.WRITE, 0, FRAME, bytes(FRAME), NOW)
    (large,) = sent(core)
    core.set_port(0, SMALL, NOW)
    serve(core, held, most=2)
    assert ended_well(first)
    second = core.start(Verb.WRITE, 4096, 512, b"x" * 512, NOW)
    assert not sent(core)
    core.received(0, reply(large), NOW + MS)
    assert len(sent(core)) == 1
    assert second.result is None


def test_an_abandoned_piece_leaves_when_all_of_its_copies_did() -> None:
    core = make_core(window=64)
    first = core.start(Verb.WRITE, 0, FRAME, bytes(FRAME), NOW)
    (large,) = sent(core)
    core.set_port(0, SMALL, NOW)
    (part,) = sent(core)
    core.abandon(first, NOW)
    core.start(Verb.WRITE, 4096, 512, b"x" * 512, NOW)
    core.received(0, reply(part), NOW)
    assert not sent(core)
    assert core.pending == 2
    core.received(0, reply(large), NOW)
    assert len(sent(core)) == 1
    assert core.pending == 1


def make_trimming_core() -> Core:
    core = Core(1, [ADDRESS], 1)
    core.set_port(0, Port(OWN, 16, 64, True), MS)
    (query,) = sent(core)
    core.received(0, told(query), 2 * MS)
    (look,) = sent(core)
    data = identify.build(Identity(1 << 32, "S", frame_age_ms=1000, trim_blocks=8))
    core.received(0, reply(look, data), 3 * MS)
    pass_probes(core.session, 3 * MS)
    core.tick(NOW)
    return core


def test_a_trim_goes_on_in_frames_with_fewer_blocks() -> None:
    core = make_trimming_core()
    length = 5 * 64 * 0xFFFF * 512
    request = core.start(Verb.TRIM, 512, length, b"", NOW)
    (large,) = sent(core)
    assert large[26:28] == bytes((5, 6))
    core.set_port(0, SMALL, NOW)
    blocks = []
    while frames := sent(core):
        (raw,) = frames
        blocks.append(raw[26])
        assert len(raw) == 36 + raw[26] * 512
        core.received(0, reply(raw), NOW)
        if sum(blocks) == 2:
            trimmed = raw[36:]
        else:
            trimmed += raw[36:]
    assert blocks == [2, 2, 1]
    assert trimmed == large[36:]
    assert struct.unpack_from("<Q", trimmed)[0] & (1 << 48) - 1 == 1
    assert ended_well(request)


def test_what_was_refused_goes_elsewhere_when_its_path_is_lost() -> None:
    core = Core(2, [ADDRESS], 1)
    for port, src in ((0, SERVER), (1, STRANGER)):
        core.set_port(port, Port(OWN, 16, 64, True), MS)
        (query,) = sent(core)
        core.received(port, told(query, src), 2 * MS)
        (look,) = sent(core)
        core.received(port, reply(look, identify.build(Identity(2048, "S", frame_age_ms=1000))), 3 * MS)
        pass_probes(core.session, 3 * MS)
    core.tick(NOW)
    request = core.start(Verb.READ, 0, FRAME, b"", NOW)
    (raw,) = sent(core)
    core.received(0, aborts(raw), NOW)
    (query,) = sent(core)
    core.set_port(0, PORT._replace(up=False), NOW)
    for look in sent(core):
        core.received(1, reply(look, identify.build(Identity(2048, "S", frame_age_ms=1000))), NOW)
    (again,) = sent(core)
    core.received(1, reply(again, DATA[:FRAME]), NOW)
    assert ended_well(request)


def test_the_window_is_kept() -> None:
    core = make_core(window=2)
    core.start(Verb.WRITE, 0, 4 * FRAME, DATA, NOW)
    assert len(sent(core)) == 2
    core.set_port(0, SMALL, NOW)
    frames = sent(core)
    assert [at(raw)[1] for raw in frames] == [2, 2]
    assert limits.WINDOW_FIRST > 2
