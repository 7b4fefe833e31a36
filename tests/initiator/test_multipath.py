"""One disk over several paths: what happens when one is lost, comes back, or leads elsewhere."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path as FilePath
from typing import Any, NamedTuple

import pytest

import aoe
from aoe import limits, timing
from aoe.disk.base import Disk
from aoe.disk.faulty import FaultyDisk
from aoe.disk.memory import MemoryDisk
from aoe.errors import (
    ConfigurationError,
    DiskError,
    OutOfRangeError,
    RequestError,
    TargetRefused,
    Unreachable,
)
from aoe.initiator.admin import Admin
from aoe.initiator.channel import Channel
from aoe.initiator.exchange import Kind
from aoe.initiator.link_carrier import LinkCarrier
from aoe.initiator.path import Path
from aoe.initiator.remote import RemoteDisk
from aoe.link.memory import MemoryLink, Network
from aoe.target.target import Target
from aoe.testing import Cable
from aoe.timing import USUAL
from aoe.wire.frame import Command
from tests.initiator.helpers import attach, attach_by, limited, only_python
from tests.link.collector import until
from tests.support.checkers.writers import Writers
from tests.support.waiting import PATIENCE_S, own_s

SIZE = 1 << 20
SERIAL = "ONE DISK"
QUICK_S = 0.5
SILENT_S = 3.0
QUIESCE_S = (timing.NETWORK_LIFETIME_NS + timing.COMPLETION_NS) / 1e9 + timing.FRAME_AGE_DEFAULT_S


def mac(host: int, port: int = 0) -> bytes:
    return bytes((2, 0, 0, 0, host, port))


class Holding(Cable):
    """A cable whose frames are kept back while `held`, and go out later, as a network might do it."""

    def __init__(self, port: MemoryLink) -> None:
        super().__init__(port, seed=1)
        self.held = False
        self.kept: list[bytes] = []
        self.sent: list[bytes] = []

    def send(self, frame: bytes, origin: Any = None) -> None:
        self.sent.append(frame)
        if self.held:
            self.kept.append(frame)
        else:
            super().send(frame, origin)

    def let_go(self) -> None:
        self.held = False
        for frame in self.kept:
            super().send(frame)
        self.kept.clear()


class Pair:
    """Two primaries, e1.0 and e2.0, and a client with a port towards each. `servers` and `ports` are the ends
    of the cables, `disks` what each primary serves."""

    def __init__(self, *disks: Disk) -> None:
        self.networks = [Network(), Network()]
        self.disks = disks
        self.servers: list[MemoryLink] = []
        self.ports = [Holding(network.attach(mac(9, n), 9000)) for n, network in enumerate(self.networks)]

    @asynccontextmanager
    async def primary(self, number: int, **how: Any) -> AsyncIterator[Target]:
        """Serve as one of the two."""
        link = self.networks[number].attach(mac(1 + number), 9000)
        self.servers[number:] = [link]
        options = {"serial": SERIAL, "shelf": 1 + number, "slot": 0, **how}
        async with aoe.serve(self.disks[number], link, **options) as server:
            yield server


@asynccontextmanager
async def pair(
    *disks: Disk, timeout_s: float | None = 20.0, write_back: bool = False, **how: Any
) -> AsyncIterator[tuple[RemoteDisk, Pair]]:
    """Both primaries on one disk, unless told otherwise, and the disk as the client sees it."""
    one = MemoryDisk(SIZE)
    there = Pair(*(disks or (one, one)))
    served = {"write_back": write_back}
    async with there.primary(0, **served), there.primary(1, **served):
        addresses = ("e1.0", "e2.0")
        async with attach(*addresses, link=there.ports, find_s=1.0, timeout_s=timeout_s, **how) as remote:
            for _ in range(100):
                if all(path.state != "checking" for path in remote.paths):
                    break
                await asyncio.sleep(0.01)
            yield remote, there


def paths_of(remote: RemoteDisk) -> list[Path]:
    """The paths as the Python session knows them."""
    carrier = remote.carrier
    assert isinstance(carrier, LinkCarrier)
    return carrier.core.session.paths


def owner(remote: RemoteDisk) -> str:
    return next((path.name.split()[-1] for path in remote.paths if path.owner), "")


def states(remote: RemoteDisk) -> list[str]:
    return [path.state for path in remote.paths]


async def prove(remote: RemoteDisk) -> None:
    """A write shows that both have one disk."""
    await remote.write(SIZE - 512, b"proof" + bytes(507))
    while any(path.proof for path in remote.paths):
        await remote.next_change()


# Life with writers


async def cut_client_port(there: Pair) -> None:
    there.ports[0].plug(False)
    await asyncio.sleep(1.0)
    there.ports[0].plug(True)


async def silence_server(there: Pair) -> None:
    there.servers[0].plug(False)
    await asyncio.sleep(2.0)
    there.servers[0].plug(True)


async def silence_one_way(there: Pair) -> None:
    """What the client sends is delayed, and arrives in the end."""
    there.ports[0].held = True
    await asyncio.sleep(2.0)
    there.ports[0].let_go()


async def flap(there: Pair) -> None:
    for turn in range(6):
        there.ports[turn % 2].plug(False)
        await asyncio.sleep(0.2)
        there.ports[turn % 2].plug(True)
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("trouble", [cut_client_port, silence_server, silence_one_way, flap])
def test_writers_notice_nothing_but_a_pause(trouble: Callable[[Pair], Any]) -> None:
    @limited
    async def run() -> None:
        async with pair() as (remote, there):
            writers = Writers(remote, all_verbs=True)
            working = asyncio.ensure_future(writers.run(5.0))
            await asyncio.sleep(0.5)
            await trouble(there)
            await working
            writers.check()

    run()


@only_python
def test_without_the_protection_the_writers_find_stale_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail: nothing keeps a range closed here."""

    def forget(channel: Channel, _: int) -> None:
        channel._lanes[Kind.CHANGES].quiesce_ns = 0
        channel.drains = False

    monkeypatch.setattr(Channel, "quiesce_after", forget)

    @limited
    async def run() -> None:
        async with pair() as (remote, there):
            writers = Writers(remote)
            working = asyncio.ensure_future(writers.run(4.0, there.ports[0].let_go))
            await asyncio.sleep(0.5)
            there.ports[0].held = True
            await working
            with pytest.raises(AssertionError):
                writers.check()

    run()


class Lasted(NamedTuple):
    """Seconds: all of them, and those in which this thread was not kept from running by others."""

    all_s: float
    own_s: float


async def pause_of_another_range(remote: RemoteDisk) -> Lasted:
    """How long a write takes that overlaps nothing."""
    all_s, began_s = time.monotonic(), own_s()
    await remote.write(SIZE // 2, b"x" * 512)
    return Lasted(time.monotonic() - all_s, own_s() - began_s)


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """It takes no longer, of our own time."""
    began_s = own_s()
    async with asyncio.timeout(PATIENCE_S):
        yield
    assert own_s() - began_s < seconds


@limited
async def test_a_link_that_goes_down_is_left_at_once() -> None:
    async with pair() as (remote, there):
        assert owner(remote) == "e1.0"
        there.ports[0].plug(False)
        assert (await pause_of_another_range(remote)).own_s < QUICK_S
        assert owner(remote) == "e2.0"
        assert remote.paths[0].reason == "link down"


@limited
async def test_a_server_that_falls_silent_is_left_within_seconds() -> None:
    async with pair() as (remote, there):
        there.servers[0].plug(False)
        lasted = await pause_of_another_range(remote)
        assert lasted.all_s > 0.5
        assert lasted.own_s < SILENT_S
        assert owner(remote) == "e2.0"
        assert remote.paths[0].reason == "silent"


@limited
async def test_several_servers_of_one_address_are_paths_to_one_disk() -> None:
    network, disk = Network(), MemoryDisk(SIZE)
    servers = [network.attach(mac(host), 9000) for host in (1, 2)]
    async with (
        aoe.serve(disk, servers[0], serial=SERIAL),
        aoe.serve(disk, servers[1], serial=SERIAL),
        attach("e0.0", link=network.attach(mac(9), 9000)) as remote,
    ):
        assert len(remote.paths) == 2
        await remote.write(0, b"x" * 512)
        servers[0].plug(False)
        assert await remote.read(0, 512) == b"x" * 512


@limited
async def test_both_gone_and_one_back() -> None:
    async with pair(timeout_s=None) as (remote, there):
        await remote.write(0, b"a" * 512)
        for server in there.servers:
            server.plug(False)
        waiting = asyncio.ensure_future(remote.write(512, b"b" * 512))
        reading = asyncio.ensure_future(remote.read(0, 512))
        await asyncio.sleep(4)
        assert not waiting.done()
        there.servers[1].plug(True)
        async with within(SILENT_S):
            await waiting
            assert await reading == b"a" * 512
        assert owner(remote) == "e2.0"


@limited
async def test_both_gone_for_longer_than_the_caller_waits() -> None:
    async with pair(timeout_s=1.5) as (remote, there):
        for server in there.servers:
            server.plug(False)
        with pytest.raises(Unreachable):
            await remote.read(0, 512)


# Stale writes


async def overtake(remote: RemoteDisk, there: Pair, later_s: float) -> tuple[bytes, float]:
    """A write hangs on the way to the owner, which is lost; the same place is written over by the other path;
    then the network delivers the first. What is stored in the end, and how long the overwriting took."""
    there.ports[0].held = True
    first = asyncio.ensure_future(remote.write(0, b"old!" * 128))
    await asyncio.sleep(0.05)
    there.servers[0].plug(False)
    await first
    began_s = own_s()
    second = asyncio.ensure_future(remote.write(0, b"new!" * 128))
    there.servers[0].plug(True)
    await asyncio.sleep(later_s)
    there.ports[0].let_go()
    await second
    took_s = own_s() - began_s
    await asyncio.sleep(0.1)
    return await remote.read(0, 512), took_s


@limited
async def test_a_write_that_hung_on_the_way_does_not_land_over_newer_data() -> None:
    async with pair() as (remote, there):
        data, took_s = await overtake(remote, there, 1.0)
        assert data == b"new!" * 128
        assert took_s < QUIESCE_S + 0.5


@only_python
@limited
async def test_without_the_protection_it_does() -> None:
    """So the test above can fail."""
    async with pair() as (remote, there):
        for path in paths_of(remote):
            path.channel.quiesce_after(0)
            path.channel.drains = False
        data, took_s = await overtake(remote, there, 1.0)
        assert data == b"old!" * 128
        assert took_s < 1.5


@limited
async def test_its_range_opens_when_the_time_is_over() -> None:
    async with pair() as (remote, there):
        there.ports[0].held = True
        there.ports[0].kept = []
        first = asyncio.ensure_future(remote.write(0, b"a" * 512))
        await first
        all_s, began_s = time.monotonic(), own_s()
        assert (await pause_of_another_range(remote)).own_s < 0.1, "only the range is closed"
        await remote.write(0, b"b" * 512)
        assert time.monotonic() - all_s > 0.5
        assert own_s() - began_s < QUIESCE_S + 0.5


@limited
async def test_a_fence_opens_it_at_once() -> None:
    async with pair() as (remote, there):
        there.ports[0].held = True
        await remote.write(0, b"a" * 512)
        lost = next(path.name for path in remote.paths if not path.owner)
        remote.fenced(lost)
        began_s = own_s()
        await remote.write(0, b"b" * 512)
        assert own_s() - began_s < 0.5


# Who may join


@pytest.mark.parametrize(
    ("second", "how", "reason"),
    [
        (MemoryDisk(SIZE), {"serial": "ANOTHER"}, "another disk"),
        (MemoryDisk(SIZE // 2), {}, "another size"),
    ],
    ids=["serial", "size"],
)
def test_what_is_another_disk_does_not_join(second: Disk, how: dict[str, Any], reason: str) -> None:
    @limited
    async def run() -> None:
        there = Pair(MemoryDisk(SIZE), second)
        async with (
            there.primary(0),
            there.primary(1, **how),
            attach("e1.0", "e2.0", link=there.ports) as remote,
        ):
            await until(lambda: any(reason in path.reason for path in remote.paths))
            assert [reason in path.reason for path in remote.paths if path.state != "usable"] == [True]
            await remote.write(0, b"x" * 512)

    run()


@limited
async def test_volatile_caches_do_not_join() -> None:
    async with pair(write_back=True) as (remote, _):
        assert sorted(states(remote)) == ["refused", "usable"]
        assert any("volatile" in path.reason for path in remote.paths)


# Who is still the same


@only_python
@limited
async def test_a_server_that_started_again_is_looked_at_before_the_next_write() -> None:
    disk = MemoryDisk(SIZE)
    there = Pair(disk, disk)
    async with there.primary(0), attach("e1.0", link=there.ports[0]) as remote:
        await remote.write(0, b"a" * 512)
        there.ports[0].sent.clear()
        paths_of(remote)[0].vouched = False  # as an advertisement would have it
        await remote.write(0, b"b" * 512)
        assert [raw[27] for raw in there.ports[0].sent] == [0xEC, 0x34]


@only_python
@limited
async def test_an_advertisement_asks_for_a_look() -> None:
    """At once: where all that is under way is dropped by a server that started again, nothing else would."""
    disk = MemoryDisk(SIZE)
    there = Pair(disk, disk)
    async with there.primary(0), attach("e1.0", link=there.ports[0]) as remote:
        await remote.write(0, b"a" * 512)
        there.ports[0].sent.clear()
        # our target advertises at 0, 1 and 3 s
        await until(lambda: 0xEC in [raw[27] for raw in there.ports[0].sent if raw[19] == 0])
        await until(lambda: paths_of(remote)[0].vouched, what="it is not answered")


@only_python
@limited
async def test_a_flush_fails_once_after_a_server_lost_its_cache() -> None:
    there = Pair(MemoryDisk(SIZE))
    async with there.primary(0, write_back=True), attach("e1.0", link=there.ports[0]) as remote:
        await remote.write(0, b"a" * 512)
        await remote.flush()
        await remote.write(0, b"b" * 512)
        path = paths_of(remote)[0]
        assert path.facts is not None
        path.facts = path.facts._replace(instance=1)  # it was another process then
        path.vouched = False
        await remote.write(512, b"c" * 512)
        with pytest.raises(DiskError, match="lost its cache"):
            await remote.flush()
        await remote.flush()


# Slow is not dead


@limited
async def test_a_disk_that_is_slow_for_seconds_is_not_left() -> None:
    """Rule I7: the server answers queries."""
    held = FaultyDisk(MemoryDisk(SIZE))
    async with pair(held, MemoryDisk(SIZE)) as (remote, _):
        held.hang.clear()
        writing = asyncio.ensure_future(remote.write(0, b"a" * 512))
        await asyncio.sleep(3)
        assert owner(remote) == "e1.0"
        held.hang.set()
        await writing
        assert not any(path.reason for path in remote.paths)


@limited
async def test_one_that_stays_slow_is_left_and_not_gone_back_to() -> None:
    held, slow = FaultyDisk(MemoryDisk(SIZE)), USUAL._replace(slow_ns=1_000_000_000)
    there = Pair(held, MemoryDisk(SIZE))
    async with (
        there.primary(0),
        there.primary(1),
        attach_by(slow, (1, 0), (2, 0), link=there.ports, find_s=1.0, timeout_s=20.0) as remote,
    ):
        held.hang.clear()
        async with within(SILENT_S):
            await remote.write(0, b"a" * 512)
        for _ in range(20):
            assert owner(remote) == "e2.0"
            await remote.write(4096, b"b" * 512)
            await asyncio.sleep(0.1)
        held.hang.set()


@limited
async def test_the_owner_is_chosen_by_hand() -> None:
    async with pair() as (remote, there):
        assert owner(remote) == "e1.0"
        await prove(remote)
        remote.prefer(remote.paths[1].name)
        there.ports[0].sent.clear()
        await remote.write(0, b"x" * 512)
        assert owner(remote) == "e2.0"
        assert not there.ports[0].sent
        with pytest.raises(RequestError, match="no usable path"):
            remote.prefer("nowhere")


@limited
async def test_growth_is_noticed_by_itself_and_the_other_server_may_be_later() -> None:
    disks = [MemoryDisk(SIZE), MemoryDisk(SIZE)]
    there = Pair(*disks)
    async with (
        there.primary(0) as first,
        there.primary(1) as second,
        attach("e1.0", "e2.0", link=there.ports) as remote,
    ):
        disks[0].data += bytes(SIZE)
        await first.refresh()
        await asyncio.sleep(1.1)  # a second of silence
        await remote.write(0, b"x" * 512)
        assert remote.size == 2 * SIZE
        there.ports[0].plug(False)
        writing = asyncio.ensure_future(remote.write(SIZE, b"y" * 512))
        await asyncio.sleep(0.3)
        assert not writing.done(), "there is no such sector there yet"
        disks[1].data += bytes(SIZE)
        await second.refresh()
        async with within(SILENT_S):
            await writing


@only_python
@limited
async def test_a_flush_does_not_vouch_for_what_was_written_meanwhile() -> None:
    class SlowFlush(MemoryDisk):
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def flush(self) -> None:
            self.begun.set()
            await self.go_on.wait()

    disk = SlowFlush(SIZE)
    there = Pair(disk)
    async with there.primary(0, write_back=True), attach("e1.0", link=there.ports[0]) as remote:
        flushing = asyncio.ensure_future(remote.flush())
        await disk.begun.wait()
        await remote.write(0, b"a" * 512)
        disk.go_on.set()
        await flushing
        path = paths_of(remote)[0]
        assert path.facts is not None
        path.facts = path.facts._replace(instance=1)
        path.vouched = False
        await remote.write(512, b"b" * 512)
        with pytest.raises(DiskError, match="lost its cache"):
            await remote.flush()


# Policies


@limited
async def test_what_is_held_waits_until_the_old_primary_answers() -> None:
    async with pair(hold=True) as (remote, there):
        there.ports[0].held = True
        await remote.write(0, b"old!" * 128)
        second = asyncio.ensure_future(remote.write(0, b"new!" * 128))
        await asyncio.sleep(QUIESCE_S + 0.5)
        assert not second.done()
        assert (await pause_of_another_range(remote)).own_s < QUICK_S
        (lost,) = [path for path in remote.paths if path.unsettled]
        assert lost.fate == "hold"
        there.ports[0].let_go()
        async with within(SILENT_S):
            await second
        await asyncio.sleep(0.1)
        assert await remote.read(0, 512) == b"new!" * 128
        assert not any(path.unsettled for path in remote.paths)


@limited
async def test_a_fence_command_is_told_whom_and_opens_the_ranges() -> None:
    with tempfile.TemporaryDirectory() as directory:
        said = FilePath(directory) / "said"
        fence = ("/bin/sh", "-c", f'echo "$@" > {said}', "fence")
        async with pair(hold=True, fence=fence) as (remote, there):
            there.ports[0].held = True
            await remote.write(0, b"old!" * 128)
            async with within(SILENT_S):
                await remote.write(0, b"new!" * 128)
            assert said.read_text().split() == [mac(1).hex(":"), "e1.0"]


@limited
async def test_a_fence_command_that_fails_is_tried_again() -> None:
    with tempfile.TemporaryDirectory() as directory:
        tried = FilePath(directory) / "tried"
        fence = ("/bin/sh", "-c", f"test -e {tried} && exit 0; touch {tried}; exit 1")
        async with pair(hold=True, fence=fence) as (remote, there):
            there.ports[0].held = True
            await remote.write(0, b"old!" * 128)
            async with within(2 * SILENT_S):
                await remote.write(0, b"new!" * 128)


@limited
async def test_nobody_is_fenced_while_there_is_nobody_else() -> None:
    with tempfile.TemporaryDirectory() as directory:
        said = FilePath(directory) / "said"
        async with pair(fence=("/bin/touch", str(said)), timeout_s=1.0) as (remote, there):
            for port in there.ports:
                port.plug(False)
            with pytest.raises(Unreachable):
                await remote.write(0, b"x" * 512)
            assert not said.exists()


@limited
async def test_what_is_closed_says_so() -> None:
    async with pair() as (remote, _):
        name = remote.paths[1].name
    for call in (lambda: remote.prefer(name), lambda: remote.fenced(name)):
        with pytest.raises(RequestError, match="closed"):
            call()
    with pytest.raises(RequestError, match="closed"):
        await remote.admin.reserve()


@limited
async def test_a_fence_command_that_fails_opens_nothing() -> None:
    async with pair(fence=("/bin/false",)) as (remote, there):
        there.ports[0].held = True
        await remote.write(0, b"old!" * 128)
        loop = asyncio.get_running_loop()
        started = loop.time()
        await remote.write(0, b"new!" * 128)
        assert loop.time() - started > 0.5


@limited
async def test_reads_are_spread_over_the_paths() -> None:
    async with pair(spread=True) as (remote, there):
        await prove(remote)
        for port in there.ports:
            port.sent.clear()
        await asyncio.gather(*(remote.read(offset, 4096) for offset in range(0, SIZE, 4096)))
        share = [sum(raw[27] == 0x24 for raw in port.sent if raw[19] == Command.ATA) for port in there.ports]
        assert min(share) > sum(share) / 4


@limited
async def test_a_preferred_path_is_gone_back_to() -> None:
    async with pair(failback_s=3.0) as (remote, there):
        await prove(remote)
        there.ports[0].plug(False)
        await remote.write(0, b"x" * 512)
        assert owner(remote) == "e2.0"
        there.ports[0].plug(True)
        await asyncio.sleep(0.5)
        assert owner(remote) == "e2.0"
        async with within(3 + SILENT_S):
            while owner(remote) != "e1.0":
                await remote.next_change()


@limited
async def test_a_primary_that_was_away_becomes_a_path() -> None:
    disk = MemoryDisk(SIZE)
    there = Pair(disk, disk)
    async with there.primary(0), attach("e1.0", "e2.0", link=there.ports) as remote:
        assert states(remote) == ["usable"]
        async with there.primary(1):
            async with within(SILENT_S):
                while states(remote) != ["usable", "usable"]:
                    await remote.next_change()
            there.ports[0].plug(False)
            assert (await pause_of_another_range(remote)).own_s < QUICK_S


@limited
async def test_both_primaries_may_be_away_for_longer_than_anything_waits() -> None:
    async with pair(timeout_s=None) as (remote, there):
        for server in there.servers:
            server.plug(False)
        writing = [asyncio.ensure_future(remote.write(place * 512, b"w" * 512)) for place in range(64)]
        await asyncio.sleep(8)
        assert not any(write.done() for write in writing)
        there.servers[1].plug(True)
        async with within(5 + SILENT_S):
            await asyncio.gather(*writing)
        assert await remote.read(0, 64 * 512) == b"w" * 64 * 512


# The AoE verbs


@limited
async def test_every_server_is_told_and_all_our_macs_are_named() -> None:
    async with pair() as (remote, there):
        ours = sorted(port.mac for port in there.ports)
        assert sorted(await remote.admin.reserve()) == ours
        for port in there.ports:
            port.plug(False)
            await remote.write(0, b"x" * 512)
            port.plug(True)
            await asyncio.sleep(0.05)
        assert sorted(await remote.admin.reserved()) == ours
        assert await remote.admin.release() == []


@limited
async def test_config_string_and_mask_list() -> None:
    async with pair() as (remote, there):
        assert await remote.admin.config() == b""
        assert await remote.admin.set_config(b"one") == b"one"
        with pytest.raises(TargetRefused, match="4"):
            await remote.admin.set_config(b"two")
        assert await remote.admin.set_config(b"two", force=True) == b"two"
        with pytest.raises(OutOfRangeError, match="1024"):
            await remote.admin.set_config(bytes(1025))
        with pytest.raises(RequestError, match="lock this host out"):
            await remote.admin.edit_mask(add=[mac(77)])
        ours = [port.mac for port in there.ports]
        assert sorted(await remote.admin.edit_mask(add=[*ours, mac(77)])) == sorted([*ours, mac(77)])
        assert sorted(await remote.admin.edit_mask(delete=[mac(77)])) == sorted(ours)
        await remote.write(0, b"x" * 512)


@limited
async def test_the_verbs_say_so_where_no_server_is_left() -> None:
    async with pair() as (remote, there):
        for port in there.ports:
            port.plug(False)
        with pytest.raises(Unreachable, match="link down"):
            await remote.admin.config()


def test_a_malformed_answer_to_a_verb_is_an_error() -> None:
    async def lying(command: Command, body: bytes, least: int) -> list[bytes]:
        return [bytes(24) + bytes((0, 9))]  # nine MACs, it says

    with pytest.raises(RequestError, match="malformed"):
        asyncio.run(Admin(lying, list).reserved())


# One disk or two


@limited
async def test_two_servers_with_one_serial_and_different_disks_are_not_joined() -> None:
    """They are equal where both are looked at, as two clones of one template are."""
    async with pair(*clones(), spread=True, timeout_s=3) as (remote, there):
        assert states(remote) == ["usable", "usable"]
        assert [path.proof for path in remote.paths] == ["", "unproved"]
        assert {await remote.read(3 * SIZE, 512) for _ in range(20)} == {b"a" * 512}
        for place in range(limits.ECHOES_MAX):
            await remote.write(3 * SIZE + place * 4096, b"w" * 512)
            await asyncio.sleep(0.05)
        await until(lambda: states(remote)[1] == "refused")
        path = remote.paths[1]
        assert "what was written at LBA" in path.reason
        there.servers[0].plug(False)
        with pytest.raises(Unreachable, match="another disk"):
            await remote.read(0, 512)


def clones() -> tuple[MemoryDisk, MemoryDisk]:
    disks = MemoryDisk(8 * SIZE), MemoryDisk(8 * SIZE)
    for disk, filler in zip(disks, b"ab", strict=True):
        disk.data[3 * SIZE : 3 * SIZE + 512] = bytes((filler,)) * 512
    return disks


@limited
async def test_two_servers_with_one_serial_and_other_content_are_refused_at_attach() -> None:
    first, second = MemoryDisk(SIZE), MemoryDisk(SIZE)
    second.data[SIZE // 2] = 1
    async with pair(first, second) as (remote, _):
        assert states(remote) == ["usable", "refused"]
        assert f"LBA {SIZE // 1024} differs" in remote.paths[1].reason


@limited
async def test_one_that_has_to_be_proved_waits_for_the_owner() -> None:
    async with pair(verify="require", timeout_s=10) as (remote, there):
        there.servers[0].plug(False)
        writing = asyncio.ensure_future(remote.write(0, b"a" * 512))
        await asyncio.sleep(3)
        assert not writing.done()
        with pytest.raises(RequestError, match="unproved"):
            remote.prefer(remote.paths[1].name)
        there.servers[0].plug(True)
        await writing
        await prove(remote)
        there.servers[0].plug(False)
        await remote.write(0, b"b" * 512)
        assert owner(remote) == "e2.0"


@limited
async def test_without_that_it_takes_over_and_is_said_to_be_unproved() -> None:
    async with pair() as (remote, there):
        there.servers[0].plug(False)
        await remote.write(0, b"a" * 512)
        assert owner(remote) == "e2.0"
        assert remote.paths[1].proof == "unproved"


@limited
async def test_no_other_word_says_how_servers_are_verified() -> None:
    with pytest.raises(ConfigurationError, match="not one of trust, require"):
        async with pair(verify="never"):
            pass
