"""A disk behind AoE: over the network inside the process, with a target of ours and every kind of fault."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import aoe
from aoe import limits
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
from aoe.initiator.discover import discover
from aoe.initiator.remote import RemoteDisk
from aoe.link.base import Link
from aoe.link.faulty import FaultyLink
from aoe.link.memory import Network
from aoe.wire import frame, protocol, reserve
from aoe.wire.address import parse_address
from aoe.wire.frame import Command, Header
from aoe.wire.reserve import Reserve, ReserveCommand
from tests.initiator.helpers import attach, limited, only_python
from tests.support.waiting import PROMPT_S

SERVER, CLIENT, OTHER = (b"\2\0\0\0\0" + bytes([n]) for n in (1, 2, 3))
SIZE = 1 << 20
SECTOR = 512


class Spy(FaultyLink):
    """A link that remembers what was sent."""

    def __init__(self, link: Link, **faults: Any) -> None:
        super().__init__(link, **{"seed": 1, **faults})
        self.sent: list[bytes] = []

    def send(self, frame: bytes, origin: Any = None) -> None:
        self.sent.append(frame)
        super().send(frame, origin)

    def writes(self) -> list[tuple[int, int]]:
        """(lba, sectors) of every write sent."""
        return [
            (int.from_bytes(raw[28:34], "little"), raw[26])
            for raw in self.sent
            if raw[19] == Command.ATA and raw[27] in (0x34, 0x3D)
        ]


@asynccontextmanager
async def attached(
    disk: Disk | None = None, *, mtu: int = 9000, lose: float = 0.0, timeout_s: float = 20.0, **target: Any
) -> AsyncIterator[tuple[RemoteDisk, Spy, Disk]]:
    """Our target and our initiator; each loses what `lose` says of the frames it sends."""
    network, disk = Network(), disk or MemoryDisk(SIZE)
    faults = {"lose": lose, "repeat": lose, "late": lose, "delay_s": 0.005}
    there = FaultyLink(network.attach(SERVER, mtu), seed=2, **faults)
    here = Spy(network.attach(CLIENT, mtu), **faults)
    async with (
        aoe.serve(disk, there, shelf=1, slot=2, **target),
        attach("e1.2", link=here, timeout_s=timeout_s) as remote,
    ):
        yield remote, here, disk


# Data


@limited
async def test_any_byte_range_is_read_and_written() -> None:
    rng = random.Random(3)
    async with attached() as (remote, _, _):
        assert remote.size == SIZE
        model = bytearray(SIZE)
        for _ in range(200):
            offset = rng.randrange(SIZE)
            length = min(rng.choice([0, 1, 511, 512, 513, 4096, 100_000]), SIZE - offset)
            data = rng.randbytes(length)
            await remote.write(offset, data)
            model[offset : offset + length] = data
            start, end = max(0, offset - 700), min(SIZE, offset + length + 700)
            assert await remote.read(start, end - start) == model[start:end]
        assert await remote.read(0, SIZE) == model


@pytest.mark.parametrize("lose", [0.02, 0.2])
def test_nothing_is_lost_over_a_network_that_loses_repeats_and_delays(lose: float) -> None:
    @limited
    async def run() -> None:
        rng = random.Random(4)
        async with attached(lose=lose) as (remote, _, _):
            model = bytearray(SIZE)

            async def worker(first: int) -> None:
                """One of eight, each with a part of the disk for itself."""
                for _ in range(12):
                    offset = first + rng.randrange(SIZE // 8 - 3000)
                    data = rng.randbytes(rng.randrange(1, 3000))
                    await remote.write(offset, data)
                    model[offset : offset + len(data)] = data
                    assert await remote.read(offset, len(data)) == data

            # Parts are far apart: a range of unknown fate would hold its neighbours up for seconds.
            await asyncio.gather(*(worker(part * SIZE // 8) for part in range(8)))
            assert await remote.read(0, SIZE) == model
            assert remote.counters["retransmits"] > 0

    run()


@limited
async def test_a_large_transfer_is_split_and_put_together() -> None:
    async with attached() as (remote, spy, disk):
        data = random.Random(5).randbytes(SIZE)
        await remote.write(0, data)
        assert disk.data == data
        assert await remote.read(0, SIZE) == data
        assert sorted(set(spy.writes())) == [(lba, 16) for lba in range(0, SIZE // SECTOR, 16)]
        late = {"retransmits", "late_replies"}
        assert len(spy.writes()) - SIZE // 8192 <= remote.counters.get("retransmits", 0)
        assert set(remote.counters) <= late, "a busy machine is late, and nothing else"


@pytest.mark.parametrize(("mtu", "sectors"), [(1500, 2), (9000, 16)])
def test_pieces_are_what_the_target_takes(mtu: int, sectors: int) -> None:
    @limited
    async def run() -> None:
        async with attached(mtu=mtu) as (remote, spy, _):
            await remote.write(0, bytes(64 * SECTOR))
            assert {count for _, count in spy.writes()} == {sectors}

    run()


@only_python
def test_who_finds_no_room_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of what is asked for fits; nobody is told, and closing waits for them all."""
    monkeypatch.setattr(limits, "REQUESTS_MAX", 64)

    @limited
    async def run() -> None:
        disk = FaultyDisk(MemoryDisk(SIZE), delay_s=0.001)
        data = random.Random(6).randbytes(SIZE)
        async with attached(disk) as (remote, _, _):
            writes = [
                asyncio.ensure_future(remote.write(at, data[at : at + 4096])) for at in range(0, SIZE, 4096)
            ]
            await asyncio.sleep(0.005)
        assert await asyncio.gather(*writes) == [None] * len(writes)
        assert await disk.read(0, SIZE) == data

    run()


@only_python
def test_no_room_for_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUESTS_MAX", 4)

    @limited
    async def run() -> None:
        disk = FaultyDisk(MemoryDisk(SIZE))
        async with attached(disk, timeout_s=0.3) as (remote, _, _):
            disk.hang.clear()
            reads = [asyncio.ensure_future(remote.read(at * 512, 512)) for at in range(8)]
            ended = await asyncio.gather(*reads, return_exceptions=True)
            assert [type(error) for error in ended] == [Unreachable] * 8
            assert sum("4 frames are waiting" in str(error) for error in ended) == 4
            disk.hang.set()

    run()


# Order


@limited
async def test_what_the_network_repeats_does_not_come_back() -> None:
    """A copy of an old write that the network made, and delivers after a newer one was acknowledged."""
    network, disk = Network(), MemoryDisk(SIZE)
    here = FaultyLink(network.attach(CLIENT, 9000), seed=7, repeat=0.3, late=0.3, delay_s=0.004)
    async with (
        aoe.serve(disk, network.attach(SERVER, 9000), shelf=1, slot=2),
        attach("e1.2", link=here) as remote,
    ):
        for number in range(400):
            await remote.write(0, number.to_bytes(8, "big") * 64)
            assert await remote.read(0, 8) == number.to_bytes(8, "big")


@limited
async def test_writes_that_overlap_are_done_in_the_order_in_which_they_were_called() -> None:
    slow = FaultyDisk(MemoryDisk(SIZE), delay_s=0.002)
    async with attached(slow) as (remote, _, _):
        pieces = [(offset, bytes([n]) * 3000) for n, offset in enumerate(range(0, 20_000, 700))]
        await asyncio.gather(*(remote.write(offset, data) for offset, data in pieces))
        expected = bytearray(SIZE)
        for offset, data in pieces:
            expected[offset : offset + len(data)] = data
        assert await remote.read(0, 30_000) == expected[:30_000]


@limited
async def test_no_two_writes_that_overlap_are_in_flight() -> None:
    """Order rule I2."""
    held = FaultyDisk(MemoryDisk(SIZE))
    async with attached(held) as (remote, spy, _):
        held.hang.clear()
        first = asyncio.ensure_future(remote.write(0, b"a" * 4096))
        second = asyncio.ensure_future(remote.write(2048, b"b" * 4096))
        apart = asyncio.ensure_future(remote.write(65536, b"c" * 4096))
        await asyncio.sleep(0.05)
        assert set(spy.writes()) == {(0, 8), (128, 8)}
        held.hang.set()
        await asyncio.gather(first, second, apart)
        assert await remote.read(0, 8192) == b"a" * 2048 + b"b" * 4096 + bytes(2048)


@limited
async def test_odd_ends_do_not_undo_each_other() -> None:
    """Two writes into one sector: each reads it, patches it and writes it back."""
    slow = FaultyDisk(MemoryDisk(SIZE), delay_s=0.001)
    async with attached(slow) as (remote, _, _):
        await asyncio.gather(*(remote.write(at, bytes([at % 251 + 1])) for at in range(512)))
        assert await remote.read(0, 512) == bytes(at % 251 + 1 for at in range(512))


@limited
async def test_a_cancelled_write_keeps_its_range_closed_until_its_fate_is_known() -> None:
    held = FaultyDisk(MemoryDisk(SIZE))
    async with attached(held) as (remote, spy, _):
        held.hang.clear()
        first = asyncio.ensure_future(remote.write(0, b"a" * 512))
        await asyncio.sleep(0.02)
        first.cancel()
        second = asyncio.ensure_future(remote.write(0, b"b" * 512))
        await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await first
        assert len(spy.writes()) == 1, "the second must not be overtaken by the first"
        held.hang.set()
        await second
        assert await remote.read(0, 512) == b"b" * 512


@limited
async def test_a_write_that_is_cancelled_while_it_waits_is_never_sent() -> None:
    held = FaultyDisk(MemoryDisk(SIZE))
    async with attached(held) as (remote, spy, _):
        held.hang.clear()
        writes = [asyncio.ensure_future(remote.write(0, bytes([n]) * 512)) for n in range(3)]
        await asyncio.sleep(0.02)
        writes[1].cancel()
        held.hang.set()
        await asyncio.gather(writes[0], writes[2])
        assert len(spy.writes()) == 2
        assert await remote.read(0, 512) == b"\2" * 512


@limited
async def test_what_is_written_is_what_the_buffer_held_then() -> None:
    """Order rule I1: copies are identical, whatever the caller does with his buffer."""
    held = FaultyDisk(MemoryDisk(SIZE))
    async with attached(held) as (remote, spy, _):
        held.hang.clear()
        buffer = bytearray(b"a" * 512)
        writing = asyncio.ensure_future(remote.write(0, buffer))
        await asyncio.sleep(0.02)
        buffer[:] = b"b" * 512
        await asyncio.sleep(0.3)
        held.hang.set()
        await writing
        copies = [raw for raw in spy.sent if raw[27] == 0x34]
        assert len(copies) > 1, "it was sent again"
        assert {raw[36 : 36 + 512] for raw in copies} == {b"a" * 512}


# Other verbs


@limited
async def test_trim_zeroes_and_flush() -> None:
    async with attached() as (remote, _, disk):
        await remote.write(0, b"x" * SIZE)
        assert remote.trims
        assert remote.trim_zeroes
        await remote.trim(512, SIZE - 1024)
        assert disk.data == b"x" * 512 + bytes(SIZE - 1024) + b"x" * 512
        await remote.write_zeroes(100, 300)
        await remote.flush()
        assert disk.data[:512] == b"x" * 100 + bytes(300) + b"x" * 112


@limited
async def test_fua_reaches_the_disk() -> None:
    seen: list[bool] = []

    class Watched(MemoryDisk):
        async def write(self, offset: int, data: bytes, fua: bool = False) -> None:
            seen.append(fua)
            await super().write(offset, data, fua)

    async with attached(Watched(SIZE), write_back=True) as (remote, _, _):
        await remote.write(0, bytes(512))
        await remote.write(0, bytes(512), fua=True)
    assert seen == [False, True]


@limited
async def test_growth_is_seen_when_asked_for() -> None:
    disk = MemoryDisk(SIZE)
    network = Network()
    async with (
        aoe.serve(disk, network.attach(SERVER), shelf=1, slot=2) as server,
        attach("e1.2", link=network.attach(CLIENT)) as remote,
    ):
        disk.data += bytes(SIZE)
        await server.refresh()
        await remote.revalidate()
        assert remote.size == 2 * SIZE
        await remote.write(SIZE, b"x" * 512)


@limited
async def test_everybody_is_discovered() -> None:
    network = Network()
    async with contextlib.AsyncExitStack() as stack:
        for slot in range(3):
            link = network.attach(b"\2\0\0\0\1" + bytes([slot]))
            await stack.enter_async_context(aoe.serve(MemoryDisk(SIZE), link, shelf=4, slot=slot))
        asking = network.attach(CLIENT)
        found = await discover(asking, 0.1)
        asking.close()
    assert [(it.shelf, it.slot) for it in found] == [(4, 0), (4, 1), (4, 2)]


# Errors


@pytest.mark.parametrize(("offset", "length"), [(SIZE, 1), (SIZE - 1, 2), (-1, 1), (0, SIZE + 1)])
@pytest.mark.parametrize("verb", ["read", "write", "trim"])
def test_beyond_the_end_is_an_error_and_nothing_is_sent(verb: str, offset: int, length: int) -> None:
    @limited
    async def run() -> None:
        async with attached() as (remote, spy, _):
            before = len(spy.sent)
            call: Callable[..., Any] = getattr(remote, verb)
            with pytest.raises(OutOfRangeError, match="are outside"):
                await call(offset, bytes(length) if verb == "write" else length)
            assert len(spy.sent) == before

    run()


@limited
async def test_a_disk_error_names_the_byte() -> None:
    sick = FaultyDisk(MemoryDisk(SIZE), bad_offsets={20 * SECTOR})
    async with attached(sick) as (remote, _, _):
        with pytest.raises(DiskError) as caught:
            await remote.read(0, 65536)
        assert caught.value.offset == 20 * SECTOR
        assert await remote.read(32 * SECTOR, 512) == bytes(512)


@limited
async def test_a_read_only_target_refuses_writes() -> None:
    async with attached(MemoryDisk(SIZE, read_only=True)) as (remote, _, disk):
        with pytest.raises(DiskError):
            await remote.write(0, b"x" * 512)
        assert not any(disk.data)


@limited
async def test_a_reserved_target_says_so() -> None:
    network = Network()
    async with (
        aoe.serve(MemoryDisk(SIZE), network.attach(SERVER), shelf=1, slot=2),
        attach("e1.2", link=network.attach(CLIENT)) as remote,
    ):
        body = reserve.encode(Reserve(ReserveCommand.SET, (OTHER,)))
        header = Header(SERVER, OTHER, frame.VERSION, 0, 0, 1, 2, Command.RESERVE, 77)
        other = network.attach(OTHER)
        other.send(frame.encode(header, body))
        await asyncio.sleep(0.05)
        with pytest.raises(TargetRefused, match="6"):
            await remote.read(0, 512)


@limited
async def test_a_target_that_falls_silent_is_unreachable_after_the_time_given() -> None:
    held = FaultyDisk(MemoryDisk(SIZE))
    async with attached(held, timeout_s=0.2) as (remote, _, _):
        held.hang.clear()
        started = asyncio.get_running_loop().time()
        with pytest.raises(Unreachable, match=r"e1\.2"):
            await remote.read(0, 512)
        assert 0.15 < asyncio.get_running_loop().time() - started < PROMPT_S
        held.hang.set()
        assert await remote.read(512, 512) == bytes(512)


@limited
async def test_nobody_there_is_an_error_that_names_the_address() -> None:
    with pytest.raises(RequestError, match=r"e9\.9 does not answer"):
        async with attach("e9.9", link=Network().attach(CLIENT), find_s=0.2):
            pass


@limited
async def test_a_closed_disk_answers_nothing() -> None:
    async with attached() as (remote, _, _):
        pass
    with pytest.raises(RequestError, match="closed"):
        await remote.read(0, 512)


@pytest.mark.parametrize("text", ["", "e1", "1.2.3", "e1.255", "e65535.1", "ex.y", "e1.2 "])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not an address"):
        parse_address(text)


def test_addresses() -> None:
    assert parse_address("e1.2") == parse_address("1.2") == (1, 2)
    assert parse_address("e65534.254") == (protocol.SHELF_MAX, protocol.SLOT_MAX)
