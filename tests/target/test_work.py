"""What was done of an export, and for which clients."""

import random

import pytest

from aoe.drive.command import Kind
from aoe.limits import CLIENT_TAGS, CLIENTS_IN_ALL_MAX, CLIENTS_MAX
from aoe.metrics.snapshot import ClientNumbers, ExportNumbers
from aoe.metrics.table import EXPORT, Type
from aoe.target.work import ANSWERED, READ, WRITTEN, Crowd, Work, plus
from aoe.timing import CLIENT_HEARD_NS, CLIENTS_SWEPT_NS

START = 10 * CLIENT_HEARD_NS


def mac(number: int) -> bytes:
    return b"\x02" + number.to_bytes(5, "big")


def ask(work: Work, number: int, now_ns: int, tag: int = 0) -> None:
    work.asked(mac(number), tag, READ, 512, now_ns)


def found(work: Work) -> ExportNumbers:
    return work.numbers("e1.0", 0)


def known(work: Work) -> dict[bytes, ClientNumbers]:
    return {it.mac: it for it in found(work).clients}


def others(work: Work) -> int:
    return ClientNumbers(b"", found(work).other)["requests"]


def test_what_is_answered_is_counted_by_kind_with_its_bytes_and_time() -> None:
    work = Work()
    work.answered(ANSWERED[Kind.READ], 4096, 8192)
    work.answered(ANSWERED[Kind.WRITE], 1024, 8193)
    work.answered(ANSWERED[Kind.FLUSH], 0, 1 << 40)
    work.answered(ANSWERED[Kind.READ], 0, -5)
    done = work.numbers("e1.0", 3)
    assert [done[it] for it in ("reads", "writes", "flushes", "trims")] == [2, 1, 1, 0]
    assert (done["read_bytes"], done["written_bytes"], done["queue"]) == (4096, 1024, 3)
    (reply,) = [row.places for row in EXPORT if row.name == "reply"]
    assert [done.numbers[at] for at in reply] == [2, 1, *[0] * 9, 1, 8192 + 8193 + (1 << 40)]


def test_a_client_has_numbers_of_its_own() -> None:
    work = Work()
    work.asked(mac(1), 5, READ, 4096, 100)
    work.asked(mac(1), 6, WRITTEN, 1024, 200)
    work.asked(mac(2), 5, WRITTEN, 0, 150)
    of = known(work)
    assert list(of[mac(1)].numbers) == [2, 4096, 1024, 0, 200]
    assert list(of[mac(2)].numbers) == [1, 0, 0, 0, 150]
    assert found(work).heard_ns == 200
    assert not any(found(work).other)


def test_a_tag_that_comes_again_is_seen() -> None:
    work = Work()
    for tag in (7, 8, 7, 7, 9, 0, 0):
        ask(work, 1, 1, tag)
    ask(work, 2, 1, 8)
    of = known(work)
    assert (of[mac(1)]["repeated"], of[mac(2)]["repeated"]) == (2, 0)


def test_a_tag_of_long_ago_is_forgotten() -> None:
    work = Work()
    for tag in range(1, 100 * CLIENT_TAGS):
        ask(work, 1, 1, tag)
    ask(work, 1, 1, 1)
    assert known(work)[mac(1)]["repeated"] == 0


def test_strangers_beyond_the_bound_are_counted_together() -> None:
    work = Work()
    for at in range(10_000):
        ask(work, at, START + at)
    assert set(known(work)) == {mac(at) for at in range(CLIENTS_MAX)}
    assert others(work) == 10_000 - CLIENTS_MAX
    assert sum(it["requests"] for it in found(work).clients) + others(work) == 10_000


def test_one_that_was_heard_lately_is_not_evicted_and_a_silent_one_is() -> None:
    work = Work()
    for at in range(CLIENTS_MAX):
        ask(work, at, START)
    for at in range(1, CLIENTS_MAX):
        ask(work, at, START + CLIENT_HEARD_NS)
    ask(work, 1000, START + CLIENT_HEARD_NS)
    assert mac(1000) not in known(work)
    ask(work, 1000, START + CLIENT_HEARD_NS + CLIENTS_SWEPT_NS - 1)
    assert mac(1000) not in known(work), "it does not look again so soon"
    ask(work, 1001, START + CLIENT_HEARD_NS + CLIENTS_SWEPT_NS)
    assert mac(1001) in known(work)
    assert mac(0) not in known(work)
    assert others(work) == 3
    ask(work, 1002, START + CLIENT_HEARD_NS + CLIENTS_SWEPT_NS)
    assert mac(1002) not in known(work)


def test_all_exports_together_have_no_more_than_the_bound() -> None:
    crowd = Crowd()
    works = [Work() for _ in range(CLIENTS_IN_ALL_MAX // CLIENTS_MAX + 4)]
    for work in works:
        work.begin(crowd, START)
        for at in range(CLIENTS_MAX + 10):
            ask(work, at, START + 1)
    assert sum(len(found(work).clients) for work in works) == CLIENTS_IN_ALL_MAX == crowd.count
    last = works[-1]
    assert not known(last)
    assert others(last) == CLIENTS_MAX + 10


def test_those_that_were_not_heard_lately_make_room_for_other_exports() -> None:
    crowd = Crowd()
    works = [Work() for _ in range(CLIENTS_IN_ALL_MAX // CLIENTS_MAX)]
    for work in works:
        work.begin(crowd, START)
        for at in range(CLIENTS_MAX):
            ask(work, at, START)
    ask(works[0], 0, START + CLIENT_HEARD_NS)
    late = Work()
    late.begin(crowd, START)
    now_ns = START + CLIENT_HEARD_NS + CLIENTS_SWEPT_NS
    crowd.sweep(works, now_ns)
    assert crowd.count == CLIENTS_IN_ALL_MAX, "nobody asked for room"
    ask(late, 5, now_ns)
    crowd.sweep([*works, late], now_ns)
    ask(late, 5, now_ns + CLIENTS_SWEPT_NS)
    assert set(known(late)) == {mac(5)}
    assert [set(known(work)) for work in works[:2]] == [{mac(0)}, set()]
    assert crowd.count == 2
    assert others(works[1]) == CLIENTS_MAX


def test_an_export_that_goes_gives_its_places_back() -> None:
    crowd, work = Crowd(), Work()
    work.begin(crowd, START)
    for at in range(5):
        ask(work, at, START)
    assert crowd.count == 5
    work.end()
    assert crowd.count == 0
    assert others(work) == 5


@pytest.mark.parametrize("seed", range(3))
def test_nothing_that_was_asked_for_is_lost(seed: int) -> None:
    rng = random.Random(seed)
    crowd = Crowd()
    works = [Work() for _ in range(3)]
    for work in works:
        work.begin(crowd, 0)
    now_ns = START
    for asked in range(1, 3000):
        now_ns += rng.choice([0, 1000, CLIENTS_SWEPT_NS, CLIENT_HEARD_NS // 20])
        crowd.sweep(works, now_ns)
        ask(rng.choice(works), rng.randrange(300), now_ns)
        of = [it for work in works for it in found(work).clients]
        assert sum(it["requests"] for it in of) + sum(others(work) for work in works) == asked
        assert len(of) == crowd.count
    assert max(len(found(work).clients) for work in works) <= CLIENTS_MAX


def test_both_engines_together() -> None:
    assert plus([1, 2], [10, 20]) == [11, 22]


def test_each_number_of_a_reason_can_be_counted() -> None:
    work = Work()
    names = [row.name for row in EXPORT if row.type is Type.COUNTER]
    for name in names:
        work.count(name)
    assert {found(work)[name] for name in names} == {1}
