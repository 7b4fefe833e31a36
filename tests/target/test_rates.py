"""How much may be asked for: in no time more than the rate and the burst, and hardly less."""

import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aoe.limits import LIMITED_HOSTS_MAX
from aoe.target.rates import Limits, Meter, Rates, patience_ns

SECOND = 1_000_000_000
START = 5 * SECOND
ONE, OTHER = bytes(6), bytes((2, 0, 0, 0, 0, 1))


def host(number: int) -> bytes:
    return bytes((2, 0, 0, 1, number >> 8, number & 255))


def begun(meter: Meter, asked: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """When requests begin that come so long after each other and cost so much, and what they cost."""
    now, found = START, []
    for pause, units in asked:
        now += pause
        found.append((max(now, meter.begins_ns), units))
        meter.pay(units, now)
    return found


@given(
    st.integers(1, 10**10),
    st.integers(0, 3 * SECOND),
    st.lists(st.tuples(st.integers(0, SECOND), st.integers(0, 10**8)), min_size=1, max_size=60),
)
def test_in_no_time_more_than_rate_and_burst_and_one_request(
    rate: int, burst_ns: int, asked: list[tuple[int, int]]
) -> None:
    found = begun(Meter(rate, burst_ns), asked)
    for first in range(len(found)):
        units = 0
        for at, cost in found[first:]:
            allowed = Fraction(rate * (at - found[first][0] + burst_ns + len(found)), SECOND)
            assert units <= allowed  # what began before this one
            units += cost


@given(
    st.integers(1, 10**10), st.integers(0, SECOND), st.lists(st.integers(10, 10**7), min_size=1, max_size=60)
)
def test_who_waits_gets_all_of_the_rate(rate: int, burst_ns: int, costs: list[int]) -> None:
    """Nothing is lost to rounding: the last one begins when all before it is paid for. Each takes a
    nanosecond at least, so there is one that waits."""
    found = begun(Meter(rate, burst_ns), [(0, cost) for cost in costs])
    paid_ns = sum(costs[:-1]) * SECOND // rate
    assert found[-1][0] == max(START, START + paid_ns - burst_ns)


def test_a_pause_saves_no_more_than_the_burst() -> None:
    meter = Meter(100, SECOND // 10)
    found = begun(meter, [(0, 1)] * 20)
    assert [at for at, _ in found[:11]] == [START] * 11
    assert found[11][0] == START + SECOND // 100
    again = begun(meter, [(60 * SECOND, 1), *[(0, 1)] * 11])
    assert [at - again[0][0] for at, _ in again] == [0] * 11 + [SECOND // 100]


def test_without_a_rate_nothing_waits() -> None:
    assert {at for at, _ in begun(Meter(0, 0), [(0, 10**9)] * 10)} == {START}


@pytest.mark.parametrize(
    ("limits", "wait_ns"),
    [
        (Limits(iops=10, burst_ns=0), SECOND // 10),
        (Limits(bandwidth=1 << 20, burst_ns=0), SECOND // 256),
        (Limits(client_iops=20, burst_ns=0), SECOND // 20),
        (Limits(client_bandwidth=1 << 21, burst_ns=0), SECOND // 512),
        (Limits(100, 1 << 20, 50, 1 << 21, burst_ns=0), SECOND // 50),
        (Limits(), 0),
    ],
)
def test_the_strictest_limit_is_in_force(limits: Limits, wait_ns: int) -> None:
    rates = Rates(limits)
    rates.pay(ONE, 4096, START)
    assert rates.begins_ns(ONE, START) == START + wait_ns


def test_a_limit_of_hosts_is_for_each_and_one_of_the_export_for_all() -> None:
    each, all_of_them = Rates(Limits(client_iops=10, burst_ns=0)), Rates(Limits(iops=10, burst_ns=0))
    each.pay(ONE, 512, START)
    all_of_them.pay(ONE, 512, START)
    assert each.begins_ns(OTHER, START) == START
    assert all_of_them.begins_ns(OTHER, START) == START + SECOND // 10


def test_strangers_take_no_place_and_share_one_rate() -> None:
    rates = Rates(Limits(client_iops=10, burst_ns=0))
    for number in range(LIMITED_HOSTS_MAX):
        rates.pay(host(number), 512, START)
    for number in range(1000, 11000):
        assert rates.begins_ns(host(number), START) == START
    rates.pay(host(1000), 512, START)
    assert rates.begins_ns(host(1001), START) == START + SECOND // 10
    assert rates.begins_ns(host(0), START) == START + SECOND // 10
    assert len(rates._hosts) == LIMITED_HOSTS_MAX


def test_one_that_was_within_its_limits_makes_room() -> None:
    rates = Rates(Limits(client_iops=10, burst_ns=0))
    for number in range(LIMITED_HOSTS_MAX):
        rates.pay(host(number), 512, START + number)
    now = START + SECOND // 10
    rates.pay(host(1000), 512, now)
    assert rates.begins_ns(host(1000), now) == now + SECOND // 10
    assert rates.begins_ns(host(1001), now) == now + SECOND // 10 - SECOND // 10
    assert rates.begins_ns(host(2), now) == START + 2 + SECOND // 10
    assert len(rates._hosts) == LIMITED_HOSTS_MAX


@settings(max_examples=25)
@given(st.integers(0, 1 << 30))
def test_who_is_forgotten_misses_nothing(seed: int) -> None:
    """As if each host had a place of its own, as long as there are not too many that are busy."""
    rng = random.Random(seed)
    few, many = Rates(Limits(client_iops=1000, burst_ns=SECOND // 100)), {}
    now = START
    for _ in range(600):
        now += rng.randrange(SECOND // 1000)
        mac = host(rng.randrange(200))
        own = many.setdefault(mac, Rates(Limits(client_iops=1000, burst_ns=SECOND // 100)))
        assert few.begins_ns(mac, now) == own.begins_ns(mac, now)
        few.pay(mac, 512, now)
        own.pay(mac, 512, now)


@pytest.mark.parametrize(("age_s", "patience_s"), [(0.5, 0.125), (1.0, 0.25), (3600.0, 0.25)])
def test_nothing_is_delayed_for_more_than_a_quarter_of_the_age(age_s: float, patience_s: float) -> None:
    assert patience_ns(int(age_s * SECOND)) == int(patience_s * SECOND)
