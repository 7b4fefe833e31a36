"""FaultyLink: every fault alone, repeatable from its seed, and transparent otherwise."""

import asyncio

from aoe.link.base import Link
from aoe.link.faulty import FaultyLink
from aoe.link.memory import Network
from tests.link.collector import Collector, ethernet, until

A, B = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 2))
N = 400


async def sent_through(
    seed: int = 1, settle_s: float = 0.02, **faults: float
) -> tuple[list[int], FaultyLink]:
    """Numbers of the frames that arrived, of 400 that were sent."""
    network = Network()
    link, b = FaultyLink(network.attach(A), seed=seed, **faults), network.attach(B)
    collector = Collector()
    b.start(collector)
    for number in range(N):
        link.send(ethernet(B, A, number.to_bytes(2, "big")))
        if number % 100 == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(settle_s)
    for _ in range(50):  # looks that each take a part, also where the loop was late
        await asyncio.sleep(0)
    return [int.from_bytes(frame[14:16], "big") for frame in collector.frames], link


def test_without_faults_everything_arrives_once_and_in_order() -> None:
    arrived, link = asyncio.run(sent_through())
    assert arrived == list(range(N))
    assert not link.counters


def test_frames_are_lost_and_counted() -> None:
    arrived, link = asyncio.run(sent_through(lose=0.3))
    assert link.counters == {"fault_lost": N - len(arrived)}
    assert 0.6 * N < len(arrived) < 0.8 * N
    assert arrived == sorted(set(arrived))
    assert asyncio.run(sent_through(lose=1.0))[0] == []


def test_frames_are_repeated() -> None:
    arrived, _ = asyncio.run(sent_through(repeat=0.3))
    assert set(arrived) == set(range(N))
    assert 1.2 * N < len(arrived) < 1.4 * N
    assert arrived == sorted(arrived)


def test_late_frames_are_overtaken_but_arrive() -> None:
    arrived, _ = asyncio.run(sent_through(late=0.3, delay_s=0.02, settle_s=0.1))
    assert sorted(arrived) == list(range(N))
    assert arrived != sorted(arrived)


def test_the_seed_decides() -> None:
    def lost(seed: int) -> list[int]:
        return asyncio.run(sent_through(seed, lose=0.5, repeat=0.5))[0]

    assert lost(7) == lost(7)
    assert lost(7) != lost(8)


def test_it_listens_in_its_own_name() -> None:
    async def scenario() -> None:
        network = Network()
        inner, b = network.attach(A, 9000), network.attach(B)
        link, collector = FaultyLink(inner, seed=1, lose=1.0), Collector()
        assert (link.name, link.mac, link.mtu) == (inner.name, inner.mac, inner.mtu)
        assert link.receive_buffer == inner.receive_buffer
        link.start(collector)
        b.send(ethernet(A, B))
        await until(lambda: collector.frames)
        inner.mtu = 600
        link.changed(inner, True)
        assert link.mtu == 600
        assert collector.changes == [True]
        assert collector.links == [link, link]
        link.stop()
        b.send(ethernet(A, B))
        await asyncio.sleep(0.01)
        assert len(collector.frames) == 1
        link.close()
        inner.close()

    asyncio.run(scenario())


def test_a_late_frame_after_the_end_harms_nobody() -> None:
    async def scenario() -> None:
        network = Network()
        inner = network.attach(A)
        link: Link = FaultyLink(inner, seed=1, late=1.0, delay_s=0.01)
        link.send(ethernet(B, A))
        link.close()
        await asyncio.sleep(0.02)

    asyncio.run(scenario())
