"""An export that is served on some interfaces is not there on the others."""

import pytest

from aoe.target.export import Export
from aoe.wire import protocol
from tests.target import driver
from tests.target.driver import BROADCAST, CLIENT, Driver, make_driver, make_export, parse


def on_first(*others: Export) -> tuple[Driver, Export]:
    """A responder on two ports whose export is on the first only."""
    export = make_export()
    made = make_driver(export, *others, ports=2)
    export.serve_on(frozenset(made.responder.ports[:1]))
    return made, export


REQUESTS = [
    driver.identify(),
    driver.ata(0x24),
    driver.ata(0x34, 1, 0, bytes(512)),
    driver.flush(),
    driver.config(0),
    driver.config(3, b"x"),
    driver.framed(2, bytes(4)),
    driver.framed(3, bytes(2)),
    driver.framed(0x42),
    driver.framed(0, verfl=0x20),
]


@pytest.mark.parametrize("raw", REQUESTS, ids=range(len(REQUESTS)))
def test_nothing_is_answered_elsewhere(raw: bytes) -> None:
    made, export = on_first()
    first, second = made.responder.ports
    toward = second.mac + raw[6:]
    assert made.send(toward, port=second) == []
    assert made.send(BROADCAST + raw[6:], port=second) == []
    assert made.counters == {"other_address": 2}
    assert not made.log
    assert made.send(raw, port=first)
    export.serve_on(None)
    assert made.send(toward, port=second)


def test_a_wildcard_finds_what_is_there() -> None:
    other = make_export(slot=9)
    made, _ = on_first(other)
    first, second = made.responder.ports
    everyone = driver.config(0, shelf=protocol.SHELF_ALL, slot=protocol.SLOT_ALL, dst=BROADCAST)
    assert sorted(parse(it).slot for it in made.send(everyone, port=first)) == [driver.SLOT, 9]
    assert [parse(it).slot for it in made.send(everyone, port=second)] == [9]


def test_it_says_that_it_is_there_only_where_it_is() -> None:
    made, export = on_first()
    first, second = made.responder.ports
    export.state = export.state._replace(mask=(CLIENT, driver.RIVAL))
    assert len(made.responder.advertise(first, [export])) == 2
    assert made.responder.advertise(second, [export]) == []


def test_on_no_interface_at_all() -> None:
    made, export = on_first()
    export.serve_on(frozenset())
    assert [made.send(driver.identify(), port=port) for port in made.responder.ports[:1]] == [[]]
