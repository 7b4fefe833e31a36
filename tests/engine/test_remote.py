"""The initiator's I/O in C: real sockets, interfaces that come and go, and everything that is not for us."""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from aoe.errors import ConfigurationError, DiskError, RequestError, Unreachable
from aoe.initiator.engine_carrier import EngineCarrier
from aoe.initiator.life import State
from aoe.initiator.load import Job
from aoe.initiator.options import Options
from aoe.initiator.remote import RemoteDisk
from aoe.initiator.request import Verb
from aoe.link.udp import UdpLink, UdpSpec
from aoe.wire import protocol
from tests.engine import remote_client
from tests.link.collector import until
from tests.support.labs.network import Lab, in_namespace
from tests.support.labs.peers import AoeTarget, image
from tests.support.tools import need_engine

SECTOR = 512
SECTORS = 32768
SIZE = SECTORS * SECTOR
LIMIT_S = 240.0
STRANGER = bytes.fromhex("02a0e00099ff")

Scenario = Coroutine[Any, Any, None]


@pytest.fixture(autouse=True)
def engine() -> None:
    need_engine()


@pytest.fixture
def target(lab: Lab, tmp_path: Path) -> Iterator[AoeTarget]:
    disk = f"{image(tmp_path / 'disk', SECTORS)}=1.1"
    with AoeTarget(lab, tmp_path, disk, "--durability", "write-back") as made:
        yield made


def inside(lab: Lab, scenario: Scenario, run: Callable[[Scenario], None] = asyncio.run) -> None:
    """Run an event loop on the client's host, for a bounded time."""

    async def bounded() -> None:
        async with asyncio.timeout(LIMIT_S):
            await scenario

    in_namespace(lab.namespace("client"), lambda: run(bounded()))


@asynccontextmanager
async def attached(
    *links: str | UdpLink, address: tuple[int, int] = (1, 1), timeout_s: float = 20.0
) -> AsyncIterator[tuple[RemoteDisk, EngineCarrier]]:
    carrier = EngineCarrier(links or ["v0"], [address], random.getrandbits(31))
    names = [link if isinstance(link, str) else link.name for link in links or ["v0"]]
    disk = RemoteDisk("the disk", carrier, names, Options(timeout_s))
    try:
        await disk.begin(10)
        yield disk, carrier
        await disk.drain()
    finally:
        disk.close()


async def exercise(disk: RemoteDisk, operations: int, seed: int = 1) -> None:
    """Any byte ranges of eight parts, at once; what is read is what was written."""
    model = bytearray(await disk.read(0, disk.size))
    part, most = disk.size // 8, 30_000

    async def work(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        for _ in range(operations // 8):
            offset = number * part + rng.randrange(part - most)
            data = rng.randbytes(rng.randrange(1, most))
            await disk.write(offset, data, fua=rng.random() < 0.1)
            model[offset : offset + len(data)] = data
            assert await disk.read(offset, len(data)) == data

    await asyncio.gather(*(work(number) for number in range(8)))
    await disk.flush()
    assert await disk.read(0, disk.size) == model


def states(disk: RemoteDisk) -> list[tuple[str, str]]:
    return [(path.state, path.reason) for path in disk.paths]


def nothing_lost(disk: RemoteDisk) -> bool:
    """Whether all that went out was answered; on a busy machine, sometimes a second copy, too, or a FLUSH of
    the initiator's own after nothing waits for it any more."""
    counted = dict(disk.counters)
    drains, twice = counted.pop("drains", 0), counted.pop("retransmits", 0)
    return 0 <= counted.pop("late_replies", 0) - twice <= drains and not counted


USABLE = [("usable", "")]


# Interfaces that are renamed


def test_an_interface_is_followed_when_it_is_renamed(lab: Lab, target: AoeTarget) -> None:
    """At either end; the path is called after what the interface is called now."""

    async def scenario() -> None:
        async with attached() as (disk, _):
            for near, far in (("lan0", "lan1"), ("v0", "v0")):
                await asyncio.to_thread(rename, near, far)
                async with asyncio.timeout(30):
                    while [path.interface for path in disk.paths] != [near] or states(disk) != USABLE:
                        await disk.write(0, b"followed")
                        await asyncio.sleep(0.02)
                assert disk.paths[0].name.startswith(f"{near} ")
                disk.prefer(disk.paths[0].name)

    ends = [lab.cables[0].b, lab.cables[0].a]

    def rename(*names: str) -> None:
        ends[:] = [lab.rename(end, name) for end, name in zip(ends, names, strict=True)]

    inside(lab, scenario())


def test_one_that_was_renamed_and_removed_is_found_by_its_first_name(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        async with attached() as (disk, _):
            cable = lab.cables[0]
            renamed = await asyncio.to_thread(lab.rename, cable.b, "lan0")
            while [path.interface for path in disk.paths] != ["lan0"]:
                await asyncio.sleep(0.02)
            await asyncio.to_thread(lab.unplug, cable._replace(b=renamed))
            await asyncio.to_thread(lab.plug, cable)
            await disk.write(0, b"found again")
            assert [path.interface for path in disk.paths] == ["v0"]

    inside(lab, scenario())


# Data


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_any_bytes_over_ethernet(run: Callable[[Scenario], None], lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        async with attached() as (disk, carrier):
            assert disk.size == SIZE
            assert carrier.mac(0) == lab.cables[0].b.mac
            await exercise(disk, 240)
            assert nothing_lost(disk), disk.counters

    inside(lab, scenario(), run)


@pytest.mark.parametrize("mtu", [1000, 1500, 4200, 9000, 12000])
def test_a_frame_is_as_long_as_the_interface_takes(mtu: int, lab: Lab, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached() as (disk, _):
            assert [path.sectors for path in disk.paths] == [
                min(protocol.sectors_per_frame(mtu), server_most)
            ]
            await exercise(disk, 80)

    lab.set_mtu(lab.cables[0], mtu)
    server_most = protocol.sectors_per_frame(mtu)
    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk', SECTORS)}=1.1", "--engine", "python"):
        inside(lab, scenario())


def test_thousands_at_once(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        async with attached() as (disk, _):
            blocks = [number.to_bytes(4, "big") * 128 for number in range(6000)]
            await asyncio.gather(*(disk.write(number * SECTOR, block) for number, block in enumerate(blocks)))
            reads = (disk.read(number * SECTOR, SECTOR) for number in range(len(blocks)))
            assert await asyncio.gather(*reads) == blocks
            assert nothing_lost(disk), disk.counters

    inside(lab, scenario())


def test_a_megabyte_at_once(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        async with attached() as (disk, _):
            data = random.Random(3).randbytes(4 << 20)
            await disk.write(1000, data)
            assert await disk.read(1000, len(data)) == data
            assert nothing_lost(disk), disk.counters

    inside(lab, scenario())


def test_what_fails_says_so(lab: Lab, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with attached() as (disk, carrier):
            with pytest.raises(DiskError, match="failed at byte 512"):
                await disk.write(SECTOR, bytes(SECTOR))
            assert await disk.read(SECTOR, SECTOR) == bytes(SECTOR)
            assert not carrier.switch(99)
            assert await disk.admin.config() == b""

    with AoeTarget(lab, tmp_path, f"{image(tmp_path / 'disk', SECTORS)}=1.1", "--read-only"):
        inside(lab, scenario())


def test_an_interface_that_cannot_be_used_is_named(lab: Lab) -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigurationError, match="v7: No such device"):
            async with attached("v7"):
                pass
        with pytest.raises(Unreachable):
            async with asyncio.timeout(20):
                carrier = EngineCarrier(["v0"], [(1, 1)], 1)
                disk = RemoteDisk("nobody", carrier, ["v0"], Options())
                try:
                    await disk.begin(0.2)
                finally:
                    disk.close()

    inside(lab, scenario())


# Datagrams


@contextmanager
def served_over_udp(directory: Path, mtu: int) -> Iterator[int]:
    """A target on the loopback; its port."""
    disk = f"{image(directory / 'disk', SECTORS)}=1.1"
    options = ["--state-dir", str(directory / "state"), "--engine", "python", "--json"]
    command = [sys.executable, "-m", "aoe.cli.target", "serve", disk, *options]
    with subprocess.Popen(
        [*command, "--link", f"udp:127.0.0.1:0,mtu={mtu}"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            name: str = json.loads(process.stdout.readline())["interfaces"][0]["name"]
            yield int(name.rpartition(":")[2])
        finally:
            process.kill()


def udp_link(port: int, mtu: int) -> UdpLink:
    return UdpLink(UdpSpec(("127.0.0.1", 0), (("127.0.0.1", port),), mtu))


@pytest.mark.parametrize("mtu", [1500, 9000])
def test_any_bytes_over_datagrams(mtu: int, tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        link = udp_link(port, mtu)
        try:
            async with attached(link) as (disk, carrier):
                assert carrier.mac(0) == link.mac
                await exercise(disk, 80)
                await asyncio.gather(*(disk.read(number * SECTOR, SECTOR) for number in range(1000)))
        finally:
            link.close()

    with served_over_udp(tmp_path, mtu) as port:
        asyncio.run(asyncio.wait_for(scenario(port), LIMIT_S))


def test_datagrams_from_others_and_too_long_ones_are_dropped(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        link = udp_link(port, 1500)
        try:
            async with attached(link) as (disk, _):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                    stranger.sendto(reply(), link.socket.getsockname())
                    stranger.sendto(reply().ljust(3000, b"\0"), link.socket.getsockname())
                await until(lambda: disk.counters.get("receive_unfit") == 2)
                assert await disk.read(0, SECTOR) == bytes(SECTOR)
                assert judged(disk) == {"receive_unfit": 2}
        finally:
            link.close()

    with served_over_udp(tmp_path, 1500) as port:
        asyncio.run(asyncio.wait_for(scenario(port), LIMIT_S))


def judged(disk: RemoteDisk) -> dict[str, int]:
    """What a disk counted, without what a busy machine makes it send again."""
    return {name: n for name, n in disk.counters.items() if name not in {"retransmits", "late_replies"}}


def reply(
    dst: bytes = b"\2\0\0\0\0\1", *, flags: int = 8, address: tuple[int, int] = (1, 1), tag: int = 1 << 31
) -> bytes:
    """An answer to something that nobody asked."""
    head = dst + STRANGER + b"\x88\xa2" + bytes((0x10 | flags, 0))
    shelf, slot = address
    return (head + shelf.to_bytes(2, "big") + bytes((slot, 0)) + tag.to_bytes(4, "big")).ljust(60, b"\0")


# What is not for us


def test_frames_for_others_are_dropped(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        own, port = lab.cables[0].b.mac, lab.port("target")
        async with attached() as (disk, _):
            port.send(reply(own, flags=0))  # a request
            port.send(reply(own, address=(1, 2)))
            port.send(reply(own, address=(2, 1)))
            await disk.read(0, SECTOR)
            assert not judged(disk)
            port.send(reply(STRANGER))
            await until(lambda: judged(disk) == {"receive_unfit": 1})
            port.send(reply(own))
            await until(lambda: judged(disk) == {"receive_unfit": 1, "unknown_tag": 1})
            await exercise(disk, 40)

    inside(lab, scenario())


def test_with_very_many_addresses_all_replies_are_looked_at(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        port = lab.port("target")
        addresses = [(1, 1), *((2, slot) for slot in range(250))]
        carrier = EngineCarrier(["v0"], addresses, 1)
        disk = RemoteDisk("many", carrier, ["v0"], Options())
        await disk.begin(10)
        assert await disk.read(0, SECTOR) == bytes(SECTOR)
        port.send(reply(lab.cables[0].b.mac, address=(9, 9)))
        await until(lambda: disk.counters.get("unknown_tag"))
        disk.close()

    inside(lab, scenario())


# Interfaces


def test_down_and_up(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        end = lab.cables[0].b
        async with attached() as (disk, _):
            for _ in range(2):
                lab.down(end)
                reading = asyncio.ensure_future(disk.read(0, SECTOR))
                await until(lambda: states(disk) == [("down", "link down")])
                before = time.process_time()
                await asyncio.sleep(0.5)
                assert time.process_time() - before < 0.3, "an error on a socket keeps it busy"
                assert not reading.done()
                lab.up(end)
                await reading
                assert states(disk) == USABLE
            await exercise(disk, 40)

    inside(lab, scenario())


def test_deleted_and_made_again(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        cable = lab.cables[0]
        async with attached() as (disk, _):
            await disk.write(0, b"x" * SECTOR)
            lab.unplug(cable)
            reading = asyncio.ensure_future(disk.read(0, SECTOR))
            await until(lambda: states(disk) == [("down", "link down")])
            lab.plug(cable)
            assert await reading == b"x" * SECTOR
            lab.unplug(cable)
            lab.plug(cable)  # before we have looked
            await exercise(disk, 40)
            assert states(disk) == USABLE

    inside(lab, scenario())


def test_another_mac_of_ours(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        async with attached() as (disk, carrier):
            lab.link(lab.cables[0].b, "address", "02:a0:e0:00:77:01")
            await until(lambda: carrier.mac(0) == bytes.fromhex("02a0e0007701"))
            await exercise(disk, 40)

    inside(lab, scenario())


def test_the_mtu_changes(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        cable = lab.cables[0]
        async with attached() as (disk, _):
            lab.set_mtu(cable, 1500)
            await until(lambda: disk.paths[0].sectors == 2)
            await exercise(disk, 40)
            assert states(disk) == USABLE
            lab.set_mtu(cable, 9000)
            await exercise(disk, 40)
            lab.set_mtu(cable, 12000)  # more than the ring has room for
            await exercise(disk, 40)
            assert states(disk) == USABLE

    inside(lab, scenario())


def test_too_small_an_mtu_is_a_link_that_is_down(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        end = lab.cables[0].b
        async with attached() as (disk, _):
            lab.link(end, "mtu", "500")
            await until(lambda: states(disk) == [("down", "link down")])
            lab.link(end, "mtu", "9000")
            await exercise(disk, 40)

    inside(lab, scenario())


def test_over_two_interfaces_one_may_go(lab: Lab, tmp_path: Path) -> None:
    second = lab.cable("target", "client")

    async def scenario() -> None:
        async with attached("v0", "v1") as (disk, _):
            await until(lambda: states(disk) == 2 * USABLE)
            assert {path.interface for path in disk.paths} == {"v0", "v1"}
            going = asyncio.ensure_future(exercise(disk, 400))
            for cable in (lab.cables[0], second):
                lab.down(cable.b)
                await until(lambda: ("down", "link down") in states(disk))
                await asyncio.sleep(0.1)
                lab.up(cable.b)
                await until(lambda: states(disk) == 2 * USABLE)
            await going

    disk = f"{image(tmp_path / 'disk', SECTORS)}=1.1"
    with AoeTarget(lab, tmp_path, disk, interfaces=("v0", "v1")):
        inside(lab, scenario())


def test_what_the_socket_refuses_is_counted_and_sent_again(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        cable = lab.cables[0]
        async with attached() as (disk, carrier):
            await disk.read(0, SECTOR)
            lab.set_mtu(cable, 1500)  # and we have not heard of it
            token = carrier.start(Verb.WRITE, 0, 16 * SECTOR, b"x" * 16 * SECTOR)
            carrier.abandon(token)
            assert disk.counters["send_lost"] == 1
            lab.set_mtu(cable, 9000)
            await exercise(disk, 40)

    inside(lab, scenario())


# Time


def test_a_process_that_was_stopped_goes_on(lab: Lab, target: AoeTarget) -> None:
    with lab.popen(
        "client", sys.executable, remote_client.__file__, "32", stdout=subprocess.PIPE, env=environment()
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"go\n"
        for seconds in (3, 1, 1, 1):
            time.sleep(0.3)
            client.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            client.send_signal(signal.SIGCONT)
        time.sleep(0.3)
        client.send_signal(signal.SIGUSR1)
        said = json.loads(client.stdout.readline())
    assert said["done"] > 1000
    assert "down" not in said["states"], said
    # Of the 32 under way at each stop, which were answered meanwhile; a busy machine adds some.
    assert said["counters"].get("retransmits", 0) < 3 * 32, said


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}


# Cancellation


def test_cancelled_while_they_are_sent(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        rng = random.Random(5)
        async with attached() as (disk, _):
            for turns in [0, 1, 2, 3, 0, 1, 2, 3]:
                places = rng.sample(range(SECTORS // 16), 60)
                before = {place: await disk.read(place * 16 * SECTOR, 16 * SECTOR) for place in places}
                after = {place: rng.randbytes(16 * SECTOR) for place in places}
                tasks = {
                    place: asyncio.ensure_future(disk.write(place * 16 * SECTOR, after[place]))
                    for place in places
                }
                reads = [asyncio.ensure_future(disk.read(0, 1 << 20)) for _ in range(4)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in [*reads, *(tasks[place] for place in places[::2])]:
                    task.cancel()
                done = await asyncio.gather(*tasks.values(), return_exceptions=True)
                for place, result in zip(places, done, strict=True):
                    now = await disk.read(place * 16 * SECTOR, 16 * SECTOR)
                    assert now == after[place] if result is None else now in (before[place], after[place])
            await exercise(disk, 40)

    inside(lab, scenario())


def test_closed_while_requests_are_open(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        carrier = EngineCarrier(["v0"], [(1, 1)], 1)
        disk = RemoteDisk("e1.1", carrier, ["v0"], Options())
        await disk.begin(10)
        tasks = [asyncio.ensure_future(disk.write(number * 8192, b"y" * 8192)) for number in range(500)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        disk.close()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(it, RequestError) for it in done)
        assert disk.paths[0].sectors == 16
        assert disk.counters == {}
        carrier.close()

    inside(lab, scenario())


# Load


def test_a_load_of_reads_and_writes(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        async with attached() as (disk, carrier):
            for job in (
                Job(64, 8192, SIZE),
                Job(1, 4096, SIZE, random=False),
                Job(16, 512, SIZE, write_percent=30),
                Job(4, 100_000, SIZE, write_percent=100, random=False),
            ):
                loaded = await carrier.load(job, 0.2)
                assert loaded.errors == 0
                assert loaded.done == sum(loaded.histogram) > job.depth
            assert await disk.read(0, 100_000) == await disk.read(100_000, 100_000) != bytes(100_000)
            assert nothing_lost(disk), disk.counters

    inside(lab, scenario())


def test_others_go_on_under_a_load(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        async with attached() as (disk, carrier):
            loading = asyncio.ensure_future(carrier.load(Job(32, 4096, SIZE // 2), 0.5))
            await asyncio.sleep(0)
            with pytest.raises(RequestError):
                await carrier.load(Job(32, 4096, SIZE), 0.5)
            for _ in range(5):
                await disk.write(SIZE // 2, b"other")
                assert await disk.read(SIZE // 2, 5) == b"other"
            assert not loading.done()
            assert (await loading).errors == 0
            await exercise(disk, 40)

    inside(lab, scenario())


def test_a_load_that_makes_no_sense_is_refused(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        async with attached() as (disk, carrier):
            for job in (Job(0, 4096, SIZE), Job(1, 0, SIZE), Job(1, 4096, 512)):
                with pytest.raises(RequestError):
                    await carrier.load(job, 0.1)
            beyond = await carrier.load(Job(1, 4096, 1 << 60), 0.05)
            assert beyond.errors > beyond.done
            await exercise(disk, 40)

    inside(lab, scenario())


def test_a_cancelled_load_leaves_nothing_behind(lab: Lab, target: AoeTarget) -> None:
    async def scenario() -> None:
        async with attached() as (disk, carrier):
            for _ in range(3):
                loading = asyncio.ensure_future(carrier.load(Job(64, 8192, SIZE, write_percent=50), 5))
                await asyncio.sleep(0.1)
                loading.cancel()
                await asyncio.wait([loading])
            await exercise(disk, 40)
            paths = carrier.paths
            assert [path.state for path in paths] == [State.USABLE]

    inside(lab, scenario())
