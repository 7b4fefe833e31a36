"""When and how a target says unasked that it is there."""

import itertools
import random

import pytest

from aoe.target import advertise
from aoe.target.effects import EVERYONE, Send
from aoe.target.state import AoeState
from tests.target.driver import BROADCAST, CLIENT, RIVAL, SERVER, Driver, make_driver, make_export, parse


def first(count: int, seed: int = 1) -> list[float]:
    return list(itertools.islice(advertise.delays(random.Random(seed)), count))


def test_at_once_then_after_1_and_3_seconds() -> None:
    assert list(itertools.accumulate(first(3))) == [0, 1, 3]


def test_then_every_10_seconds_for_two_minutes() -> None:
    assert first(15)[3:] == [10.0] * 12


def test_then_every_minute_give_or_take_a_tenth() -> None:
    later = first(1015)[15:]
    assert 54 <= min(later) < 55
    assert 65 < max(later) <= 66
    assert 59.5 < sum(later) / len(later) < 60.5


def test_targets_started_together_do_not_stay_together() -> None:
    assert first(15, 1) == first(15, 2)
    assert first(20, 1)[15:] != first(20, 2)[15:]


def heard(driver: Driver, number: int = 0) -> list[bytes]:
    port = driver.responder.ports[number]
    effects = driver.responder.advertise(port, driver.responder.exports.values())
    assert all(isinstance(it, Send) and it.port is port and it.origin is EVERYONE for it in effects)
    return driver.perform(effects)


def test_an_advertisement_is_an_unasked_config_reply() -> None:
    driver = make_driver(mtu=1500, buffer_count=16)
    driver.export.restore(AoeState(b"rack 3"))
    (raw,) = heard(driver)
    text = "ffffffffffff 0200000000fe 88a2 18 00 0007 03 01 00000000 0010 0001 02 10 0006"
    assert raw == (bytes.fromhex(text) + b"rack 3").ljust(60, b"\0")


def test_every_export_on_every_interface_with_its_own_limits() -> None:
    driver = make_driver(make_export(7, 3), make_export(7, 4), ports=2)
    driver.responder.ports[1].change(RIVAL, 9000)
    driver.responder.ports[0].change(SERVER, 1500)
    for number, (mac, sectors) in enumerate([(SERVER, 2), (RIVAL, 16)]):
        replies = [parse(raw) for raw in heard(driver, number)]
        assert [(reply.shelf, reply.slot) for reply in replies] == [(7, 3), (7, 4)]
        assert {(reply.src, reply.body[4]) for reply in replies} == {(mac, sectors)}


def test_hosts_of_a_mask_list_are_told_one_by_one_and_nobody_else() -> None:
    driver = make_driver(make_export(7, 3), make_export(7, 4))
    driver.responder.exports[7, 3].restore(AoeState(mask=(CLIENT, RIVAL)))
    told = [(reply.slot, reply.dst) for reply in map(parse, heard(driver))]
    assert told == [(3, CLIENT), (3, RIVAL), (4, BROADCAST)]


def test_a_reservation_does_not_hide_a_target() -> None:
    driver = make_driver()
    driver.export.restore(AoeState(reserve=(RIVAL,)))
    assert [parse(raw).dst for raw in heard(driver)] == [BROADCAST]


@pytest.mark.parametrize("mtu", [534, 1041, 1500])
def test_a_string_too_long_for_the_interface_is_cut(mtu: int) -> None:
    driver = make_driver(mtu=mtu)
    driver.export.restore(AoeState(bytes(1024)))
    (raw,) = heard(driver)
    assert len(raw) == min(mtu + 14, 32 + 1024)


@pytest.mark.parametrize("mtu", [0, 68, 500, 533])
def test_nothing_is_said_where_nothing_is_answered(mtu: int) -> None:
    """Sector Count 0 means 2 to a client, who would wait for answers that never come."""
    assert heard(make_driver(mtu=mtu)) == []
