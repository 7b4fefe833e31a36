"""What can wait while others ask: how much of it is at the disks, counted, and who says so."""

import itertools
from collections import deque
from typing import Any

import pytest

from aoe.limits import BACKGROUND_MAX
from aoe.target.background import BACKGROUND_PASSED, Background, Leeway
from aoe.target.cut import Cut
from aoe.target.order import By, OrderQueue, Ticket
from aoe.timing import BACKGROUND_REST_MAX_NS
from aoe.wire.stamp import BACKGROUND
from tests.target import driver
from tests.target.driver import MS, SECOND, Driver, make_driver, make_export
from tests.target.shared_disk import SERVICE_NS, WIRE_NS, Client, SharedDisk, wrote

COPIER, OTHER = (bytes((2, 0, 0, 0, 0, last)) for last in (0x11, 0x12))
INSTANCE = 0x1122334455667788
PLACES = 16


class Disk:
    """A queue of an export and what is at its disk, in the order in which it went there. Unless told, it
    takes no time."""

    def __init__(self, leeway: Leeway, places: int = PLACES) -> None:
        self.queue: OrderQueue[str] = OrderQueue(512, places)
        self.queue.share(leeway)
        self.there: deque[tuple[Ticket[str], int]] = deque()
        self.now_ns = SECOND
        self.until_ns = 0
        self._lba = 0

    def asks(self, who: str, number: int = 1, *, changes: bool = False, stamp_ns: int = 0) -> None:
        for _ in range(number):
            self._lba += 1
            self.queue.admit(who, [(self._lba, 1)], changes, by=By(who, stamp_ns, who == "copy"))
        self.goes_on()

    def goes_on(self, late_ns: int = 0) -> None:
        while (ticket := self.queue.take(late_ns)) is not None:
            self.there.append((ticket, self.now_ns))

    def does(self, number: int = 1, took_ns: int = 0) -> None:
        for _ in range(number):
            self.now_ns += took_ns
            self.until_ns = self.queue.done(*self.there.popleft(), self.now_ns) or self.until_ns
            self.goes_on()

    def waits(self, ns: int) -> None:
        self.now_ns += ns
        if 0 < self.until_ns <= self.now_ns:
            self.queue.rested(self.until_ns)
            self.until_ns = 0
        self.goes_on()

    def at(self, who: str) -> int:
        return [it.job for it, _ in self.there].count(who)


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
        done += disk.there[0][0].job == "copy"
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
        went.append(disk.there[0][0].job)
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


# It rests where others ask


def resting(took_ns: int) -> Disk:
    """One of it is done, which took so long, and another one was asked for meanwhile."""
    disk = Disk(Leeway())
    disk.asks("copy", 20)
    disk.asks("other")
    disk.does(took_ns=took_ns)
    assert disk.at("copy") == 0
    return disk


@pytest.mark.parametrize(
    ("took_ns", "rest_ns"), [(MS // 10, 8 * MS // 10), (2 * MS, 16 * MS), (SECOND, BACKGROUND_REST_MAX_NS)]
)
def test_after_one_beside_others_it_rests_for_eight_times_as_long(took_ns: int, rest_ns: int) -> None:
    disk = resting(took_ns)
    disk.waits(rest_ns - 1)
    assert disk.at("copy") == 0
    disk.waits(1)
    assert disk.at("copy") == 1


def test_others_go_on_meanwhile() -> None:
    disk = resting(MS)
    disk.does()
    disk.asks("other", 2 * PLACES)
    assert (disk.at("copy"), disk.at("other")) == (0, PLACES)
    disk.does(BACKGROUND_PASSED + 1)
    assert disk.at("copy") == 0


def test_it_does_not_rest_where_no_one_asked_meanwhile() -> None:
    disk = resting(MS)
    disk.does()
    disk.waits(8 * MS)
    for count in range(2, 8):
        disk.does(took_ns=MS)
        assert disk.at("copy") == count


def test_of_those_that_were_there_together_each_took_what_came_after_the_one_before() -> None:
    disk = Disk(Leeway())
    disk.asks("copy", 200)
    disk.does(2 * PLACES)
    disk.does(PLACES, took_ns=MS)
    disk.asks("other")
    disk.does(took_ns=MS)
    assert disk.until_ns == disk.now_ns + 8 * MS


def test_what_is_longer_at_rest_is_not_woken_early() -> None:
    disk = Disk(Leeway())
    disk.asks("copy", 100)
    disk.does(2 * PLACES)
    disk.asks("other")
    disk.does(took_ns=MS)
    first_ns = disk.until_ns
    disk.asks("other")
    disk.does(took_ns=2 * MS)
    assert disk.until_ns > first_ns
    before = disk.at("copy")
    disk.queue.rested(first_ns)
    disk.goes_on()
    assert disk.at("copy") == before
    disk.does(before)
    disk.asks("other")
    assert disk.at("copy") == 0
    disk.waits(disk.until_ns - disk.now_ns)
    assert disk.at("copy") == 1


def test_a_write_of_it_that_would_become_too_old_does_not_rest() -> None:
    """Order rule T3."""
    disk = resting(MS)
    disk.asks("copy", changes=True, stamp_ns=SECOND)
    disk.goes_on(late_ns=SECOND)
    assert disk.at("copy") == 0
    disk.does()
    for _ in range(19):
        disk.waits(8 * MS)
        disk.asks("other")
        while disk.there:
            disk.does(took_ns=MS)
    assert disk.at("copy") == 0
    disk.goes_on(late_ns=SECOND + 1)
    assert disk.at("copy") == 1


def test_a_snapshot_does_not_wait_for_it_to_rest() -> None:
    """The changes that were let through before it are over in 250 ms, or there is none."""
    disk = Disk(Leeway())
    disk.asks("copy", 9, changes=True)
    disk.asks("other")
    disk.does(took_ns=MS)
    assert disk.at("copy") == 0
    disk.queue.cut(Cut(1 << 20, 1 << 19))
    for _ in range(9):
        disk.goes_on()
        disk.does(disk.at("copy") + disk.at("other"), took_ns=MS)
    assert disk.queue.holds


def share(asks_ns: int, took_ns: int = MS // 10, lasts_ns: int = 300 * MS) -> float:
    """The part of the time for which the disk with a snapshot does what a copy asks, one after the other, as
    another client asks another disk all the time."""
    leeway = Leeway()
    disk, snapshot = Disk(leeway), Disk(leeway, places=1)
    done = 0
    snapshot.asks("copy", lasts_ns // took_ns + 1)
    until_ns, asks_at_ns = snapshot.now_ns + lasts_ns, snapshot.now_ns
    while snapshot.now_ns < until_ns:
        ends_ns = snapshot.there[0][1] + took_ns if snapshot.there else snapshot.until_ns
        if asks_ns and asks_at_ns <= ends_ns:
            snapshot.now_ns = asks_at_ns
            disk.asks("other")
            disk.does()
            asks_at_ns += asks_ns
        elif snapshot.there:
            snapshot.does(took_ns=ends_ns - snapshot.now_ns)
            done += 1
        else:
            snapshot.waits(ends_ns - snapshot.now_ns)
    return done * took_ns / lasts_ns


@pytest.mark.parametrize("asks_ns", [MS // 100, MS // 20, MS // 10])
def test_beside_one_that_asks_another_disk_it_has_a_ninth_of_the_time(asks_ns: int) -> None:
    assert 0.10 < share(asks_ns) <= 0.112


def test_a_slow_disk_does_more_of_it() -> None:
    """It rests for no longer than 20 ms."""
    assert share(MS, took_ns=20 * MS, lasts_ns=4 * SECOND) == pytest.approx(0.5, abs=0.01)


def test_alone_it_has_all_of_the_time() -> None:
    assert share(0) > 0.99


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


@pytest.mark.parametrize("slots", [1, 4])
def test_beside_a_client_that_asks_for_one_thing_at_a_time_it_has_a_ninth_of_a_slot(slots: int) -> None:
    client, copy = Client(1, depth=1), Copy(2, depth=64)
    made = world(client, copy, slots=slots)
    made.run(500)
    began_ns, asked, copied = made.now_ns, len(client.waits), len(copy.waits)
    made.run(1000)
    took_ns = made.now_ns - began_ns
    assert (len(client.waits) - asked) * (SERVICE_NS + WIRE_NS) > 0.85 * took_ns
    assert 0.07 < (len(copy.waits) - copied) * SERVICE_NS / took_ns < 0.112
