"""Which hosts have left an export that drains, and which stay: told by IDENTIFY, and by what they ask for."""

import pytest

from aoe import timing
from aoe.limits import CLIENTS_KNOWN_MAX
from aoe.metrics.snapshot import ClientNumbers
from aoe.target.departures import ENDING, FOREIGN, NO_OTHER, NOT_PROVED, WAITED_FOR, Departures
from aoe.wire.stamp import AWAY, UNPROVED
from tests.target import driver

MAC = b"\2\0\0\0\0\1"
S = 1_000_000_000
BEGAN_NS = 1000 * S
DEVICE = 0xA0 << 24


@pytest.mark.parametrize(
    ("told", "heard_s", "after_s", "why"),
    [
        # Ours: when it said what, seconds after the drain began, and when it last asked for something
        ((1, 0), 0.9, 1.2, NO_OTHER),
        ((1, AWAY), 0.9, 1.0, ENDING),
        ((1, AWAY), 0.9, 1.2, ""),
        ((1, AWAY), None, 1.0, ""),
        ((1, UNPROVED), 0.9, 1.2, NOT_PROVED),
        ((1, UNPROVED), None, 1.0, NOT_PROVED),
        ((1, 7), None, 1.0, NO_OTHER),  # a later version says something that we do not know
        ((-1, UNPROVED), None, 0.5, WAITED_FOR),
        ((-1, 0), -1, 0.5, WAITED_FOR),
        ((-1, 0), -1, 3.5, ""),
        ((-1, AWAY), None, 0.5, WAITED_FOR),
        ((-1, 0), 9, 10, WAITED_FOR),
        ((-1, 0), 4, 7, WAITED_FOR),
        ((-100, 0), -100, 0.5, ""),
        ((1, 0), 1, 6.5, NO_OTHER),
        ((1, 0), 1, 8.5, ""),
        ((1, 0), 8, 8.5, NO_OTHER),
        ((1, 0), 6, 67, ""),
        # Another client
        (None, -1, 0.5, FOREIGN),
        (None, 5, 60, FOREIGN),
        (None, -1, 60, ""),
    ],
)
def test_why_a_host_stays(
    told: tuple[float, int] | None, heard_s: float | None, after_s: float, why: str
) -> None:
    departures = Departures()
    departures.begin(BEGAN_NS)
    for asked_s in (0, 5):
        departures.ask(BEGAN_NS + asked_s * S)
    if told is not None:
        departures.tell(MAC, DEVICE | told[1], BEGAN_NS + int(told[0] * S))
    hosts = [] if heard_s is None else [ClientNumbers(MAC, [1, 512, 0, 0, BEGAN_NS + int(heard_s * S)])]
    staying = departures.staying(hosts, BEGAN_NS + int(after_s * S))
    assert staying == ({MAC: why} if why else {})


def test_one_that_comes_back_stays() -> None:
    departures = Departures()
    for lba in (0, AWAY, 0):
        departures.tell(MAC, lba, S)
    assert departures.staying([], S + timing.DRAIN_QUIET_NS) == {MAC: NO_OTHER}


def test_what_is_remembered_is_bounded_and_the_oldest_goes() -> None:
    departures = Departures()
    for at in range(CLIENTS_KNOWN_MAX + 1):
        departures.tell(at.to_bytes(6, "big"), 0, S + at)
        departures.tell(MAC, 0, S + at)
    staying = departures.staying([], 2 * S)
    assert len(staying) == CLIENTS_KNOWN_MAX
    assert MAC in staying
    assert bytes(6) not in staying


def test_identify_says_that_it_drains_and_nothing_else_of_it_changes() -> None:
    export = driver.make_export()
    before = export.identity
    export.drain(True, 5)
    assert (export.identity, export.departures.since_ns) == (before._replace(draining=True), 5)
    export.drain(True, 9)
    assert export.departures.since_ns == 5, "it goes on"
    export.drain(False, 9)
    assert export.identity == before
