"""A target whose links come and go while it serves."""

import asyncio

import pytest

from aoe.errors import ConfigurationError
from aoe.limits import ENGINE_PORTS_MAX
from aoe.link.memory import Network
from aoe.target.server import TargetOptions
from aoe.target.target import Target
from tests.disk.helpers import noise
from tests.serve.initiator import Initiator, NoAnswer, mac
from tests.serve.test_target import TARGET, Watched, hanging, offer, scene


async def asked(network: Network, slot: int = 0) -> bool:
    host = Initiator(network.attach(mac(99)), 0, slot, retransmit_s=0.05, patience_s=0.2)
    try:
        await host.config()
    except NoAnswer:
        return False
    return True


def test_it_serves_on_a_link_that_comes_and_not_on_one_that_is_gone() -> None:
    async def run() -> None:
        async with scene() as here:
            await here.target.add(offer(Watched()), check=False)
            other = Network()
            assert not await asked(other)
            link = other.attach(mac(2))
            here.target.add_link(link)
            assert await asked(other)
            assert await asked(here.network)
            assert await here.target.remove_link(link)
            assert not await asked(other)
            assert await asked(here.network)
            assert here.target.links == [here.link]

    asyncio.run(run())


def test_it_says_that_it_is_there_on_a_link_that_comes() -> None:
    async def run() -> None:
        async with scene() as here:
            await here.target.add(offer(Watched()), offer(Watched(), 1), check=False)
            other = Network()
            heard = other.attach(mac(9))
            here.target.add_link(other.attach(mac(2)))
            assert len(heard.take().frames) == 2

    asyncio.run(run())


def test_one_that_is_on_links_by_name_is_not_on_one_that_comes() -> None:
    async def run() -> None:
        async with scene() as here:
            await here.target.add(offer(Watched(), links=(here.link,)), offer(Watched(), 1), check=False)
            other = Network()
            link = other.attach(mac(2))
            here.target.add_link(link)
            assert not await asked(other, 0)
            assert await asked(other, 1)
            here.target.place(0, 0, [link])
            assert await asked(other, 0)
            assert not await asked(here.network, 0)
            await here.target.remove_link(link)
            again = other.attach(mac(3))
            here.target.add_link(again)
            assert not await asked(other, 0), "another link is not the one that was meant"

    asyncio.run(run())


def test_what_came_by_a_link_is_answered_before_it_is_closed() -> None:
    async def run() -> None:
        async with hanging() as it:
            other = Network()
            it.here.target.add_link(other.attach(mac(2)))
            assert not await it.here.target.remove_link(it.here.link, 0.05)
            it.disk.hang.set()
            await it.write
            await asyncio.sleep(0.1)
            with pytest.raises(ConfigurationError, match="is not served on"):
                await it.here.target.remove_link(it.here.link)
            assert await asked(other)

    asyncio.run(run())


def test_the_last_one_may_go_and_another_come() -> None:
    async def run() -> None:
        async with scene() as here:
            await here.target.add(offer(Watched()), check=False)
            assert await here.target.remove_link(here.link)
            assert here.target.links == []
            await here.target.add(offer(Watched(), 1), check=False)
            other = Network()
            here.target.add_link(other.attach(mac(2)))
            assert await asked(other, 1)
            host = Initiator(other.attach(mac(98)), 0, 0)
            await host.write(0, noise(1))
            assert await host.read(0, 1) == noise(1)

    asyncio.run(run())


def test_what_a_link_counted_stays_counted() -> None:
    async def run() -> None:
        async with scene() as here:
            link = Network().attach(mac(2))
            here.target.add_link(link)
            link.counters["receive_too_long"] += 3
            await here.target.remove_link(link)
            assert here.target.counters()[f"{link.name}.receive_too_long"] == 3

    asyncio.run(run())


def test_no_link_is_refused_unless_some_come() -> None:
    async def run() -> None:
        with pytest.raises(ConfigurationError, match="there is no link to serve on"):
            Target.open([])
        target = Target.open([], TargetOptions(links_come=True))
        network = Network()
        target.add_link(network.attach(TARGET))
        await target.add(offer(Watched()), check=False)
        assert await asked(network)
        await target.stop()

    asyncio.run(run())


def test_there_is_a_bound() -> None:
    async def run() -> None:
        async with scene() as here:
            links = [Network().attach(mac(2)) for _ in range(ENGINE_PORTS_MAX)]
            for link in links[1:]:
                here.target.add_link(link)
            with pytest.raises(ConfigurationError, match=f"on {ENGINE_PORTS_MAX} links at most"):
                here.target.add_link(links[0])
            assert len(here.target.links) == ENGINE_PORTS_MAX

    asyncio.run(run())
