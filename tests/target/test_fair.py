"""Clients of one export share its disk: how long one waits because of another, in virtual time."""

import random
from collections.abc import Hashable
from typing import Any

import pytest

from aoe.drive.command import CHANGES_DATA
from aoe.limits import CLIENTS_MAX
from aoe.target.depth import Depth
from aoe.target.export import Job
from aoe.target.rates import Limits
from aoe.target.turns import Turns
from aoe.timing import SHARED_NS
from tests.target import driver
from tests.target.driver import MS, SECOND
from tests.target.shared_disk import SECTORS, SERVICE_NS, Client, Flood, Frame, SharedDisk, wrote

SETTLED = 3000
"""Requests after which no more are at the disk than it works on."""
LOOKED = 2000
FULL = 64


def modest(slots: int, number: int = 1, frame: Frame = driver.read) -> Client:
    """One that asks for a tenth of what the disk can do, mostly for one thing at a time."""
    return Client(number, interval_ns=max(SERVICE_NS, 10 * SERVICE_NS // slots), frame=frame)


def run(*clients: Client, slots: int, settled: int = SETTLED, **disk: Any) -> float:
    """The part of the disk that was busy, once it is known how much it can do."""
    world = SharedDisk(*clients, slots=slots, **disk)
    world.run(settled)
    for client in clients:
        client.waits.clear()
    return world.run(LOOKED)


def few(slots: int, others: int = 1) -> int:
    """Requests of others that may pass one: what the disk works on when it comes, what does so beside it, and
    a few more for a moment while that is tried."""
    return 2 * slots + 2 * others + 3


def test_alone_a_client_has_all_places() -> None:
    world = SharedDisk(Client(1, depth=FULL), slots=2)
    world.run(500)
    assert world.at_disk_most == FULL


@pytest.mark.parametrize(
    ("slots", "frame", "varies"),
    [
        (1, driver.read, 0.0),
        (3, driver.read, 0.0),
        (4, wrote, 0.0),
        (17, driver.read, 0.0),
        (4, driver.read, 0.9),
        (16, wrote, 0.5),
    ],
)
def test_beside_one_at_full_load_a_request_takes_less_than_twice_as_long(
    slots: int, frame: Frame, varies: float
) -> None:
    alone, beside = modest(slots), modest(slots)
    run(alone, slots=slots, varies=varies)
    busy = run(beside, Client(2, depth=FULL, frame=frame), slots=slots, varies=varies)
    assert beside.part(0.5) < 1.75 * alone.part(0.5)
    assert beside.part(0.9) < 2.1 * alone.part(0.9)
    assert beside.passed <= few(slots) + (slots if varies else 0)
    assert busy > 0.9


def latest(_rng: random.Random, count: int) -> int:
    """Of so many that wait."""
    return count - 1


KINDS: dict[str, dict[str, Any]] = {
    "one head": {"slots": 1, "settled": 3 * SETTLED},
    "many slots": {"slots": 32, "varies": 0.5},
    "an odd number of slots": {"slots": 10, "varies": 0.5},
    "an elevator": {"slots": 8, "varies": 0.5, "picks": lambda rng, count: rng.randrange(count)},
    "the latest first": {"slots": 4, "varies": 0.5, "picks": latest},
    "a processor behind slots": {"slots": 64, "door_ns": SERVICE_NS // 12, "varies": 0.2},
    "a busy processor behind slots": {"slots": 64, "door_ns": SERVICE_NS // 6, "varies": 0.2},
    "slower the more there are": {"slots": 16, "longer": 0.02, "varies": 0.5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_neither_suffers_from_the_other(kind: str) -> None:
    """One at full load, which has more outstanding than there are places, and one that asks for little."""
    disk = {"settled": SETTLED // 2, **KINDS[kind]}
    alone, beside = modest(min(disk["slots"], 8)), modest(min(disk["slots"], 8))
    run(alone, **{**disk, "settled": 1})
    busy = run(Client(2, depth=FULL + 32), **{**disk, "settled": FULL + 32})
    assert run(beside, Client(2, depth=FULL + 32), **disk) > 0.85 * busy
    assert beside.part(0.99) < 2.2 * alone.part(0.99)


@pytest.mark.parametrize("slots", [6, 8])
def test_what_waits_is_not_overlooked_where_most_requests_take_no_longer(slots: int) -> None:
    """Where the latest goes first, a few of those that wait do so for ever."""
    full = Client(2, depth=FULL + 32)
    world = SharedDisk(modest(slots), full, slots=slots, varies=0.9, picks=latest)
    world.run(SETTLED // 2)
    world.at_disk_most = 0
    world.run(LOOKED)
    assert world.at_disk_most <= 2 * slots


@pytest.mark.parametrize("others", [2, 5])
def test_beside_several_it_waits_for_one_more_of_each(others: int) -> None:
    """They have more outstanding than there are places."""
    it = modest(4)
    assert run(it, *(Client(2 + 2 * n, depth=FULL) for n in range(others)), slots=4) > 0.9
    assert it.passed <= few(4, others)


def test_those_at_full_load_get_the_same() -> None:
    """However many requests each has outstanding."""
    them = [Client(2, depth=200), Client(4, depth=20), Client(6, depth=FULL, frame=wrote)]
    run(*them, slots=4)
    counts = [len(it.waits) for it in them]
    assert max(counts) - min(counts) < LOOKED / 20


class OneLine(Turns[Job]):
    def add(self, client: Hashable, what: Job) -> None:
        super().add(None, what)


def test_it_is_found_where_clients_take_no_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aoe.target.order.Turns", OneLine)
    it = modest(4)
    run(it, Client(2, depth=FULL), slots=4)
    assert max(wait.passed for wait in it.waits) >= FULL - 4


def test_it_is_found_where_a_disk_gets_all_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Depth, "asks", lambda *_: None)
    it = modest(4)
    run(it, Client(2, depth=FULL), slots=4)
    assert max(wait.passed for wait in it.waits) >= FULL - 4


# Never against the order


@pytest.mark.parametrize("seed", range(6))
def test_what_overlaps_keeps_its_order(seed: int) -> None:
    """Order rule T1, between clients of which one is far ahead of the other in its turns."""
    area = (0, 24)
    frames = [wrote, driver.read, lambda _lba, **to: driver.flush(**to)]
    loads = [
        Client(n, depth=d, frame=frames[f], area=area)
        for n, d, f in ((1, 20, 0), (2, 9, 1), (3, 2, 0), (4, 1, 2))
    ]
    world = SharedDisk(*loads, slots=3, varies=0.9, seed=seed)
    world.run(800)
    assert min(len(it.waits) for it in loads) > 3
    for at, job in enumerate(world.order):
        for later in world.order[at + 1 :]:
            assert not (_must_wait(job, later) and later.arrival.header.tag < job.arrival.header.tag)


def _must_wait(job: Job, earlier: Job) -> bool:
    """Had it come later."""
    if not job.operation.extents:
        return earlier.operation.kind in CHANGES_DATA
    changes = CHANGES_DATA & {job.operation.kind, earlier.operation.kind}
    return bool(changes) and job.operation.extents == earlier.operation.extents


@pytest.mark.parametrize("service_ns", [10 * MS, 25 * MS])
def test_no_write_becomes_too_old_for_the_sake_of_others(service_ns: int) -> None:
    """Order rule T3: 64 writes take a slow disk longer than the frame age. No two are of the same sector."""
    world = SharedDisk(
        Client(2, depth=FULL, frame=lambda _lba, tag, **to: wrote(tag, tag=tag, **to)),
        Client(1, interval_ns=10 * service_ns, area=(SECTORS // 2, SECTORS // 2)),
        slots=1,
        service_ns=service_ns,
    )
    assert world.run(500) > 0.99
    assert not world.driver.counters.get("expired")


# Many, and limits


def test_invented_hosts_take_no_turns_of_their_own() -> None:
    it, flood = modest(4), Flood(1000, depth=200)
    world = SharedDisk(it, flood, slots=4)
    world.run(12_000)
    turns = world.driver.export.queue._ready
    assert flood.number > 1000 + 10_000
    assert len(turns._lines) + len(turns._next) <= CLIENTS_MAX + 1
    assert len(turns._had) <= CLIENTS_MAX + 1
    late = it.waits[len(it.waits) // 2 :]
    assert max(wait.passed for wait in late) <= few(4)


def test_invented_hosts_with_turns_are_bounded_too() -> None:
    """Those that an engine has counted, which Python knows by their MAC."""
    turns: Turns[int] = Turns()
    for number in range(10_000):
        turns.add(number, number)
        assert turns.take() == number
        assert len(turns._had) <= CLIENTS_MAX + 1
    turns.add("known", 1)
    turns.add("known", 2)
    for number in range(10):
        turns.add(number, 10 + number)
    assert [turns.take() for _ in range(12)].index(1) <= 1


def test_a_limit_holds_beside_turns() -> None:
    """One that is held back by it leaves its turns to others; and has its share of the disk at most."""
    fast, slow = Client(2, depth=FULL), modest(4)
    world = SharedDisk(fast, slow, slots=4)
    world.driver.export.limit(Limits(client_iops=10_000, burst_ns=0))
    world.run(SETTLED)
    fast.waits.clear()
    slow.waits.clear()
    began_ns = world.now_ns
    world.run(LOOKED)
    rate = len(fast.waits) * SECOND / (world.now_ns - began_ns)
    assert 9900 < rate < 10_100
    assert slow.part(0.9) < 2.1 * SERVICE_NS
    assert slow.passed <= few(4)


# Who shares


class Shared:
    """A depth of 64, of a disk with one slot at which all that may be is all the time."""

    def __init__(self) -> None:
        self.depth = Depth(FULL, adapts=True)
        self.now_ns = 0

    def asks(self, client: str, after_ns: int = MS) -> int:
        self.now_ns += after_ns
        self.depth.asks(client, self.now_ns)
        return self.depth.now


def test_clients_share_while_they_ask_one_after_the_other() -> None:
    it = Shared()
    assert it.asks("a") == it.asks("a") == FULL
    assert it.asks("b") == it.asks("b") < FULL
    for _ in range(4):
        assert it.asks("b", SHARED_NS // 5) < FULL
    assert it.asks("b", SHARED_NS // 5) == FULL
    assert it.asks("a", SHARED_NS // 5) < FULL


def test_one_that_comes_when_another_is_gone_is_alone() -> None:
    it = Shared()
    it.asks("a")
    assert it.asks("b", SHARED_NS) == it.asks("b") == FULL


def test_a_disk_behind_the_page_cache_keeps_its_places() -> None:
    depth = Depth(FULL, adapts=False)
    for now_ns, client in enumerate("abababab"):
        depth.asks(client, now_ns)
    assert depth.now == FULL


def test_a_rate_that_was_found_is_remembered() -> None:
    world = SharedDisk(Client(1, depth=FULL), Client(2, depth=FULL), slots=1)
    world.run(1500)
    depth = world.driver.export.queue.depth
    found = depth.now
    later_ns = world.now_ns + 2 * SHARED_NS
    depth.asks("c", later_ns)
    depth.asks("c", later_ns + 1)
    assert (found, depth.now) == (1, FULL)
    depth.asks("d", later_ns + 2)
    assert depth.now == found
