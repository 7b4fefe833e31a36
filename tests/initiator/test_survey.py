"""Every disk that answers is looked at on its own."""

import asyncio
from contextlib import AsyncExitStack

import pytest

import aoe
from aoe.disk.memory import MemoryDisk
from aoe.errors import Unreachable
from aoe.initiator.survey import Surveyed, attach_each, survey
from aoe.link.memory import Network

MAC = b"\x02\0\0\0\0"


async def all_of(*links: object) -> list[Surveyed]:
    return [it async for it in survey(links)]  # type: ignore[arg-type]


def test_disks_of_several_servers_on_several_links() -> None:
    """One of them is on both."""

    async def scenario() -> None:
        near, far = Network(), Network()
        ours = [near.attach(MAC + b"\1"), far.attach(MAC + b"\2")]
        async with AsyncExitStack() as stack:
            both = [near.attach(MAC + b"\3"), far.attach(MAC + b"\3")]
            enter = stack.enter_async_context
            await enter(aoe.serve(MemoryDisk(1 << 20), *both, shelf=2, slot=0, serial="BOTH"))
            await enter(
                aoe.serve(MemoryDisk(1 << 21), near.attach(MAC + b"\4"), shelf=1, slot=7, serial="NEAR")
            )
            found = await all_of(*ours)
            assert [(it.address, it.size, it.serial) for it in found] == [
                ("e1.7", 1 << 21, "NEAR"),
                ("e2.0", 1 << 20, "BOTH"),
            ]
            assert [len(it.paths) for it in found] == [1, 2]
            assert {path.state for it in found for path in it.paths} == {"usable"}
            again = await all_of(*ours)
            assert [it.address for it in again] == ["e1.7", "e2.0"], "the links stay open"

    asyncio.run(scenario())


def test_more_than_are_looked_at_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aoe.limits.SURVEYED_AT_ONCE", 2)

    async def scenario() -> None:
        network = Network()
        async with AsyncExitStack() as stack:
            for slot in range(7):
                link = network.attach(MAC + bytes([16 + slot]))
                disk = MemoryDisk(512 * (slot + 1))
                await stack.enter_async_context(aoe.serve(disk, link, shelf=0, slot=slot))
            found = await all_of(network.attach(MAC + b"\1"))
            assert [(it.address, it.size) for it in found] == [
                (f"e0.{slot}", 512 * (slot + 1)) for slot in range(7)
            ]

    asyncio.run(scenario())


def test_each_named_address_has_a_disk_or_a_problem() -> None:
    async def scenario() -> None:
        network = Network()
        async with aoe.serve(MemoryDisk(1 << 20), network.attach(MAC + b"\3"), shelf=1, slot=1):
            ours = network.attach(MAC + b"\1")
            async with attach_each([ours], [(1, 1), (9, 9)], find_s=0.5) as found:
                (disk, fine), (nobody, problem) = found
                assert fine is None
                await disk.write(0, b"both at a time")
                assert await disk.read(0, 14) == b"both at a time"
                assert isinstance(problem, Unreachable)
                assert "e9.9 does not answer" in str(problem)
                assert not nobody.paths

    asyncio.run(scenario())
