"""Order rule T3: how old a change may be, what a stepped clock means, and that a slow disk survives it."""

from collections import Counter

import pytest

from aoe.drive.command import Kind
from aoe.errors import DiskError
from aoe.target.age import AgeGate
from aoe.target.effects import Effect
from aoe.target.export import Arrival, Export, Job
from aoe.target.responder import Responder
from tests.target.age_world import StaleWrite, live
from tests.target.driver import (
    MS,
    SECOND,
    START_NS,
    Driver,
    config,
    flush,
    make_driver,
    make_export,
    mask,
    parse,
    read,
    reserve,
    trim,
    write,
)
from tests.target.slow_disk import SlowDisk

DATA = b"d" * 512
CHANGES = {"write": write(0, DATA), "trim": trim((0, 8)), "trim of nothing": trim()}
ADMIN = {"config": config(4, b"new"), "mask": mask(1, (0, bytes(6))), "reserve": reserve(2)}
AGELESS = {"read": read(0), "flush": flush(), "config read": config(0), "reserve read": reserve(0)}
TOO_OLD = [SECOND + 1, 3600 * SECOND, -1, -SECOND]


# When it comes in


@pytest.mark.parametrize("name", [*CHANGES, *ADMIN])
@pytest.mark.parametrize("age_ns", [0, 1, SECOND - 1, SECOND])
def test_young_changes_are_made(name: str, age_ns: int) -> None:
    assert len(make_driver().send((CHANGES | ADMIN)[name], age_ns=age_ns)) == 1


@pytest.mark.parametrize("name", [*CHANGES, *ADMIN])
@pytest.mark.parametrize("age_ns", TOO_OLD)
def test_old_changes_and_those_from_the_future_are_silence(name: str, age_ns: int) -> None:
    driver = make_driver()
    before = driver.export.state
    assert not driver.send((CHANGES | ADMIN)[name], age_ns=age_ns)
    assert driver.counters == {"expired": 1}
    assert not driver.log
    assert driver.export.state == before


@pytest.mark.parametrize("name", AGELESS)
@pytest.mark.parametrize("age_ns", TOO_OLD)
def test_what_changes_nothing_has_no_age(name: str, age_ns: int) -> None:
    assert len(make_driver().send(AGELESS[name], age_ns=age_ns)) == 1


@pytest.mark.parametrize("bound_ms", [20, 1000, 60_000])
def test_the_bound_is_what_was_asked_for(bound_ms: int) -> None:
    driver = make_driver(frame_age_ns=bound_ms * MS)
    assert driver.send(write(0, DATA), age_ns=bound_ms * MS)
    assert not driver.send(write(0, DATA), age_ns=bound_ms * MS + 1)


# When it is submitted


def queued(raw: bytes, age_ns: int = 0) -> Driver:
    """One write is at the only place of the disk, another request waits behind it."""
    driver = make_driver(make_export(places=1))
    driver.held = True
    driver.send(write(0, DATA, tag=1))
    assert not driver.send(raw, age_ns=age_ns)
    assert len(driver.jobs) == 1
    return driver


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(
    ("age_ms", "waits_ms", "lands"), [(0, 1000, True), (400, 600, True), (400, 601, False)]
)
def test_the_age_counts_again_when_the_disk_is_free(
    name: str, age_ms: int, waits_ms: int, lands: bool
) -> None:
    driver = queued(CHANGES[name], age_ms * MS)
    driver.now_ns += waits_ms * MS
    driver.finish()
    assert len(driver.jobs) == lands
    assert driver.counters.get("expired", 0) == (not lands)


def test_the_age_counts_again_behind_an_overlapping_write() -> None:
    driver = make_driver()
    driver.held = True
    driver.send(write(0, DATA, tag=1))
    driver.send(write(0, DATA, tag=2))
    driver.now_ns += SECOND + 1
    assert [parse(raw).tag for raw in driver.finish()] == [1]
    assert not driver.jobs


def test_a_clock_set_back_while_it_waits() -> None:
    driver = queued(write(8, DATA))
    driver.now_ns -= 1
    driver.finish()
    assert not driver.jobs


@pytest.mark.parametrize("name", sorted(AGELESS.keys() - {"config read", "reserve read"}))
def test_what_changes_nothing_may_wait(name: str) -> None:
    driver = queued(AGELESS[name])
    driver.now_ns += 3600 * SECOND
    driver.finish()
    assert len(driver.jobs) == 1


def test_what_expired_gives_way_to_what_waits_behind_it() -> None:
    driver = make_driver(make_export(places=1))
    driver.held = True
    for tag in range(1, 5):
        driver.send(write(0, DATA, tag=tag))
    driver.send(read(0, tag=5))
    driver.send(reserve(1, tag=6))
    driver.now_ns += SECOND + 1
    driver.persist()
    assert [parse(raw).tag for raw in driver.finish()] == [1]
    assert driver.jobs[0].operation.kind is Kind.READ
    assert [parse(raw).tag for raw in driver.finish()] == [5, 6]
    assert driver.counters["expired"] == 3
    assert driver.responder.active == len(driver.export.queue) == 0


# When the clock is stepped


@pytest.mark.parametrize("step_ms", [-3600_000, -101, 101, 3600_000])
def test_a_step_is_seen(step_ms: int) -> None:
    gate = AgeGate(SECOND)
    assert not gate.observe(START_NS, 5 * SECOND)
    assert gate.observe(START_NS + step_ms * MS, 5 * SECOND)
    assert not gate.observe(START_NS + step_ms * MS + SECOND, 6 * SECOND)


@pytest.mark.parametrize("step_ms", [-100, -1, 0, 1, 100])
def test_a_slewed_clock_is_none(step_ms: int) -> None:
    gate = AgeGate(SECOND)
    gate.observe(START_NS, 5 * SECOND)
    assert not gate.observe(START_NS + 3600 * SECOND + step_ms * MS, 3605 * SECOND)
    assert gate.era == 0


def test_a_gate_in_a_row() -> None:
    gate = AgeGate(SECOND)
    assert not gate.expired(0, SECOND, 0)
    assert gate.expired(0, SECOND + 1, 0)
    assert gate.expired(1, 0, 0)
    gate.observe(0, 0)
    gate.observe(SECOND, 0)
    assert gate.expired(0, 0, 0)
    assert not gate.expired(0, 0, 1)


def stepped(driver: Driver, step_ns: int = -SECOND // 2) -> None:
    driver.clock(driver.now_ns, 0)
    driver.clock(driver.now_ns + step_ns, 0)


def test_what_waits_when_the_clock_is_stepped_is_expired() -> None:
    driver = queued(write(8, DATA, tag=2), age_ns=SECOND * 3 // 4)
    stepped(driver)
    driver.finish()
    assert not driver.jobs
    assert driver.counters == {"writes": 2, "expired": 1, "clock_stepped": 1}


def test_what_an_interface_held_when_the_clock_was_stepped_is_expired() -> None:
    driver = make_driver(ports=2)
    second = driver.responder.ports[1]
    stepped(driver)
    assert not driver.send(write(0, DATA))
    assert not driver.send(write(0, DATA, dst=second.mac), port=second)
    driver.responder.drained(driver.port)
    assert driver.send(write(0, DATA))
    assert not driver.send(write(0, DATA, dst=second.mac), port=second)
    driver.responder.drained(second)
    assert driver.send(write(0, DATA, dst=second.mac), port=second)
    assert driver.send(read(0))


def test_two_steps_before_an_interface_was_drained() -> None:
    driver = make_driver()
    stepped(driver)
    stepped(driver)
    assert not driver.send(write(0, DATA))
    driver.responder.drained(driver.port)
    assert driver.send(write(0, DATA))


def test_reads_and_questions_do_not_mind_a_step() -> None:
    driver = make_driver()
    stepped(driver)
    for raw in AGELESS.values():
        assert len(driver.send(raw)) == 1


def test_a_first_look_at_the_clocks_is_no_step() -> None:
    driver = make_driver()
    driver.clock(START_NS, 123 * SECOND)
    assert driver.send(write(0, DATA))


# The property: an old copy never lands

SEEDS = range(30)


@pytest.fixture(scope="module")
def seen() -> Counter[str]:
    return live(SEEDS)


def test_an_old_copy_never_lands(seen: Counter[str]) -> None:
    assert seen["landed"] > 10_000


def test_the_world_is_wild_enough(seen: Counter[str]) -> None:
    """Copies did expire, clocks were stepped, and data was overwritten by copies younger than the bound."""
    assert seen["acknowledged"] > 6_000
    assert seen["expired"] > 1_000
    assert seen["clock_stepped"] > 100
    assert seen["stale but young"] > 0


class NothingExpires(AgeGate):
    def expired(self, stamp_ns: int, now_ns: int, era: int) -> bool:
        return False


class StepsGoUnseen(AgeGate):
    def observe(self, realtime_ns: int, boottime_ns: int) -> bool:
        return False


class QueuedBeforeTheStepIsTrusted(AgeGate):
    def expired(self, stamp_ns: int, now_ns: int, era: int) -> bool:
        return super().expired(stamp_ns, now_ns, self.era)


class OnlyWhenItComesIn(Responder):
    def _expired(self, export: Export, arrival: Arrival, now_ns: int) -> bool:
        tested: set[int] = self.__dict__.setdefault("tested", set())
        again = arrival.header.tag in tested
        tested.add(arrival.header.tag)
        return not again and super()._expired(export, arrival, now_ns)


class BuffersAreTrustedAfterAStep(Responder):
    def clock(self, realtime_ns: int, boottime_ns: int) -> bool:
        stepped = super().clock(realtime_ns, boottime_ns)
        for port in self.ports:
            port.suspect = False
        return stepped


@pytest.mark.parametrize("gate", [NothingExpires, StepsGoUnseen, QueuedBeforeTheStepIsTrusted])
def test_the_property_finds_a_broken_gate(gate: type[AgeGate]) -> None:
    with pytest.raises(StaleWrite):
        live(SEEDS, gate=gate)


@pytest.mark.parametrize("responder", [OnlyWhenItComesIn, BuffersAreTrustedAfterAStep])
def test_the_property_finds_a_broken_responder(responder: type[Responder]) -> None:
    with pytest.raises(StaleWrite):
        live(SEEDS, responder=responder)


# A slow disk


@pytest.mark.parametrize("windowed", [False, True])
def test_a_slow_disk_keeps_its_rate(windowed: bool) -> None:
    """256 writes wait for a disk that does 100 a second: most are too old before their turn comes."""
    world = SlowDisk(Responder, clients=4, disk_ns=10 * MS, windowed=windowed)
    assert world.run(60) >= 80
    assert world.responder.counters["expired"] > 100


class FindsOutTooLate(Responder):
    """Lets everything run, and only then sees that it was too old to be answered."""

    def _expired(self, export: Export, arrival: Arrival, now_ns: int) -> bool:
        return False

    def complete(self, job: Job, data: bytes, error: DiskError | None, now_ns: int) -> list[Effect]:
        late = self.age.expired(job.arrival.stamp_ns, now_ns, 0)
        effects = super().complete(job, data, error, now_ns)
        return effects[1:] if late else effects


def test_the_slow_disk_finds_a_collapse() -> None:
    assert SlowDisk(FindsOutTooLate, clients=4, disk_ns=10 * MS, windowed=False).run(60) < 80
