"""What can wait while others ask: how much of it is at the disks, counted, and who says so."""

import itertools
from collections import deque
from typing import Any

import pytest

from aoe.limits import BACKGROUND_MAX
from aoe.target.background import BACKGROUND_PASSED, Background, Leeway
from aoe.target.order import By, OrderQueue, Ticket
from aoe.wire.stamp import BACKGROUND
from tests.target import driver
from tests.target.driver import MS, SECOND, Driver, make_driver, make_export
from tests.target.shared_disk import Client, SharedDisk, wrote

COPIER, OTHER = (bytes((2, 0, 0, 0, 0, last)) for last in (0x11, 0x12))
INSTANCE = 0x1122334455667788
PLACES = 16


class Disk:
    """A queue of an export and what is at its disk, in the order in which it went there."""

    def __init__(self, leeway: Leeway, places: int = PLACES) -> None:
        self.queue: OrderQueue[str] = OrderQueue(512, places)
        self.queue.share(leeway)
        self.there: deque[Ticket[str]] = deque()
        self._lba = 0

    def asks(self, who: str, number: int = 1, *, changes: bool = False, stamp_ns: int = 0) -> None:
        for _ in range(number):
            self._lba += 1
            self.queue.admit(who, [(self._lba, 1)], changes, by=By(who, stamp_ns, who == "copy"))
        self.goes_on()

    def goes_on(self, late_ns: int = 0) -> None:
        while (ticket := self.queue.take(late_ns)) is not None:
            self.there.append(ticket)

    def does(self, number: int = 1) -> None:
        for _ in range(number):
            self.queue.done(self.there.popleft())
            self.goes_on()

    def at(self, who: str) -> int:
        return [it.job for it in self.there].count(who)


def test_a_copy_that_is_alone_has_all_places_after_a_few_requests() -> None:
    disk = Disk(Leeway())
    disk.asks("copy", 100)
    counts = []
    for _ in range(PLACES):
        counts.append(disk.at("copy"))
        disk.does()
    assert counts[:5] == [1, 1, 2, 3, 4]
    assert disk.at("copy") == PLACES


def test_beside_one_that_asks_all_the_time_one_of_it_is_at_the_disk() -> None:
    disk = Disk(Leeway())
    disk.asks("copy", 200)
    disk.does(PLACES)
    counts = []
    for _ in range(100):
        disk.asks("other")
        disk.does(2)
        counts.append(disk.at("copy"))
    assert counts[0] > PLACES // 2
    assert set(counts[PLACES:]) == {1}


def test_another_goes_first_where_places_are_taken() -> None:
    disk = Disk(Leeway())
    disk.asks("copy", 100)
    disk.does(PLACES)
    disk.asks("other", 2)
    disk.does(2)
    assert disk.at("other") == 2


def test_what_waits_for_all_others_comes_to_its_end() -> None:
    """One of it is always at the disk, or next."""
    disk = Disk(Leeway(), places=4)
    disk.asks("other", 100)
    disk.asks("copy", 10)
    done = 0
    while disk.at("copy") or disk.queue:
        disk.asks("other", 1)
        done += disk.there[0].job == "copy"
        disk.does()
        if done == 10:
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("places", [1, 4])
def test_where_others_wait_for_a_place_one_goes_after_so_many_of_them(places: int) -> None:
    disk = Disk(Leeway(), places=places)
    disk.asks("other", 200)
    disk.asks("copy", 10)
    went = []
    for _ in range(150):
        went.append(disk.there[0].job)
        disk.does()
    copies = [at for at, who in enumerate(went) if who == "copy"]
    assert {later - at for at, later in itertools.pairwise(copies)} == {BACKGROUND_PASSED + 1}
    assert len(copies) == 8


def test_it_waits_for_those_of_other_exports_too() -> None:
    leeway = Leeway()
    disk, snapshot = Disk(leeway), Disk(leeway)
    snapshot.asks("copy", 100)
    snapshot.does(PLACES)
    assert snapshot.at("copy") == PLACES
    for _ in range(2 * PLACES):
        disk.asks("other")
        disk.does()
        snapshot.does()
    assert snapshot.at("copy") == 1


def test_a_write_of_it_that_would_become_too_old_does_not_wait() -> None:
    """Order rule T3."""
    disk = Disk(Leeway())
    disk.asks("other", 4)
    disk.asks("copy", 8, changes=True, stamp_ns=SECOND)
    assert disk.at("copy") == 1
    disk.goes_on(late_ns=SECOND + 1)
    assert disk.at("copy") == 8


def test_of_more_clients_than_there_is_room_for_the_first_is_forgotten() -> None:
    known = Background()
    macs = [bytes((2, 0, 0, 0, 0, last)) for last in range(BACKGROUND_MAX + 1)]
    for mac in macs[:-1]:
        known.says(mac, True)
    known.says(macs[0], True)
    known.says(macs[-1], True)
    assert [mac in known for mac in macs] == [True, False, *[True] * (BACKGROUND_MAX - 1)]
    known.says(macs[0], False)
    assert macs[0] not in known


# Who says so


def asks_what_it_is(
    there: Driver, word: int, tag: int, instance: int = INSTANCE, src: bytes = COPIER
) -> None:
    plain = driver.ata(0xEC, lba=word, src=src)
    there.send(driver.stamped(plain, stream=9, epoch=1, instance=instance, tag=tag))


@pytest.fixture
def there() -> Driver:
    made = make_driver(make_export(identity={"instance": INSTANCE}))
    made.checked = False
    return made


def test_an_initiator_says_it_with_its_stream(there: Driver) -> None:
    asks_what_it_is(there, BACKGROUND, tag=1)
    assert COPIER in there.export.background
    assert OTHER not in there.export.background


@pytest.mark.parametrize("how", ["no more", "for another life", "foreign"])
def test_the_last_word_counts(there: Driver, how: str) -> None:
    asks_what_it_is(there, BACKGROUND, tag=1)
    if how == "foreign":
        there.send(driver.ata(0xEC, lba=BACKGROUND, src=COPIER))
    else:
        other_life = how == "for another life"
        asks_what_it_is(there, BACKGROUND * other_life, tag=2, instance=INSTANCE + other_life)
    assert COPIER not in there.export.background


def test_it_stands_beside_what_is_said_to_a_server_that_drains(there: Driver) -> None:
    asks_what_it_is(there, BACKGROUND | 1, tag=1)
    assert there.export.departures._told[COPIER].word == 1


# In virtual time


class Copy(Client):
    """It says that it can wait before it begins."""


def world(*clients: Client, **disk: Any) -> SharedDisk:
    made = SharedDisk(*clients, **disk)
    for client in clients:
        if isinstance(client, Copy):
            made.driver.export.background.says(driver_mac(client), True)
    return made


def driver_mac(client: Client) -> bytes:
    return b"\x02\x00\x01" + client.number.to_bytes(3, "big")


def rate(client: Client, made: SharedDisk, requests: int = 2000) -> float:
    """Requests a second, of the disk's so many."""
    made.run(3000)
    client.waits.clear()
    began_ns = made.now_ns
    made.run(requests)
    return len(client.waits) * SECOND / (made.now_ns - began_ns)


@pytest.mark.parametrize("slots", [1, 4, 16])
def test_a_client_at_full_load_keeps_nine_tenths(slots: int) -> None:
    alone, beside = Client(1, depth=32), Client(1, depth=32)
    before = rate(alone, world(alone, slots=slots))
    assert rate(beside, world(beside, Copy(2, depth=64), slots=slots)) > 0.9 * before


def test_a_copy_takes_what_a_modest_client_leaves() -> None:
    alone, beside = Copy(2, depth=64), Copy(2, depth=64)
    before = rate(alone, world(alone, slots=4))
    modest = Client(1, interval_ns=5 * MS)
    assert rate(beside, world(beside, modest, slots=4)) > 0.8 * before


def test_alone_it_is_as_fast_as_anyone() -> None:
    usual, copy = Client(2, depth=64, frame=wrote), Copy(2, depth=64, frame=wrote)
    assert rate(copy, world(copy, slots=8)) > 0.99 * rate(usual, world(usual, slots=8))
