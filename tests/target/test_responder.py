"""The gate, the wildcards, changes and their drain, the bounds, the cache: what a responder answers when."""

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from aoe import limits
from aoe.drive.command import Kind
from aoe.errors import DiskError, DiskFailed
from aoe.target.effects import Effect, Met, Peek, Send, Submit
from aoe.target.export import Port
from aoe.target.state import AoeState
from tests.target.driver import (
    BROADCAST,
    CLIENT,
    RIVAL,
    SECOND,
    SERVER,
    SHELF,
    SLOT,
    STRANGER,
    Driver,
    Touch,
    ata,
    cache,
    config,
    flush,
    framed,
    identify,
    make_driver,
    make_export,
    mask,
    parse,
    read,
    reserve,
    trim,
    write,
)

OTHER_PORT = bytes.fromhex("0200000000ff")
DATA = b"d" * 512

EVERY_KIND: dict[str, Callable[..., bytes]] = {
    "identify": identify,
    "read": lambda **to: read(0, **to),
    "write": lambda **to: write(0, DATA, **to),
    "trim": lambda **to: trim((0, 8), **to),
    "flush": flush,
    "config read": lambda **to: config(0, **to),
    "config set": lambda **to: config(3, b"new", **to),
    "mask read": lambda **to: mask(0, **to),
    "mask edit": lambda **to: mask(1, (1, CLIENT), **to),
    "reserve read": lambda **to: reserve(0, **to),
    "reserve set": lambda **to: reserve(1, CLIENT, **to),
    "unknown": lambda **to: framed(0x42, bytes(12), **to),
    "version 2": lambda **to: framed(1, bytes(8), **({"verfl": 0x20} | to)),
}


def silent(driver: Driver, raw: bytes, reason: str) -> bool:
    """Nothing is sent, touched or changed, and it is counted once for its reason."""
    before, state = driver.responder.counters.copy(), driver.export.state
    sent = driver.send(raw)
    counted = driver.responder.counters - before
    return (
        not (sent or driver.log or driver.changes) and counted == {reason: 1} and driver.export.state == state
    )


# Who is answered at all


@pytest.mark.parametrize("length", range(24))
def test_runts(length: int) -> None:
    assert silent(make_driver(), identify()[:length], "runt")


@pytest.mark.parametrize("ethertype", ["0800", "8100", "88a1", "a288"])
def test_other_ethertypes(ethertype: str) -> None:
    raw = identify()
    assert silent(make_driver(), raw[:12] + bytes.fromhex(ethertype) + raw[14:], "wrong_ethertype")


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize(
    "dst", [RIVAL, OTHER_PORT, bytes(6), bytes.fromhex("0300000000fe"), b"\1\0\x5e\0\0\1"]
)
def test_frames_for_somebody_else(kind: str, dst: bytes) -> None:
    assert silent(make_driver(ports=2), EVERY_KIND[kind](dst=dst), "foreign_destination")


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("dst", [SERVER, BROADCAST])
def test_own_and_broadcast_destinations_are_answered(kind: str, dst: bytes) -> None:
    assert parse(make_driver().send(EVERY_KIND[kind](dst=dst))[0]).src == SERVER


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("src", [BROADCAST, bytes.fromhex("010000000000"), bytes.fromhex("030000000001")])
def test_group_sources(kind: str, src: bytes) -> None:
    assert silent(make_driver(), EVERY_KIND[kind](src=src), "group_source")


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize(("shelf", "slot"), [(SHELF, SLOT + 1), (SHELF + 1, SLOT), (0, 0), (0xFFFE, 0xFE)])
def test_other_addresses(kind: str, shelf: int, slot: int) -> None:
    assert silent(make_driver(), EVERY_KIND[kind](shelf=shelf, slot=slot), "other_address")


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("address", [{}, {"shelf": 0xFFFF, "slot": 0xFF}])
def test_the_mask_list_comes_before_everything_that_answers(kind: str, address: dict[str, int]) -> None:
    driver = make_driver()
    driver.export.restore(AoeState(mask=(RIVAL,), reserve=(RIVAL,)))
    assert silent(driver, EVERY_KIND[kind](**address), "masked")


@pytest.mark.parametrize("kind", [kind for kind in EVERY_KIND if kind != "version 2"])
def test_silence_rules_come_in_their_order(kind: str) -> None:
    """A frame with every reason to be dropped is counted for the first one."""
    driver = make_driver(mtu=500)
    driver.export.restore(AoeState(mask=(RIVAL,)))
    wrong: dict[str, Any] = {"dst": STRANGER, "src": BROADCAST, "verfl": 0x28, "shelf": 9}
    cures: list[tuple[str, dict[str, Any]]] = [
        ("response", {"verfl": 0x20}),
        ("foreign_destination", {"dst": SERVER}),
        ("group_source", {"src": CLIENT}),
        ("other_address", {"shelf": SHELF}),
        ("masked", {"src": RIVAL}),
    ]
    for reason, cure in cures:
        assert silent(driver, EVERY_KIND[kind](**wrong), reason), reason
        wrong |= cure
    assert parse(driver.send(EVERY_KIND[kind](**wrong))[0]).error == 5
    assert (
        silent(driver, EVERY_KIND[kind](**{**wrong, "verfl": 0x10}), "mtu_too_small") or kind == "version 2"
    )


@pytest.mark.parametrize("flags", range(8))
def test_flags_without_r_do_not_matter(flags: int) -> None:
    driver = make_driver()
    for error in (0, 6, 0xFF):
        assert driver.ask(write(0, DATA, verfl=0x10 | flags, error=error)).status == (0x40, 0)


def test_answers_leave_by_the_interface_the_question_came_by() -> None:
    driver = make_driver(ports=2)
    second = driver.responder.ports[1]
    raw = read(0, dst=OTHER_PORT)
    met, effect = driver.responder.receive(
        second, "peer 5", identify(dst=OTHER_PORT), driver.now_ns, driver.now_ns
    )
    assert met == Met(driver.export, second, CLIENT)
    assert effect.port is second  # type: ignore[union-attr]
    assert effect.origin == "peer 5"  # type: ignore[union-attr]
    assert driver.ask(raw, port=second, origin="peer 6").src == OTHER_PORT


# Who is new


def first_contacts(driver: Driver, *frames: bytes) -> list[bytes]:
    port = driver.responder.ports[0]
    effects = [
        it for raw in frames for it in driver.responder.receive(port, None, raw, *2 * (driver.now_ns,))
    ]
    return [it.mac for it in effects if isinstance(it, Met)]


def test_a_host_is_new_once_and_only_when_it_asks_which_disk_this_is() -> None:
    driver = make_driver()
    assert first_contacts(driver, config(0), read(0), identify(shelf=0xFFFF)) == []
    assert first_contacts(driver, identify(), identify(), identify(src=RIVAL), identify()) == [CLIENT, RIVAL]
    driver.export.restore(AoeState(mask=(CLIENT,)))
    assert first_contacts(driver, identify(src=STRANGER)) == []


def test_no_more_hosts_are_remembered_than_the_bound() -> None:
    driver = make_driver()
    macs = [b"\x02\xbb" + number.to_bytes(4, "big") for number in range(2 * limits.CLIENTS_KNOWN_MAX)]
    assert first_contacts(driver, *(identify(src=mac) for mac in macs)) == macs[: limits.CLIENTS_KNOWN_MAX]
    assert first_contacts(driver, *(identify(src=mac) for mac in macs)) == []


# Wildcards (order rule T7)

ADDRESSES = [(7, 3), (7, 4), (8, 3), (9, 9)]
WILDCARDS = {
    (0xFFFF, 0xFF): ADDRESSES,
    (0xFFFF, 3): [(7, 3), (8, 3)],
    (7, 0xFF): [(7, 3), (7, 4)],
    (9, 0xFF): [(9, 9)],
    (0xFFFF, 77): [],
    (77, 0xFF): [],
}


def many() -> Driver:
    driver = make_driver(*(make_export(shelf, slot) for shelf, slot in ADDRESSES))
    for key, export in driver.responder.exports.items():
        export.restore(AoeState(b"name %d.%d" % key))
    return driver


def answering(driver: Driver, raw: bytes) -> list[tuple[int, int]]:
    return [(reply.shelf, reply.slot) for reply in map(parse, driver.send(raw))]


@pytest.mark.parametrize("address", WILDCARDS)
@pytest.mark.parametrize("dst", [SERVER, BROADCAST])
def test_identify_and_config_read_are_answered_by_each(address: tuple[int, int], dst: bytes) -> None:
    driver = many()
    to: dict[str, Any] = {"shelf": address[0], "slot": address[1], "dst": dst}
    assert answering(driver, identify(**to)) == WILDCARDS[address]
    assert answering(driver, config(0, **to)) == WILDCARDS[address]
    assert not driver.log


@pytest.mark.parametrize("address", WILDCARDS)
def test_config_verbs_by_wildcard(address: tuple[int, int]) -> None:
    driver = many()
    to: dict[str, Any] = {"shelf": address[0], "slot": address[1]}
    named = [(7, 4)] if (7, 4) in WILDCARDS[address] else []
    assert answering(driver, config(1, b"name 7.4", **to)) == named
    assert answering(driver, config(2, b"name", **to)) == WILDCARDS[address]
    assert [parse(raw).error for raw in driver.send(config(3, b"all", **to))] == [4] * len(WILDCARDS[address])
    assert answering(driver, config(4, b"all", **to)) == WILDCARDS[address]
    renamed = [key for key, export in driver.responder.exports.items() if export.state.config == b"all"]
    assert renamed == WILDCARDS[address]


@pytest.mark.parametrize("address", [key for key, found in WILDCARDS.items() if found])
def test_nothing_else_runs_by_wildcard(address: tuple[int, int]) -> None:
    driver = many()
    driver.checked = False
    to: dict[str, Any] = {"shelf": address[0], "slot": address[1]}
    others = [ata(opcode, 1, 0, DATA, feature=1, **to) for opcode in range(256) if opcode != 0xEC]
    others += [framed(command, bytes(36), **to) for command in range(2, 256)]
    others += [identify(verfl=0x20, **to), config(0, verfl=0x00, **to)]
    others += [identify(**to)[:length] for length in range(24, 36)]
    for raw in others:
        assert not driver.send(raw), raw[:36]
    assert driver.counters == {"wildcard": len(others) * len(WILDCARDS[address])}
    assert not driver.log


def test_a_wildcard_question_is_gated_by_each_export() -> None:
    driver = many()
    driver.responder.exports[7, 3].restore(AoeState(mask=(RIVAL,)))
    driver.responder.exports[8, 3].restore(AoeState(reserve=(RIVAL,)))
    assert answering(driver, identify(shelf=0xFFFF, slot=0xFF)) == [(7, 4), (8, 3), (9, 9)]
    assert driver.counters["masked"] == 1


def test_a_wildcard_probe_with_broadcast_destination_as_winaoe_sends_it() -> None:
    driver = many()
    replies = driver.send(ata(0xEC, 1, aflags=0x40, dst=BROADCAST, shelf=0xFFFF, slot=0xFF, tag=0x05000000))
    assert [raw[36 + 200 : 36 + 208] for raw in replies] == [(2048).to_bytes(8, "little")] * 4


# Reservations


@pytest.mark.parametrize("kind", ["read", "write", "trim", "flush"])
def test_a_reserved_target_refuses_ata_with_error_6(kind: str) -> None:
    driver, raw = make_driver(), EVERY_KIND[kind]()
    driver.export.restore(AoeState(reserve=(RIVAL,)))
    reply = driver.ask(raw)
    assert (reply.verfl, reply.error, reply.body[:12]) == (0x1C, 6, raw[24:36])
    assert not driver.log
    assert driver.counters == {"reserved": 1}


def test_the_holder_and_identify_are_served() -> None:
    driver = make_driver()
    driver.export.restore(AoeState(reserve=(RIVAL,)))
    assert driver.ask(write(0, DATA, src=RIVAL)).status == (0x40, 0)
    assert driver.ask(identify()).status == (0x40, 0)


# Changes (order rule T5)


def persist_all(driver: Driver) -> list[bytes]:
    """Store whatever is to be stored, until nothing is."""
    sent = []
    while driver.changes:
        sent += driver.persist()
    return sent


def holding(state: AoeState = AoeState(), **how: int) -> Driver:  # noqa: B008
    driver = make_driver(**how)
    driver.export.restore(state)
    driver.held = True
    return driver


def test_a_reservation_is_acknowledged_when_stored_and_drained() -> None:
    for stored_first in (True, False):
        driver = holding()
        assert not driver.send(write(0, DATA, tag=1))
        assert not driver.send(reserve(1, RIVAL, src=RIVAL, tag=2))
        first, second = (driver.persist, driver.finish) if stored_first else (driver.finish, driver.persist)
        assert [parse(raw).tag for raw in first()] == ([] if stored_first else [1])
        assert [parse(raw).tag for raw in second()] == ([1, 2] if stored_first else [2])
        assert driver.responder.active == 0


def test_the_old_holder_is_out_as_soon_as_the_change_arrives() -> None:
    driver = holding()
    driver.send(write(0, DATA, tag=1))
    driver.send(reserve(1, RIVAL, src=RIVAL, tag=2))
    assert driver.ask(write(0, DATA, tag=3)).error == 6
    assert len(driver.jobs) == 1


@pytest.mark.parametrize("kind", ["read", "write", "trim", "flush"])
def test_a_change_waits_for_all_that_was_admitted(kind: str) -> None:
    driver = holding()
    driver.send(EVERY_KIND[kind](tag=1))
    driver.send(reserve(1, CLIENT, tag=2))
    assert not driver.persist()
    assert parse(driver.finish()[-1]).tag == 2


def test_a_change_waits_for_those_that_wait_for_a_place() -> None:
    driver = make_driver(make_export(places=1))
    driver.held = True
    for tag in range(1, 6):
        driver.send(write(0, DATA, tag=tag))
    driver.send(reserve(1, CLIENT, tag=9))
    driver.persist()
    assert [[parse(raw).tag for raw in driver.finish()] for _ in range(5)] == [[1], [2], [3], [4], [5, 9]]


def test_a_change_that_changes_nothing_is_a_fence_all_the_same() -> None:
    driver = holding(AoeState(reserve=(CLIENT,)))
    driver.send(write(0, DATA, tag=1))
    assert not driver.send(reserve(1, CLIENT, tag=2))
    assert not persist_all(driver)
    assert [parse(raw).tag for raw in driver.finish()] == [1, 2]


def test_messages_behind_a_change_wait_and_see_it() -> None:
    driver = holding()
    driver.send(config(3, b"one", tag=1))
    for tag, raw in enumerate(
        [config(0, tag=2), mask(0, tag=3), reserve(0, tag=4), config(3, b"two", tag=5)]
    ):
        assert not driver.send(raw), tag
    replies = [parse(raw) for raw in driver.persist()]
    assert [reply.tag for reply in replies] == [1, 2, 3, 4, 5]
    assert [replies[0].text, replies[1].text, replies[4].error] == [b"one", b"one", 4]
    assert driver.ask(config(0, tag=6)).text == b"one"


def test_changes_are_made_one_after_another() -> None:
    driver = holding()
    for tag, text in enumerate([b"a", b"b", b"c"], 1):
        assert not driver.send(config(4, text, tag=tag))
    for tag, text in enumerate([b"a", b"b", b"c"], 1):
        (change,) = driver.changes
        assert change.verdict.state.config == text
        (reply,) = map(parse, driver.persist())
        assert (reply.tag, reply.text) == (tag, text)


def test_the_waiting_are_gated_anew() -> None:
    driver = holding()
    driver.send(mask(1, (1, RIVAL), tag=1))
    driver.send(config(0, tag=2))
    driver.send(config(0, src=RIVAL, tag=3))
    assert [parse(raw).tag for raw in driver.persist()] == [1, 3]
    assert driver.counters["masked"] == 1


def test_a_change_too_old_is_dropped_also_after_it_waited() -> None:
    driver = holding()
    assert not driver.send(config(4, b"old"), age_ns=SECOND + 1)
    assert (driver.counters["expired"], driver.changes) == (1, [])
    driver.send(config(4, b"first", tag=1))
    driver.send(config(4, b"second", tag=2))
    driver.now_ns += SECOND + 1
    assert [parse(raw).tag for raw in driver.persist()] == [1]
    assert driver.export.state.config == b"first"
    assert driver.counters["expired"] == 2


CHANGES = {
    "config": config(4, b"new"),
    "mask": mask(1, (2, RIVAL)),
    "mask in part": mask(1, (2, RIVAL), (9, CLIENT)),
    "reserve": reserve(2, RIVAL),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_cannot_be_stored_is_refused_and_undone(name: str) -> None:
    before = AoeState(b"old", (CLIENT, RIVAL), (CLIENT,))
    driver = holding(before)
    driver.send(CHANGES[name])
    assert driver.export.state != before
    (reply,) = map(parse, driver.persist(ok=False))
    assert (reply.verfl, reply.error) == (0x1C, 3)
    assert driver.export.state == before
    assert driver.counters["state_not_saved"] == 1
    assert (reply.text if reply.command == 1 else reply.listed) == {
        "config": b"old",
        "reserve": [CLIENT],
    }.get(name, [CLIENT, RIVAL])


def test_after_a_failed_store_the_waiting_see_the_old_state() -> None:
    driver = holding(AoeState(b"old"))
    driver.send(config(4, b"new", tag=1))
    driver.send(config(0, tag=2))
    assert [parse(raw).text for raw in driver.persist(ok=False)] == [b"old", b"old"]


def test_data_commands_do_not_wait_for_a_change() -> None:
    driver = holding()
    driver.send(write(0, DATA, tag=1))
    driver.send(config(3, b"new", tag=2))
    driver.send(read(100, tag=3))
    assert [parse(raw).tag for raw in driver.finish(driver.jobs[1])] == [3]
    assert driver.ask(identify(tag=4)).status == (0x40, 0)


def test_the_line_behind_a_change_is_bounded() -> None:
    driver = holding()
    driver.send(config(3, b"new", tag=1))
    for tag in range(2, limits.ADMIN_QUEUE_MAX + 5):
        driver.send(config(0, tag=tag))
    assert driver.counters["queue_full"] == 3
    assert len(driver.persist()) == 1 + limits.ADMIN_QUEUE_MAX


def test_a_line_of_changes_does_not_exhaust_the_stack() -> None:
    driver = holding()
    driver.send(config(3, b"new", tag=1))
    for tag in range(2, 2 + limits.ADMIN_QUEUE_MAX):
        driver.send(config(3, b"new", tag=tag))
    assert [parse(raw).tag for raw in persist_all(driver)] == list(range(1, 2 + limits.ADMIN_QUEUE_MAX))
    assert driver.responder.active == 0


# Bounds


def test_an_export_holds_so_many_requests_and_no_more() -> None:
    driver = make_driver(make_export(7, 3), make_export(7, 4))
    driver.held = True
    for tag in range(limits.EXPORT_QUEUE_MAX):
        driver.send(write(8 * (tag % 200), DATA, tag=tag))
    for raw in (write(0, DATA), read(0), flush()):
        assert not driver.send(raw)
    assert driver.counters["queue_full"] == 3
    assert driver.responder.active == limits.EXPORT_QUEUE_MAX
    assert driver.ask(identify()).status == (0x40, 0)
    driver.send(write(0, DATA, slot=4, tag=5000))
    assert driver.responder.active == limits.EXPORT_QUEUE_MAX + 1
    driver.finish()
    driver.send(write(0, DATA, tag=5001))
    assert driver.counters["queue_full"] == 3


PIECE_BYTES = 36 + 8192


def fill(driver: Driver, slot: int) -> int:
    """How many writes of 16 sectors are taken before one is dropped; none of them ends."""
    for number in range(limits.EXPORT_QUEUE_MAX):
        before = driver.responder.active
        driver.send(write(16 * (number % 100), DATA * 16, slot=slot, tag=1000 * slot + number))
        if driver.responder.active == before:
            return number
    return limits.EXPORT_QUEUE_MAX


def test_the_target_holds_so_many_bytes_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TARGET_BYTES_MAX", 20 * PIECE_BYTES)
    driver = make_driver(*(make_export(7, slot) for slot in (3, 4)))
    driver.held = True
    assert [fill(driver, 3), fill(driver, 4)] == [10, 5]
    assert [fill(driver, 3), fill(driver, 4)] == [0, 0]
    assert driver.counters["queue_full"] == 4
    assert not driver.send(read(0, slot=3))
    while driver.jobs:
        driver.finish()
    assert [fill(driver, 4), fill(driver, 3)] == [10, 5]


@pytest.mark.parametrize(("hanging", "others", "least"), [(1, 1, 2), (8, 1, 2), (40, 1, 2), (60, 60, 1)])
def test_disks_that_hang_leave_the_bytes_of_a_request_to_each_other(
    hanging: int, others: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With jumbo frames, the queues of eight hold more than the target may."""
    monkeypatch.setattr(limits, "TARGET_BYTES_MAX", 200 * PIECE_BYTES)
    driver = make_driver(*(make_export(7, slot) for slot in range(hanging + others)))
    driver.held = True
    for slot in range(hanging):
        assert fill(driver, slot) >= least
    assert fill(driver, hanging) >= least
    assert driver.responder.active * PIECE_BYTES <= limits.TARGET_BYTES_MAX


def test_expired_and_refused_requests_hold_nothing() -> None:
    driver = holding()
    for age in (2 * SECOND, -1):
        driver.send(write(0, DATA), age_ns=age)
    driver.send(write(5000, DATA))
    driver.send(read(0, 255))
    assert driver.responder.active == 0
    assert len(driver.export.queue) == 0


def test_the_memory_held_is_the_memory_counted() -> None:
    driver = make_driver(make_export(sectors=1 << 14), mtu=65535)
    driver.held = True
    frames = [write(120 * tag, DATA * 120, tag=tag) + bytes(20) for tag in range(100)]
    tracemalloc.start()
    for number in range(100):
        driver.send(bytes(bytearray(frames[number])))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert driver.responder.active == 100
    assert held < 1.25 * sum(map(len, frames))


# Order, as far as the responder sees to it (the rest is in test_order)


def test_ranges_are_rounded_to_the_block_of_the_export() -> None:
    for block, together in ((512, 2), (4096, 1)):
        driver = make_driver(make_export(block=block))
        driver.held = True
        driver.send(write(0, DATA, tag=1))
        driver.send(write(7, DATA, tag=2))
        assert len(driver.jobs) == together


@pytest.mark.parametrize("raw", [flush(tag=2), trim(tag=2)], ids=["flush", "trim of nothing"])
def test_a_flush_is_answered_behind_earlier_writes(raw: bytes) -> None:
    driver = holding()
    driver.send(write(0, DATA, tag=1))
    driver.send(raw)
    driver.send(write(100, DATA, tag=3))
    assert [job.arrival.header.tag for job in driver.jobs] == [1, 3]
    assert [parse(raw).tag for raw in driver.finish()] == [1]
    assert [job.arrival.header.tag for job in driver.jobs] == [3, 2]


def test_reads_and_writes_of_one_place_are_done_in_the_order_of_arrival() -> None:
    driver = holding()
    driver.send(write(0, b"a" * 512, tag=1))
    driver.send(read(0, tag=2))
    driver.send(write(0, b"b" * 512, tag=3))
    driver.send(read(0, tag=4))
    shown: dict[int, bytes] = {}
    while driver.jobs:
        shown |= {reply.tag: reply.data[:1] for reply in map(parse, driver.finish(driver.jobs[-1]))}
    assert (shown[2], shown[4]) == (b"a", b"b")


def effects_of(driver: Driver, raw: bytes) -> list[Effect]:
    return driver.responder.receive(driver.port, "origin", raw, driver.now_ns, driver.now_ns)


def test_a_read_that_nothing_is_in_the_way_of_is_looked_up_at_once() -> None:
    driver = make_driver()
    (peek,) = effects_of(driver, read(5, 2))
    assert isinstance(peek, Peek)
    assert driver.counters == {}
    (reply,) = driver.responder.peeked(peek, b"x" * 1024, driver.now_ns)
    assert isinstance(reply, Send)
    assert parse(reply.frame).data == b"x" * 1024
    assert driver.counters == {"reads": 1}
    assert (driver.responder.active, len(driver.export.queue)) == (0, 0)


def test_a_read_that_would_have_to_wait_takes_its_place_in_the_order() -> None:
    driver = make_driver()
    (peek,) = effects_of(driver, read(5, 2))
    assert isinstance(peek, Peek)
    (submit,) = driver.responder.peeked(peek, None, driver.now_ns)
    assert isinstance(submit, Submit)
    assert not effects_of(driver, write(5, DATA, tag=2)), "it has to wait for the read"
    assert driver.counters == {"reads": 1, "writes": 1}


@pytest.mark.parametrize("before", [write(900, bytes(512), tag=1), trim((900, 1), tag=1)])
def test_no_read_is_looked_up_while_a_change_is_queued(before: bytes) -> None:
    driver = holding()
    driver.send(before)
    (submit,) = effects_of(driver, read(5, 2))
    assert isinstance(submit, Submit)
    driver.send(write(5, DATA, tag=3))
    assert not effects_of(driver, read(5, tag=4))


# Conflicts


@pytest.mark.parametrize("command", [0, 1, 2, 3, 0x77])
@pytest.mark.parametrize("dst", [SERVER, BROADCAST, STRANGER])
@pytest.mark.parametrize("verfl", [0x08, 0x18, 0x1C, 0x1F])
def test_a_foreign_reply_for_our_address_is_a_conflict(command: int, dst: bytes, verfl: int) -> None:
    driver = make_driver()
    assert not driver.send(framed(command, bytes(36), src=RIVAL, dst=dst, verfl=verfl))
    assert [(one.export, one.mac) for one in driver.conflicts] == [(driver.export, RIVAL)]
    assert driver.counters == {"address_claimed": 1}


@pytest.mark.parametrize("src", [SERVER, OTHER_PORT])
def test_our_own_replies_are_none(src: bytes) -> None:
    driver = make_driver(ports=2)
    assert silent(driver, framed(1, bytes(36), src=src, dst=BROADCAST, verfl=0x18), "response")
    assert not driver.conflicts


@pytest.mark.parametrize(
    ("shelf", "slot"), [(SHELF, SLOT + 1), (0xFFFF, 0xFF), (SHELF, 0xFF), (0xFFFF, SLOT)]
)
def test_replies_of_other_addresses_are_none(shelf: int, slot: int) -> None:
    driver = make_driver()
    assert silent(driver, framed(1, bytes(36), verfl=0x18, shelf=shelf, slot=slot), "response")
    assert not driver.conflicts


# The cache


def durable(driver: Driver, raw: bytes) -> bool:
    driver.send(raw)
    job = driver.jobs[-1]
    driver.finish(job)
    return job.durable


def word(driver: Driver, place: int) -> int:
    data = driver.ask(identify()).data
    return int.from_bytes(data[2 * place : 2 * place + 2], "little")


def fua(lba: int) -> bytes:
    return ata(0x3D, 1, lba, DATA, aflags=0x41)


def test_write_through_is_durable_whatever_is_switched() -> None:
    driver = holding()
    for raw in (write(0, DATA), fua(0), cache(True), write(0, DATA), cache(False), write(0, DATA)):
        assert durable(driver, raw)
    assert not (word(driver, 82) | word(driver, 85)) & 0x20


def test_write_back_follows_the_switch() -> None:
    driver = make_driver(make_export(identity={"cache": True, "cache_on": True}))
    driver.held = True
    assert not durable(driver, write(0, DATA))
    assert durable(driver, fua(0))
    assert (word(driver, 82) & 0x20, word(driver, 85) & 0x20) == (0x20, 0x20)
    durable(driver, cache(False))
    assert durable(driver, write(0, DATA))
    assert (word(driver, 82) & 0x20, word(driver, 85) & 0x20) == (0x20, 0)
    durable(driver, cache(True))
    assert not durable(driver, write(0, DATA))
    assert word(driver, 85) & 0x20


def test_switching_the_cache_off_flushes_behind_earlier_writes() -> None:
    driver = make_driver(make_export(identity={"cache": True, "cache_on": True}))
    driver.held = True
    driver.send(write(0, DATA, tag=1))
    driver.send(cache(False, tag=2))
    driver.send(write(100, DATA, tag=3))
    assert [job.operation.kind for job in driver.jobs] == [Kind.WRITE, Kind.WRITE]
    assert [job.durable for job in driver.jobs] == [False, True]
    assert [parse(raw).tag for raw in driver.finish()] == [1]
    assert driver.jobs[-1].operation.kind is Kind.CACHE_OFF
    assert [parse(raw).tag for raw in driver.finish(driver.jobs[-1])] == [2]


def test_a_switch_that_was_not_admitted_switches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = make_driver(make_export(identity={"cache": True, "cache_on": True}))
    monkeypatch.setattr(limits, "EXPORT_QUEUE_MAX", 0)
    assert silent(driver, cache(False), "queue_full")
    assert driver.export.identity.cache_on


def test_a_switch_off_whose_flush_fails_is_an_error() -> None:
    driver = make_driver(make_export(identity={"cache": True, "cache_on": True}))
    driver.error = DiskError("sync failed", 0, 5)
    assert driver.ask(cache(False)).status == (0x41, 0x04)
    assert not driver.export.identity.cache_on


# MTU and size


def test_another_mtu_another_limit() -> None:
    driver = make_driver(mtu=9000)
    for mtu, sectors in ((1500, 2), (9000, 16), (600, 1), (65535, 120), (4200, 8)):
        driver.port.change(SERVER, mtu)
        assert driver.ask(config(0)).body[4] == sectors
        assert driver.ask(read(0, sectors)).status == (0x40, 0)
        assert driver.ask(read(0, sectors + 1)).status == (0x41, 0x04)
        assert driver.ask(write(0, DATA * (sectors + 1))).status == (0x41, 0x04)


def test_each_interface_has_its_own_limit() -> None:
    driver = make_driver(ports=2)
    small = driver.responder.ports[1]
    small.change(OTHER_PORT, 1500)
    assert driver.ask(read(0, 16)).status == (0x40, 0)
    assert driver.ask(read(0, 16, dst=OTHER_PORT), port=small).status == (0x41, 0x04)
    assert driver.ask(config(0, dst=OTHER_PORT), port=small).body[4] == 2


def test_another_mac_answers_from_it() -> None:
    driver = make_driver()
    driver.port.change(STRANGER, 9000)
    assert not driver.send(identify())
    assert driver.ask(identify(dst=STRANGER)).src == STRANGER


def test_a_reply_that_no_longer_fits_is_silence_and_frees_its_place() -> None:
    driver = holding()
    driver.send(read(0, 16))
    driver.port.change(SERVER, 1500)
    assert not driver.finish()
    assert driver.counters["reply_too_long"] == 1
    assert driver.responder.active == len(driver.export.queue) == 0


def test_a_list_that_does_not_fit_is_silence() -> None:
    driver = make_driver(mtu=9000)
    macs = tuple(b"\x02\xaa" + number.to_bytes(4, "big") for number in range(254))
    driver.export.restore(AoeState(mask=(CLIENT, *macs), reserve=(CLIENT, *macs)))
    driver.port.change(SERVER, 1500)
    for raw in (mask(0), reserve(0)):
        assert not driver.send(raw)
    assert driver.counters["reply_too_long"] == 2


@pytest.mark.parametrize("mtu", [68, 533])
def test_an_interface_without_room_for_a_sector_is_silent(mtu: int) -> None:
    for raw in (identify(), config(0), mask(0), reserve(0), read(0), framed(9)):
        assert silent(make_driver(mtu=mtu), raw, "mtu_too_small")


def test_a_disk_that_grew() -> None:
    driver = make_driver()
    assert driver.ask(read(2048)).status == (0x41, 0x10)
    driver.export.describe(driver.export.identity._replace(sectors=4096))
    driver.disks[driver.export.key].extend(bytes(2048 * 512))
    assert driver.ask(read(2048)).status == (0x40, 0)
    assert word(driver, 100) == 4096


# Disk errors and counters


BROKEN = {
    "read": (read(8, 4), DiskError("io", 10 * 512, 5), (0x41, 0x40), 10),
    "verify": (ata(0x42, 0, 8), DiskError("io", 200 * 512, 5), (0x41, 0x40), 200),
    "write": (write(8, DATA * 4), DiskError("io", 11 * 512, 5), (0x41, 0x04), 11),
    "trim": (trim((8, 8)), DiskError("io", 9 * 512, 5), (0x41, 0x04), 9),
    "flush": (flush(), DiskError("io", 0, 5), (0x41, 0x04), 0),
    "write after a failed sync": (write(8, DATA), DiskFailed("failed", 0), (0x61, 0x04), 8),
    "flush after a failed sync": (flush(), DiskFailed("failed", 0), (0x61, 0x04), 0),
    "read in 28 bits": (ata(0x20, 4, 0xE0000008), DiskError("io", 10 * 512, 5), (0x41, 0x40), 0xE000000A),
}


@pytest.mark.parametrize("name", BROKEN)
def test_disk_errors_are_ata_errors(name: str) -> None:
    raw, error, registers, lba = BROKEN[name]
    driver = make_driver(make_export(sectors=70_000))
    driver.error = error
    reply = driver.ask(raw)
    assert (reply.verfl, reply.status, reply.lba) == (0x18, registers, lba)
    assert driver.counters["disk_errors"] == 1
    assert driver.responder.active == 0


def test_one_counter_for_each_fate() -> None:
    driver = make_driver()
    for raw in (read(0), write(0, DATA), ata(0x40), trim((0, 1)), flush(), cache(True), cache(False)):
        driver.send(raw)
    for raw in (identify(), ata(0xE5), ata(0x00), config(0), config(9), framed(8), config(0, verfl=0x30)):
        driver.send(raw)
    driver.send(config(4, b"new"))
    disk = ["reads", "writes", "verifies", "trims", "flushes", "cache_on", "cache_off"]
    rest = ["identify", "no_data_commands", "refused_ata", "queries", "refused_admin", "unknown_command"]
    assert driver.counters == dict.fromkeys([*disk, *rest, "bad_version", "changes"], 1)


def test_what_was_written_is_read_back() -> None:
    driver = make_driver()
    for lba, count in itertools.product((0, 5, 2048 - 16), (1, 2, 16)):
        data = bytes((lba + count + i) % 251 for i in range(512 * count))
        assert driver.ask(write(lba, data)).status == (0x40, 0)
        assert driver.ask(read(lba, count)).data == data
    driver.ask(trim((4, 3), (6, 1)))
    assert driver.ask(read(4, 3)).data == bytes(3 * 512)
    assert driver.log[-2] == Touch(Kind.TRIM, ((4, 3), (6, 1)))


def test_a_port_knows_its_sectors() -> None:
    port = Port("p", SERVER, 1500)
    assert port.sectors == 2
    port.change(SERVER, 100)
    assert port.sectors == 0


# Frames of another version


@pytest.mark.parametrize("version", [0x00, 0x20, 0xF0])
@pytest.mark.parametrize(
    "message",
    [
        lambda **to: config(3, b"theirs", **to),
        lambda **to: config(4, b"theirs", length=1024, **to),
        lambda **to: config(0, b"theirs", **to),
        lambda **to: framed(1, b"\xff" * 5, **to),
        lambda **to: framed(1, b"", **to),
    ],
    ids=["set", "lying length", "read", "cut", "empty"],
)
def test_another_version_of_config_is_told_our_string(message: Callable[..., bytes], version: int) -> None:
    """The argument of the request must not pass for what is set."""
    driver = make_driver(make_export(state=AoeState(config=b"ours")))
    reply = driver.ask(message(verfl=version))
    assert (reply.verfl, reply.error) == (0x1C, 5)
    assert reply.text == b"ours"
    assert driver.export.state.config == b"ours"


@pytest.mark.parametrize("state", [AoeState(), AoeState(reserve=(CLIENT, RIVAL))], ids=["free", "reserved"])
@pytest.mark.parametrize(
    "message",
    [lambda **to: reserve(1, STRANGER, **to), lambda **to: reserve(2, STRANGER, count=255, **to)],
    ids=["set", "lying count"],
)
def test_another_version_of_reserve_is_told_who_holds(message: Callable[..., bytes], state: AoeState) -> None:
    driver = make_driver(make_export(state=state))
    reply = driver.ask(message(verfl=0x20))
    assert (reply.verfl, reply.error) == (0x1C, 5)
    assert reply.listed == list(state.reserve)
    assert driver.export.state == state


def test_another_version_of_mask_is_told_the_list() -> None:
    driver = make_driver(make_export(state=AoeState(mask=(CLIENT, RIVAL))))
    reply = driver.ask(mask(1, (1, STRANGER), verfl=0x20))
    assert (reply.verfl, reply.error) == (0x1C, 5)
    assert reply.listed == [CLIENT, RIVAL]


def test_another_version_is_told_nothing_of_a_change_that_is_not_stored() -> None:
    driver = make_driver(make_export(state=AoeState(config=b"ours")))
    driver.held = True
    assert driver.send(config(4, b"new")) == []
    assert driver.ask(config(0, verfl=0x20)).text == b"ours"
