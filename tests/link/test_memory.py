"""MemoryLink and its Network."""

import asyncio
import time
from collections.abc import Iterable

from aoe.limits import RECEIVE_BATCH, UDP_QUEUE_MAX
from aoe.link.base import Link
from aoe.link.memory import MemoryLink, Network
from tests.link.collector import BROADCAST, Collector, ethernet, until

A, B, C = (bytes((2, 0, 0, 0, 0, n)) for n in range(1, 4))


def three() -> tuple[list[MemoryLink], list[Collector]]:
    network = Network()
    links = [network.attach(mac) for mac in (A, B, C)]
    collectors = [Collector() for _ in links]
    for link, collector in zip(links, collectors, strict=True):
        link.start(collector)
    return links, collectors


def counts(collectors: Iterable[Collector]) -> list[int]:
    return [len(collector.frames) for collector in collectors]


def test_a_frame_reaches_whom_its_destination_means() -> None:
    async def scenario() -> None:
        (a, _, _), collectors = three()
        a.send(ethernet(B, A))
        a.send(ethernet(BROADCAST, A))
        a.send(ethernet(A, A))
        a.send(ethernet(bytes(6), A))
        await asyncio.sleep(0.01)
        assert counts(collectors) == [0, 2, 1]
        assert collectors[1].frames == [ethernet(B, A), ethernet(BROADCAST, A)]

    asyncio.run(scenario())


def test_frames_come_in_order_with_the_time_of_their_arrival() -> None:
    async def scenario() -> None:
        (a, _, _), (_, b, _) = three()
        before = time.time_ns()
        sent = [ethernet(B, A, bytes([n])) for n in range(200)]
        for frame in sent:
            a.send(frame)
        after = time.time_ns()
        await until(lambda: len(b.frames) == 200)
        assert b.frames == sent
        stamps = [one.stamp_ns for one in b.received]
        assert stamps == sorted(stamps)
        assert before <= stamps[0] <= stamps[-1] <= after
        assert max(len(batch.frames) for batch in b.batches) <= RECEIVE_BATCH
        assert [batch.drained for batch in b.batches] == [False] * (len(b.batches) - 1) + [True]

    asyncio.run(scenario())


def test_what_nobody_takes_is_bounded() -> None:
    async def scenario() -> None:
        network = Network()
        a, b = network.attach(A), network.attach(B)
        for _ in range(UDP_QUEUE_MAX + 100):
            a.send(ethernet(B, A))
        assert b.counters == {"queue_full": 100}
        collector = Collector()
        b.start(collector)
        await until(lambda: len(collector.frames) == UDP_QUEUE_MAX)

    asyncio.run(scenario())


def test_a_frame_longer_than_the_mtu_is_not_sent() -> None:
    async def scenario() -> None:
        (a, _, _), (_, b, _) = three()
        a.send(ethernet(B, A, length=1514))
        a.send(ethernet(B, A, length=1515))
        await asyncio.sleep(0.01)
        assert [len(frame) for frame in b.frames] == [1514]
        assert a.counters == {"send_too_long": 1}

    asyncio.run(scenario())


def test_stopped_it_still_sends_but_tells_nobody() -> None:
    async def scenario() -> None:
        (a, b, _), collectors = three()
        b.stop()
        a.send(ethernet(B, A))
        b.send(ethernet(A, B))
        await asyncio.sleep(0.01)
        assert counts(collectors) == [1, 0, 0]

    asyncio.run(scenario())


def test_closed_it_is_off_the_network() -> None:
    async def scenario() -> None:
        (a, b, _), collectors = three()
        b.close()
        b.close()
        a.send(ethernet(BROADCAST, A))
        b.send(ethernet(BROADCAST, B))
        await asyncio.sleep(0.01)
        assert counts(collectors) == [0, 0, 1]

    asyncio.run(scenario())


class StopsAtOnce(Collector):
    """Has enough after the first look."""

    def ready(self, link: Link) -> None:
        super().ready(link)
        link.stop()


def test_a_listener_may_stop_the_link_that_calls_it() -> None:
    async def scenario() -> None:
        network = Network()
        a, b = network.attach(A), network.attach(B)
        collector = StopsAtOnce()
        b.start(collector)
        for _ in range(RECEIVE_BATCH + 1):
            a.send(ethernet(B, A))
        await asyncio.sleep(0.02)
        assert len(collector.frames) == RECEIVE_BATCH

    asyncio.run(scenario())


def test_it_can_be_started_again() -> None:
    async def scenario() -> None:
        network = Network()
        a, b = network.attach(A), network.attach(B)
        for collector in (Collector(), Collector()):
            b.start(collector)
            a.send(ethernet(B, A))
            await asyncio.sleep(0.01)
            assert len(collector.frames) == 1
            b.stop()

    asyncio.run(scenario())
