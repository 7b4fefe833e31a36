"""What one life of a target leaves to the next."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aoe.drive import identify
from aoe.drive.identify import Identity
from aoe.limits import REPLAY_WINDOW, STREAMS_MAX
from aoe.target import legacy
from aoe.target.legacy import ExportLeft, Legacy, continued
from aoe.target.streams import Place, Streams
from aoe.wire.stamp import Stamp, StreamLeft
from tests.target import driver

MAC, OTHER = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
SAID = Identity(2048, "A", frame_age_ms=1000, instance=7, streams=True)

streams = st.builds(
    StreamLeft,
    mac=st.binary(min_size=6, max_size=6),
    number=st.integers(1, 65535),
    epoch=st.integers(0, 255),
    forged=st.booleans(),
    newest=st.integers(0, (1 << 31) - 1),
    seen=st.integers(0, (1 << REPLAY_WINDOW) - 1),
)
lefts = st.builds(
    ExportLeft,
    identify=st.binary(min_size=512, max_size=512),
    streams=st.lists(streams, max_size=4).map(tuple),
)
legacies = st.dictionaries(st.tuples(st.integers(0, 65534), st.integers(0, 254)), lefts, max_size=4)


# The streams


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2500)), max_size=60), st.integers(0, 1 << 31))
def test_the_next_life_judges_every_tag_as_the_last_would(sent: list[tuple[int, int]], first: int) -> None:
    """Whatever was seen: also where tags begin anew."""
    last = Streams()
    assert last.register(MAC, Stamp(5, 0, 0), first, 1, 0) is Place.KNOWN
    for epoch, away in sent:
        if not last.stale(MAC, Stamp(5, epoch, 0), first + away):
            last.see(MAC, Stamp(5, epoch, 0), first + away, 1)
    following = Streams(last.left(), now_ns=9)
    assert following.left() == last.left()
    for away in range(-50, 2600, 7):
        for epoch in range(5):
            stamp = Stamp(5, epoch, 0)
            assert following.stale(MAC, stamp, first + away) == last.stale(MAC, stamp, first + away)


def test_what_was_left_keeps_its_place_as_if_it_was_heard_now() -> None:
    last = Streams()
    for number in range(STREAMS_MAX):
        last.register(MAC, Stamp(number + 1, 0, 0), 1, 1, 0)
    following = Streams(last.left(), now_ns=1000)
    assert following.register(OTHER, Stamp(1, 0, 0), 1, 1500, since_ns=1000) is Place.NONE
    assert following.register(MAC, Stamp(1, 0, 0), 1, 1500, since_ns=1000) is Place.KNOWN
    assert following.register(OTHER, Stamp(1, 0, 0), 1, 1500, since_ns=1001) is Place.KNOWN


# Which exports go on


def test_an_export_of_which_the_same_is_said_goes_on() -> None:
    known = StreamLeft(MAC, 5, 0, False, 9, 1)
    left = ExportLeft(identify.build(SAID), (known,))
    assert continued(SAID._replace(instance=99), left) == (SAID, (known,))


def test_one_that_may_have_requests_to_its_last_instance_goes_on_as_that() -> None:
    """Its disk was trusted again, say: the next life has the store alone, but is the same instance."""
    left = ExportLeft(identify.build(SAID), ())
    assert continued(SAID._replace(instance=99, alone=True), left) == (SAID, ())


def test_another_disk_or_promise_is_another_instance() -> None:
    left = ExportLeft(identify.build(SAID), (StreamLeft(MAC, 5, 0, False, 9, 1),))
    for what in ({"serial": "B"}, {"sectors": 2056}, {"cache": True}, {"frame_age_ms": 2000}):
        now = SAID._replace(instance=99, **what)
        assert continued(now, left) == (now, ())
    assert continued(SAID, None) == (SAID, ())
    assert continued(SAID, ExportLeft(bytes(512))) == (SAID, ())


@pytest.mark.parametrize("then", [False, True])
@pytest.mark.parametrize("now", [False, True])
def test_whether_it_drains_is_no_matter_of_which_life_it_is(then: bool, now: bool) -> None:
    left = ExportLeft(identify.build(SAID._replace(draining=then)), (StreamLeft(MAC, 5, 0, False, 9, 1),))
    told, streams = continued(SAID._replace(instance=99, draining=now), left)
    assert (told.instance, told.draining, len(streams)) == (SAID.instance, now, 1)


def test_legacy_of_exports() -> None:
    export = driver.make_export()
    export.streams.register(MAC, Stamp(5, 2, 0), 9, 1, 0)
    (left,) = legacy.legacy_of([export]).values()
    assert continued(export.identity._replace(instance=0), left) == (
        export.identity,
        tuple(export.streams.left()),
    )


# Bytes


@given(legacies)
def test_what_is_written_is_read(them: Legacy) -> None:
    assert legacy.read(legacy.written(them)) == them


@given(legacies.filter(bool), st.randoms(use_true_random=False))
def test_what_is_damaged_is_nothing(them: Legacy, rng: random.Random) -> None:
    good = legacy.written(them)
    assert legacy.read(good[: rng.randrange(len(good))]) == {}
    at = rng.choice([at for at in range(len(good)) if not 9 <= at < 12])
    assert legacy.read(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :]) == {}


def test_what_was_used_is_nothing_and_all_that_can_be_left_is_bounded() -> None:
    good = legacy.written({(1, 1): ExportLeft(bytes(512))})
    at = legacy.USED_AT
    assert legacy.read(good[:at] + b"\1" + good[at + 1 :]) == {}
    assert len(good) < legacy.LEGACY_ROOM


def test_another_release_is_the_same_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each upgrade would cost what a crash does."""
    left = ExportLeft(identify.build(SAID))
    monkeypatch.setattr(identify, "FIRMWARE", "9.9.9")
    assert continued(SAID._replace(instance=1), left) == (SAID, ())
