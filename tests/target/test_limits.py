"""Limits in force: what is over one is delayed in its place, or dropped on arrival."""

import pytest

from aoe.drive.command import Kind
from aoe.limits import EXPORT_QUEUE_MAX
from aoe.target.rates import Limits
from tests.target import driver
from tests.target.driver import CLIENT, MS, RIVAL, SECOND, Driver, make_driver

SLOW = Limits(iops=10, burst_ns=0)
"""A request each 100 ms, at once or up to 250 ms later: three of them."""


def limited(limits: Limits = SLOW, **how: object) -> Driver:
    d = make_driver(**how)
    d.clock(driver.START_NS, driver.START_NS)
    d.export.limit(limits)
    return d


def tags(sent: list[bytes]) -> list[int]:
    return [driver.parse(raw).tag for raw in sent]


def test_what_is_over_a_limit_is_answered_later_in_its_place() -> None:
    d = limited()
    assert tags(d.send(driver.read(0, tag=1))) == [1]
    assert d.send(driver.read(8, tag=2)) == []
    assert d.send(driver.read(16, tag=3)) == []
    assert d.wait(99 * MS) == []
    assert tags(d.wait(1 * MS)) == [2]
    assert tags(d.wait(100 * MS)) == [3]
    assert d.counters["reads"] == 3


def test_what_would_wait_for_too_long_is_dropped_before_it_has_a_place() -> None:
    d = limited()
    for tag in range(1, 10):
        d.send(driver.write(tag, bytes(512), tag=tag))
    assert d.counters["limited"] == 6
    assert len(d.export.queue) == 2
    assert tags(d.wait(SECOND)) == [2, 3]
    assert tags(d.send(driver.write(9, bytes(512), tag=9))) == [9]
    assert d.responder.active == len(d.export.queue) == 0


def test_what_was_dropped_has_cost_nothing() -> None:
    d = limited()
    for tag in range(1, 1000):
        d.send(driver.read(0, tag=tag))
    d.wait(300 * MS)
    assert tags(d.send(driver.read(0, tag=1000))) == [1000]


def test_overlapping_requests_wait_behind_a_delayed_one() -> None:
    """Order rule T1, also between a host that is over its limit and one that is not."""
    d = limited(Limits(client_iops=10, burst_ns=0))
    d.send(driver.write(0, b"a" * 512, tag=1))
    assert d.send(driver.write(0, b"b" * 512, tag=2)) == []
    assert d.send(driver.read(0, tag=3, src=RIVAL)) == []
    assert d.send(driver.flush(tag=4, src=RIVAL)) == []
    assert tags(d.send(driver.read(64, tag=5, src=driver.STRANGER))) == [5]
    sent = d.wait(100 * MS)
    assert tags(sent) == [2, 3, 4]
    assert driver.parse(sent[1]).data == b"b" * 512


@pytest.mark.parametrize(
    "free",
    [
        driver.identify(tag=9),
        driver.config(0, tag=9),
        driver.config(4, b"new", tag=9),
        driver.mask(0, tag=9),
        driver.flush(tag=9),
        driver.cache(on=True, tag=9),
        driver.reserve(0, tag=9),
    ],
)
def test_what_moves_no_data_is_not_limited(free: bytes) -> None:
    d = limited()
    for tag in range(1, 9):
        d.send(driver.read(0, tag=tag))
    d.wait(200 * MS)
    assert tags(d.send(free)) == [9]


@pytest.mark.parametrize(
    "costly",
    [
        driver.write(0, bytes(1024), tag=9),
        driver.trim((0, 8), tag=9),
        driver.trim(tag=9),
        driver.ata(0x42, 8, 0, tag=9),
    ],
)
def test_what_the_disk_does_is(costly: bytes) -> None:
    d = limited()
    d.send(driver.read(0, tag=1))
    assert d.send(costly) == []
    assert tags(d.wait(100 * MS)) == [9]


def test_bytes_are_those_on_the_wire() -> None:
    d = limited(Limits(bandwidth=1 << 16, burst_ns=0))
    d.send(driver.write(0, bytes(8192), tag=1))
    assert d.send(driver.ata(0x42, 255, 0, tag=2)) == []
    assert tags(d.wait(125 * MS)) == [2]
    assert tags(d.send(driver.read(0, tag=3))) == [3]


def test_a_limit_of_each_host_leaves_the_others_alone() -> None:
    d = limited(Limits(client_iops=10, burst_ns=0))
    for tag in range(1, 100):
        d.send(driver.read(0, tag=tag))
    assert tags(d.send(driver.read(0, tag=100, src=RIVAL))) == [100]
    assert d.counters["limited"] == 96


def test_a_write_that_was_delayed_has_its_age_tested_when_it_begins() -> None:
    """Order rule T3: what came late to us may be too old by then."""
    d = limited()
    d.send(driver.write(0, b"a" * 512, tag=1))
    assert d.send(driver.write(0, b"b" * 512, tag=2), age_ns=950 * MS) == []
    assert d.wait(200 * MS) == []
    assert d.counters["expired"] == 1
    assert d.disk[:512] == b"a" * 512


def test_a_shorter_age_shortens_the_delay() -> None:
    d = limited()
    d.responder.age.age_max_ns = 500 * MS
    for tag in range(1, 6):
        d.send(driver.read(0, tag=tag))
    assert d.counters["limited"] == 3
    assert tags(d.wait(SECOND)) == [2]


def test_limits_change_in_place_and_nothing_is_lost() -> None:
    d = limited()
    for tag in (1, 2, 3):
        d.send(driver.read(0, tag=tag))
    d.export.limit(Limits())
    assert tags(d.send(driver.read(0, tag=4))) == [4]
    assert tags(d.wait(200 * MS)) == [2, 3]
    d.export.limit(SLOW)
    d.send(driver.read(0, tag=5))
    d.export.limit(SLOW)
    assert d.send(driver.read(0, tag=6)) == [], "what is the same goes on"


def test_what_finds_the_queue_full_has_cost_nothing() -> None:
    d = limited(Limits(iops=10**6, burst_ns=0))
    d.held = True
    for tag in range(1, EXPORT_QUEUE_MAX + 100):
        d.send(driver.read(0, tag=tag))
    full = d.counters["queue_full"]
    assert full == 99
    before = d.export.rates
    assert before is not None
    begins = before.begins_ns(CLIENT, d.now_ns)
    assert begins == d.now_ns + EXPORT_QUEUE_MAX * 1000


def test_a_change_waits_for_what_is_delayed() -> None:
    """Order rule T5: a reservation is acknowledged when all before it is over."""
    d = limited()
    d.send(driver.write(0, bytes(512), tag=1))
    d.send(driver.write(8, bytes(512), tag=2))
    assert d.send(driver.reserve(1, RIVAL, tag=3, src=RIVAL)) == []
    assert tags(d.wait(100 * MS)) == [2, 3]
    assert [it.kind for it in d.log] == [Kind.WRITE, Kind.WRITE]
