"""Every disk that answers is looked at on its own."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

import aoe
from aoe.disk.memory import MemoryDisk
from aoe.drive import identify
from aoe.errors import Unreachable
from aoe.initiator.discover import discover
from aoe.initiator.survey import Surveyed, attach_each, survey
from aoe.link.base import Link
from aoe.link.faulty import FaultyLink
from aoe.link.memory import MemoryLink, Network
from aoe.target.offer import Offer
from aoe.target.target import Target
from aoe.wire import ata, frame, opcodes
from aoe.wire.frame import BROADCAST, Command, Header
from tests.support.waiting import PROMPT_S

MAC = b"\x02\0\0\0\0"
OURS = f"{identify.MODEL} {identify.FIRMWARE}"
MANY = 40
SIZE = 8192


@asynccontextmanager
async def many(*links: Link) -> AsyncIterator[Target]:
    """One server of `MANY` disks."""
    async with aoe.serve(MemoryDisk(SIZE), *links, shelf=1, slot=0, serial="S0") as target:
        offers = [Offer(MemoryDisk(SIZE * (n + 1)), 1, n, f"S{n}") for n in range(1, MANY)]
        await target.add(*offers, check=False)
        yield target


class Spy(MemoryLink):
    """Remembers what is sent."""

    def __init__(self, network: Network, mac: bytes) -> None:
        super().__init__(network, mac, 1500)
        self.sent: list[bytes] = []
        network._links.append(self)

    def send(self, frame: bytes, origin: object = None) -> None:
        self.sent.append(frame)
        super().send(frame)

    def asked(self, command: int) -> int:
        """How many requests of an ATA command were sent."""
        headers = [(frame.decode(raw), raw) for raw in self.sent]
        of_ata = [raw for header, raw in headers if isinstance(header, Header) and header.command == 0]
        return sum(ata.command_of(raw) == command for raw in of_ata)


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


# Without attaching


@pytest.mark.parametrize("servers", [1, 2])
def test_what_drains_is_seen_whether_its_server_is_asked_or_attached(servers: int) -> None:
    """Two servers at one address are compared; one of them drains."""

    async def scenario() -> None:
        network = Network()
        async with AsyncExitStack() as stack:
            made = [
                await stack.enter_async_context(
                    aoe.serve(MemoryDisk(SIZE), network.attach(MAC + bytes((3 + it,))), shelf=1, serial="S")
                )
                for it in range(servers)
            ]
            for on in (True, False):
                change = made[0].draining.begin if on else made[0].draining.end
                change([(1, 0)])
                (found,) = await all_of(network.attach(MAC + b"\1"))
                said = {path.mac[-2:]: path.draining for path in found.paths}
                assert said == {f"0{3 + it}": on and it == 0 for it in range(servers)}
                assert found.drives == tuple((path.mac, OURS) for path in found.paths)

    asyncio.run(scenario())


def test_one_question_is_enough_for_a_disk() -> None:
    """It takes no place for a stream, and reads nothing."""

    async def scenario() -> None:
        network = Network()
        async with many(network.attach(MAC + b"\3")) as target:
            ours = Spy(network, MAC + b"\1")
            found = await all_of(ours)
            assert [(it.address, it.size, it.serial) for it in found] == [
                (f"e1.{n}", SIZE * (n + 1), f"S{n}") for n in range(MANY)
            ]
            assert {(path.state, path.owner, path.proof) for it in found for path in it.paths} == {
                ("usable", True, "")
            }
            assert {it.drives for it in found} == {((f"{MAC.hex(':')}:03", OURS),)}
            assert all(path.rtt_us > 0 for it in found for path in it.paths)
            assert ours.asked(opcodes.IDENTIFY_DEVICE) == MANY
            assert ours.asked(opcodes.READ_SECTORS_EXT) == 0
            assert target.counters()["reads"] == 0

    asyncio.run(scenario())


def test_a_server_by_two_paths_is_not_attached() -> None:
    async def scenario() -> None:
        near, far = Network(), Network()
        async with many(near.attach(MAC + b"\3"), far.attach(MAC + b"\4")):
            ours = [Spy(near, MAC + b"\1"), Spy(far, MAC + b"\2")]
            found = await all_of(*ours)
            assert len(found) == MANY
            for it in found:
                assert [(path.mac, path.owner) for path in it.paths] == [
                    ("02:00:00:00:00:03", True),
                    ("02:00:00:00:00:04", False),
                ]
            assert {path.state for it in found for path in it.paths} == {"usable"}
            assert [link.asked(opcodes.IDENTIFY_DEVICE) for link in ours] == [MANY, MANY]

    asyncio.run(scenario())


def test_two_servers_at_one_address_are_compared() -> None:
    async def scenario() -> None:
        network = Network()
        one, other = MemoryDisk(1 << 20), MemoryDisk(1 << 20)
        other.data[:] = b"x" * (1 << 20)
        async with AsyncExitStack() as stack:
            for disk, mac in ((one, b"\3"), (other, b"\4")):
                link = network.attach(MAC + mac)
                await stack.enter_async_context(aoe.serve(disk, link, serial="SAME", check=False))
            (found,) = await all_of(network.attach(MAC + b"\1"))
            assert sorted(path.state for path in found.paths) == ["refused", "usable"]
            assert any("differs" in path.reason for path in found.paths)

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", range(3))
def test_what_is_lost_is_asked_again(seed: int) -> None:
    async def scenario() -> None:
        network = Network()
        async with many(FaultyLink(network.attach(MAC + b"\3"), seed=seed, lose=0.1)):
            ours = FaultyLink(network.attach(MAC + b"\1"), seed=seed + 9, lose=0.1)
            found = await all_of(ours)
            assert [it.address for it in found] == [f"e1.{n}" for n in range(MANY)]
            assert sum(it.retransmits for it in found) > 0
            assert {path.state for it in found for path in it.paths} == {"usable"}

    asyncio.run(scenario())


@pytest.mark.parametrize(("switch_mtu", "sectors"), [(None, 16), (1500, 2)])
def test_how_large_frames_are_is_found_out_once_for_a_server(switch_mtu: int | None, sectors: int) -> None:
    async def scenario() -> None:
        network = Network()
        theirs = FaultyLink(network.attach(MAC + b"\3", 9000), seed=1, switch_mtu=switch_mtu)
        ours = FaultyLink(network.attach(MAC + b"\1", 9000), seed=2, switch_mtu=switch_mtu)
        async with many(theirs) as target:
            began = time.monotonic()
            found = await all_of(ours)
            assert time.monotonic() - began < PROMPT_S
            sizes = {(path.sectors, path.sectors_max) for it in found for path in it.paths}
            assert (len(found), sizes) == (MANY, {(sectors, 16)})
            narrow = {path.narrow for it in found for path in it.paths}
            assert len(narrow) == 1
            assert narrow.pop().startswith("larger frames do not pass") == (sectors == 2)
            assert target.counters()["reads"] < MANY

    asyncio.run(scenario())


class Hung(MemoryDisk):
    """Answers no read."""

    def try_read(self, offset: int, length: int) -> bytes:
        return None  # type: ignore[return-value]

    async def read(self, offset: int, length: int) -> bytes:
        await asyncio.sleep(3600)
        return b""


@pytest.mark.parametrize("hung", [1, 3])
def test_a_disk_that_hangs_says_nothing_of_the_size_of_frames(hung: int) -> None:
    async def scenario() -> None:
        network = Network()
        async with aoe.serve(Hung(1 << 20), network.attach(MAC + b"\3", 9000), serial="S0") as target:
            disks = [(Hung if n < hung else MemoryDisk)(1 << 20) for n in range(1, 9)]
            await target.add(*(Offer(disk, 0, n, f"S{n}") for n, disk in enumerate(disks, 1)), check=False)
            found = await all_of(network.attach(MAC + b"\1", 9000))
            sizes = {(it.paths[0].sectors, it.paths[0].narrow) for it in found[hung:]}
            assert (len(found), sizes) == (9, {(16, "")})
            await target.stop(0)

    asyncio.run(scenario())


def test_answers_that_still_come_in_are_waited_for() -> None:
    async def scenario() -> None:
        network = Network()
        async with many(FaultyLink(network.attach(MAC + b"\3"), seed=1, late=1.0, delay_s=0.5)):
            found = await discover(network.attach(MAC + b"\1"), 0.01)
            assert len(found) == MANY

    asyncio.run(scenario())


def test_invented_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aoe.limits.DISCOVERED_MAX", 100)

    async def scenario() -> None:
        network = Network()
        liar, ours = network.attach(MAC + b"\3"), network.attach(MAC + b"\1")

        async def lie() -> None:
            for n in range(2000):
                header = Header(BROADCAST, liar.mac, frame.VERSION, 8, 0, n, 0, Command.CONFIG, 0)
                liar.send(frame.encode(header, bytes(8)))
                await asyncio.sleep(0)

        found, _ = await asyncio.gather(discover(ours, 0.1), lie())
        assert len(found) == 100

    asyncio.run(scenario())
