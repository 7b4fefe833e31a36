"""`aoe.serve` and Target as a program uses them, over a network in memory."""

import asyncio
import errno
import itertools
import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import aoe
from aoe.disk.faulty import FaultyDisk
from aoe.disk.memory import MemoryDisk
from aoe.disk.open import Opening, open_disk
from aoe.errors import AoeError, ConfigurationError, DiskError
from aoe.limits import ADDRESS_QUERIES, PACE_BURST
from aoe.link.base import Link
from aoe.link.faulty import FaultyLink
from aoe.link.memory import MemoryLink, Network
from aoe.target.export import Export
from aoe.target.offer import Offer, check_serial
from aoe.target.order import OrderQueue, Ticket
from aoe.target.target import Target
from aoe.timing import ADVERTISED_FIRST_S
from aoe.wire import config, frame, mask
from aoe.wire.config import Config, ConfigCommand
from aoe.wire.frame import BROADCAST, FLAG_ERROR, FLAG_RESPONSE, Command, Header
from aoe.wire.mask import Directive, DirectiveCommand
from aoe.wire.protocol import CONFIG_STRING_MAX, SECTOR, SHELF_ALL, SLOT_ALL
from aoe.wire.reserve import ReserveCommand
from tests.disk.helpers import Medium, noise, open_descriptors, sparse
from tests.link.collector import until
from tests.serve.initiator import AtaFailed, Initiator, NoAnswer, Refused, decoded, mac, word
from tests.support.waiting import PATIENCE_S, PROMPT_S

SECTORS = 1024
TARGET, OTHER = mac(1), mac(2)
CONFIG_QUERY = config.encode(Config(ConfigCommand.READ))


def memory_disk() -> MemoryDisk:
    return MemoryDisk(SECTORS * SECTOR)


@asynccontextmanager
async def servers(
    network: Network, *disks: Any, shelf: int = 0, stop_s: float = 5.0
) -> AsyncIterator[tuple[Target, list[Export]]]:
    """Disks as slots 0, 1, ... of one target."""
    offers = [Offer(disk, shelf, slot, f"S{slot}") for slot, disk in enumerate(disks)]
    target = Target.open([network.attach(TARGET)], rng=random.Random(1))
    exports = await target.add(*offers, check=False)
    try:
        yield target, exports
    finally:
        await target.stop(stop_s)


async def finished(*work: Awaitable[Any], seconds: float = PATIENCE_S) -> list[Any]:
    """Results and errors of things done at the same time."""
    return await asyncio.wait_for(asyncio.gather(*work, return_exceptions=True), seconds)


# The ordinary way


@pytest.mark.parametrize("mtu", [1500, 9000])
def test_round_trip(mtu: int) -> None:
    async def scenario() -> None:
        network, disk = Network(), memory_disk()
        async with aoe.serve(disk, network.attach(TARGET, mtu), shelf=3, slot=4, serial="ABC") as server:
            initiator = Initiator(network.attach(mac(9), mtu), 3, 4)
            per_frame = (await initiator.config()).sector_count
            assert per_frame == {1500: 2, 9000: 16}[mtu]
            data = noise(per_frame)
            await initiator.write(5, data)
            await initiator.write(5 + per_frame, noise(1, 1), fua=True)
            await initiator.flush()
            await initiator.verify(0, 128)
            await initiator.trim((5, 1))
            assert await initiator.read(5, per_frame) == bytes(SECTOR) + data[SECTOR:]
            identify = await initiator.identify()
            assert int.from_bytes(identify[200:208], "little") == SECTORS
            assert server.counters()["writes"] == 2
            assert (await initiator.ata(0x24, SECTORS - 1, 2)).error == 0x10
        assert disk.data[6 * SECTOR :][: len(data)] == data[SECTOR:] + noise(1, 1)

    asyncio.run(scenario())


def test_ranges_of_a_trim_that_touch_are_one_call_of_the_disk() -> None:
    calls: list[tuple[int, int]] = []

    class Counted(MemoryDisk):
        async def trim(self, offset: int, length: int) -> None:
            calls.append((offset, length))
            await super().trim(offset, length)

    async def scenario() -> None:
        network = Network()
        async with aoe.serve(Counted(1024 * SECTOR), network.attach(TARGET)):
            initiator = Initiator(network.attach(mac(9)))
            await initiator.trim((0, 100), (100, 28), (256, 8), (264, 1))
        assert calls == [(0, 128 * SECTOR), (256 * SECTOR, 9 * SECTOR)]

    asyncio.run(scenario())


def test_a_read_only_disk_refuses_writes() -> None:
    async def scenario() -> None:
        network = Network()
        async with aoe.serve(MemoryDisk(8 * SECTOR, read_only=True), network.attach(TARGET)):
            initiator = Initiator(network.attach(mac(9)))
            reply = await initiator.ata(0x34, 0, 1, noise(1))
            assert (reply.status, reply.error) == (0x41, 0x04)
            assert await initiator.read(0) == bytes(SECTOR)
            assert word(await initiator.identify(), 169) == 0

    asyncio.run(scenario())


class Journal(MemoryDisk):
    """Writes down what it is asked, in the order in which it was done."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.done: list[str] = []

    async def write(self, offset: int, data: bytes, fua: bool = False) -> None:
        await super().write(offset, data, fua)
        self.done.append("durable write" if fua else "write")

    async def flush(self) -> None:
        self.done.append("flush")


@pytest.mark.parametrize("write_back", [False, True])
def test_durability_is_what_was_asked_for(write_back: bool) -> None:
    async def scenario() -> None:
        network, disk = Network(), Journal(SECTORS * SECTOR)
        async with aoe.serve(disk, network.attach(TARGET), write_back=write_back):
            initiator = Initiator(network.attach(mac(9)))
            await initiator.write(0, noise(1))
            await initiator.write(1, noise(1), fua=True)
            await initiator.flush()
            assert bool(word(await initiator.identify(), 85) & 0x20) == write_back
        assert disk.done == ["write" if write_back else "durable write", "durable write", "flush"]

    asyncio.run(scenario())


def test_a_disk_that_grew_is_served_larger() -> None:
    async def scenario() -> None:
        network, disk = Network(), memory_disk()
        async with aoe.serve(disk, network.attach(TARGET)) as server:
            initiator = Initiator(network.attach(mac(9)))
            assert await server.refresh() == []
            disk.data.extend(bytes(8 * SECTOR))
            assert [export.address for export in await server.refresh()] == ["e0.0"]
            await initiator.write(SECTORS + 7, noise(1))
            assert int.from_bytes((await initiator.identify())[200:208], "little") == SECTORS + 8

    asyncio.run(scenario())


def test_it_answers_on_every_link() -> None:
    async def scenario() -> None:
        networks = [Network(), Network()]
        links = [network.attach(mac(1 + n)) for n, network in enumerate(networks)]
        async with aoe.serve(memory_disk(), *links):
            first, second = (Initiator(network.attach(mac(9))) for network in networks)
            await first.write(0, noise(1))
            assert await second.read(0) == noise(1)
            assert {header.src for header in first.headers} == {mac(1)}
            assert {header.src for header in second.headers} == {mac(2)}

    asyncio.run(scenario())


# Disk errors


BAD_SECTOR_REPLIES = [
    ("read", 0x41, 0x40),
    ("verify", 0x41, 0x40),
    ("write", 0x41, 0x04),
    ("trim", 0x41, 0x04),
]


@pytest.mark.parametrize(("verb", "status", "error"), BAD_SECTOR_REPLIES)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_disk_error_is_an_ata_error_with_the_failing_sector(
    verb: str, status: int, error: int, code: int
) -> None:
    async def scenario() -> None:
        network = Network()
        disk = FaultyDisk(memory_disk(), bad_offsets={21 * SECTOR, 22 * SECTOR})
        disk.code = code
        async with aoe.serve(disk, network.attach(TARGET, 9000)) as server:
            initiator = Initiator(network.attach(mac(9), 9000), retransmit_s=5, patience_s=30)
            request = {
                "read": initiator.read(16, 8),
                "verify": initiator.verify(0, 128),
                "write": initiator.write(16, noise(8)),
                "trim": initiator.trim((500, 8), (20, 4)),
            }
            began = time.monotonic()
            with pytest.raises(AtaFailed) as caught:
                await request.pop(verb)
            assert time.monotonic() - began < PROMPT_S
            for other in request.values():
                other.close()
            reply = caught.value.reply
            assert (reply.status, reply.error, reply.lba) == (status, error, 21)
            assert server.counters()["disk_errors"] == 1
            assert not any(header.flags & FLAG_ERROR for header in initiator.headers)
            await initiator.write(40, noise(8))
            assert await initiator.read(40, 8) == noise(8)

    asyncio.run(scenario())


def test_a_sync_error_is_an_ata_error() -> None:
    async def scenario() -> None:
        network, disk = Network(), FaultyDisk(memory_disk())
        disk.sync_fails = True
        async with aoe.serve(disk, network.attach(TARGET)):
            initiator = Initiator(network.attach(mac(9)))
            with pytest.raises(AtaFailed) as caught:
                await initiator.flush()
            assert (caught.value.reply.status & 0x41, caught.value.reply.error) == (0x41, 0x04)
            assert await initiator.read(0) == bytes(SECTOR)

    asyncio.run(scenario())


def test_after_a_failed_sync_a_real_disk_reports_a_device_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fdatasync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def scenario() -> None:
        network = Network()
        async with aoe.serve(open_disk(sparse(tmp_path / "disk", 64)), network.attach(TARGET)):
            initiator = Initiator(network.attach(mac(9)))
            monkeypatch.setattr("os.fdatasync", fdatasync)
            with pytest.raises(AtaFailed):
                await initiator.flush()
            monkeypatch.undo()
            for request in (initiator.flush(), initiator.write(0, noise(1)), initiator.trim((0, 8))):
                with pytest.raises(AtaFailed) as caught:
                    await request
                assert (caught.value.reply.status, caught.value.reply.error) == (0x61, 0x04)
            assert await initiator.read(0) == bytes(SECTOR)

    asyncio.run(scenario())


def test_a_bad_sector_that_hangs_is_reported_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    medium = Medium(monkeypatch)
    medium.bad = medium.hanging = {21}

    async def scenario() -> None:
        network, disk = Network(), open_disk(sparse(tmp_path / "disk", 64), Opening(direct=False))
        async with aoe.serve(disk, network.attach(TARGET, 9000)):
            initiator = Initiator(network.attach(mac(9), 9000), retransmit_s=5, patience_s=30)
            began = time.monotonic()
            with pytest.raises(AtaFailed) as caught:
                await initiator.read(16, 16)
            assert time.monotonic() - began < PROMPT_S
            reply = caught.value.reply
            assert (reply.status, reply.error, reply.lba) == (0x41, 0x40, 21)
            medium.released.set()

    try:
        asyncio.run(scenario())
    finally:
        medium.released.set()


def test_a_hung_disk_does_not_stop_the_other_export() -> None:
    async def scenario() -> None:
        network, sick = Network(), FaultyDisk(memory_disk())
        sick.hang.clear()
        async with servers(network, sick, memory_disk()) as _:
            hung = Initiator(network.attach(mac(8)), 0, 0, retransmit_s=0.05, patience_s=60)
            well = Initiator(network.attach(mac(9)), 0, 1)
            requests = [asyncio.ensure_future(hung.write(n, noise(1, n))) for n in range(100)]
            began = time.monotonic()
            for lba in range(100):
                await well.write(lba, noise(1))
                assert await well.read(lba) == noise(1)
            assert time.monotonic() - began < PROMPT_S
            assert await hung.config() is not None
            assert not any(request.done() for request in requests)
            sick.hang.set()
            await finished(*(asyncio.wait_for(request, 30) for request in requests))
            assert [await hung.read(n) for n in range(100)] == [noise(1, n) for n in range(100)]

    asyncio.run(scenario())


# The end


def test_a_clean_stop_finishes_and_answers_what_is_in_flight() -> None:
    async def scenario() -> None:
        network, disk = Network(), memory_disk()
        async with servers(network, FaultyDisk(disk, delay_s=0.2)) as (server, _):
            initiator = Initiator(network.attach(mac(9)), retransmit_s=5, patience_s=30)
            writes = [asyncio.ensure_future(initiator.write(n, noise(1, n))) for n in range(20)]
            await asyncio.sleep(0.05)
            assert await server.stop(30)
            assert await finished(*(asyncio.wait_for(write, 30) for write in writes)) == [None] * 20
        assert disk.data[: 20 * SECTOR] == b"".join(noise(1, n) for n in range(20))

    asyncio.run(scenario())


def test_after_a_stop_nothing_is_taken_any_more() -> None:
    async def scenario() -> None:
        network, disk = Network(), memory_disk()
        async with aoe.serve(disk, network.attach(TARGET)):
            initiator = Initiator(network.attach(mac(9)))
            await initiator.write(0, noise(1))
        initiator.retransmit_s, initiator.patience_s = 0.05, 0.1
        with pytest.raises(NoAnswer):
            await initiator.write(1, noise(1))
        assert disk.data[SECTOR : 2 * SECTOR] == bytes(SECTOR)

    asyncio.run(scenario())


def test_a_hung_disk_bounds_the_stop() -> None:
    async def scenario() -> None:
        network, inner = Network(), memory_disk()
        sick = FaultyDisk(inner)
        async with servers(network, sick, stop_s=0) as (server, _):
            initiator = Initiator(network.attach(mac(9)))
            sick.hang.clear()
            hung = asyncio.ensure_future(initiator.write(0, noise(1)))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            assert not await server.stop(0.3)
            assert 0.3 <= time.monotonic() - began < PROMPT_S
            sick.hang.set()
            await asyncio.sleep(0.01)
            assert inner.data[:SECTOR] == bytes(SECTOR)
            hung.cancel()

    asyncio.run(scenario())


def test_a_disk_whose_close_hangs_bounds_the_stop_too() -> None:
    """As that of a file whose server does not answer does."""

    class Stuck(FaultyDisk):
        def close(self) -> None:
            assert may_close.wait(2 * PROMPT_S)
            super().close()

    async def scenario() -> None:
        network = Network()
        sick = Stuck(memory_disk())
        async with servers(network, sick, stop_s=0) as (server, _):
            initiator = Initiator(network.attach(mac(9)))
            sick.hang.clear()
            hung = asyncio.ensure_future(initiator.read(0, 1))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            assert not await server.stop(0.3)
            assert time.monotonic() - began < PROMPT_S
            hung.cancel()

    may_close = threading.Event()
    try:
        asyncio.run(scenario())
    finally:
        may_close.set()


def test_stopping_inside_the_block_is_harmless(tmp_path: Path) -> None:
    """It is how a program learns whether the stop was clean."""

    async def scenario() -> None:
        disk = open_disk(sparse(tmp_path / "disk", 8))
        async with aoe.serve(disk, Network().attach(TARGET)) as server:
            assert await server.stop()

    asyncio.run(scenario())


def test_nothing_stays_open(tmp_path: Path) -> None:
    sparse(tmp_path / "disk", 64)

    async def scenario() -> None:
        network = Network()
        before = open_descriptors()
        for _ in range(3):
            disk = open_disk(tmp_path / "disk")
            async with aoe.serve(disk, network.attach(TARGET), serial="S", state_dir=tmp_path / "state"):
                await Initiator(network.attach(mac(9))).write(0, noise(1))
        assert open_descriptors() <= before
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(scenario())


# Many exports, one question


def wildcard(initiator: Initiator) -> None:
    query = initiator.request(Command.CONFIG, CONFIG_QUERY, shelf=SHELF_ALL, slot=SLOT_ALL, tag=77)
    initiator.link.send(query)


def answered(initiator: Initiator) -> int:
    return sum(header.tag == 77 for header in initiator.headers)


def test_many_exports_answer_a_wildcard_once_each_and_paced() -> None:
    async def scenario() -> None:
        network = Network()
        initiator = Initiator(network.attach(mac(9)))
        offers = [
            Offer(MemoryDisk(SECTOR), shelf, slot, f"{shelf}.{slot}")
            for shelf, slot in itertools.product(range(2), range(128))
        ]
        server = Target.open([network.attach(TARGET)])
        await server.add(*offers, check=False)
        async with asyncio.timeout(30):
            while len(initiator.frames) < 256:  # advertisements
                await asyncio.sleep(0.01)
        assert max(initiator.looks) <= PACE_BURST
        initiator.frames.clear()
        initiator.looks.clear()
        wildcard(initiator)
        async with asyncio.timeout(30):
            while answered(initiator) < 256:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        answers = [(header.shelf, header.slot) for header in initiator.headers if header.tag == 77]
        assert sorted(answers) == list(itertools.product(range(2), range(128)))
        assert max(initiator.looks) <= PACE_BURST
        await server.stop()

    asyncio.run(scenario())


def test_each_port_is_paced_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches answers that wait for those of other networks: each would begin where the last has ended."""
    monkeypatch.setattr("aoe.timing.PACE_INTERVAL_S", 0.02)

    async def scenario() -> None:
        networks = [Network() for _ in range(4)]
        asking = [Initiator(network.attach(mac(9))) for network in networks]
        target = Target.open([network.attach(mac(n + 1)) for n, network in enumerate(networks)])
        await target.add(*(Offer(MemoryDisk(SECTOR), 0, n, f"S{n}") for n in range(160)), check=False)
        await until(lambda: all(len(it.frames) >= 160 for it in asking), what="advertisements are missing")
        for initiator in asking:
            initiator.looks.clear()
            wildcard(initiator)
        async with asyncio.timeout(30):
            while max(map(answered, asking)) < 160:
                await asyncio.sleep(0.01)
            assert min(map(answered, asking)) > 80
            while min(map(answered, asking)) < 160:
                await asyncio.sleep(0.01)
        for initiator in asking:
            assert answered(initiator) == 160
            assert max(initiator.looks) <= PACE_BURST
        await target.stop()

    asyncio.run(scenario())


def test_answers_that_are_paced_are_sent_before_the_end() -> None:
    async def scenario() -> None:
        network = Network()
        initiator = Initiator(network.attach(mac(9)))
        async with servers(network, *(MemoryDisk(SECTOR) for _ in range(100))):
            await asyncio.sleep(0.1)
            wildcard(initiator)
            await asyncio.sleep(0.002)
        await until(lambda: answered(initiator) >= 100)
        assert answered(initiator) == 100

    asyncio.run(scenario())


# What is remembered


def test_config_string_mask_and_reservation_come_back(tmp_path: Path) -> None:
    listed = Directive(DirectiveCommand.ADD, mac(9))
    text = b"x" * CONFIG_STRING_MAX

    async def first(network: Network) -> None:
        async with serving(network):
            initiator = Initiator(network.attach(mac(9)))
            await initiator.config(ConfigCommand.SET, text)
            await initiator.ask(Command.MASK, mask.encode(mask.edit(listed)))
            await initiator.reserve(ReserveCommand.SET, mac(9), mac(10))

    async def second(network: Network) -> None:
        async with serving(network):
            initiator = Initiator(network.attach(mac(9)))
            stranger = Initiator(network.attach(mac(10)), retransmit_s=0.05, patience_s=0.1)
            assert (await initiator.config()).text == text
            assert (await initiator.reserve()).macs == (mac(9), mac(10))
            await initiator.write(0, noise(1))
            with pytest.raises(NoAnswer):
                await stranger.config()

    def serving(network: Network) -> Any:
        link = network.attach(TARGET)
        return aoe.serve(memory_disk(), link, serial="S", state_dir=tmp_path / "state")

    asyncio.run(first(Network()))
    asyncio.run(second(Network()))


def test_without_a_state_directory_nothing_is_remembered() -> None:
    async def scenario() -> None:
        for expected in (b"", b""):
            network = Network()
            async with aoe.serve(memory_disk(), network.attach(TARGET), serial="S"):
                initiator = Initiator(network.attach(mac(9)))
                assert (await initiator.config()).text == expected
                await initiator.config(ConfigCommand.SET, b"text")

    asyncio.run(scenario())


def test_a_state_that_cannot_be_saved_is_not_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        network = Network()
        async with aoe.serve(
            memory_disk(), network.attach(TARGET), serial="S", state_dir=tmp_path / "state"
        ) as server:
            initiator = Initiator(network.attach(mac(9)))
            await initiator.config(ConfigCommand.SET, b"good")
            monkeypatch.setattr(Path, "replace", failing_replace)
            with pytest.raises(Refused) as caught:
                await initiator.config(ConfigCommand.FORCE_SET, b"bad")
            assert caught.value.code == 3
            monkeypatch.undo()
            assert (await initiator.config()).text == b"good"
            assert server.counters()["state_not_saved"] == 1

    def failing_replace(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    asyncio.run(scenario())
    assert "state not saved" in caplog.text


def test_two_targets_do_not_share_a_state(tmp_path: Path) -> None:
    async def scenario() -> None:
        network = Network()
        options = {"serial": "S", "state_dir": tmp_path / "state"}
        async with aoe.serve(memory_disk(), network.attach(TARGET), slot=0, **options):  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match="state of serial S"):
                async with aoe.serve(memory_disk(), network.attach(OTHER), slot=1, **options):  # type: ignore[arg-type]
                    pass

    asyncio.run(scenario())


# Whose address it is


def second_server(network: Network, serial: str, **options: Any) -> Any:
    return aoe.serve(memory_disk(), network.attach(OTHER), serial=serial, **options)


def test_an_address_with_another_disk_is_refused() -> None:
    async def scenario() -> None:
        network = Network()
        async with aoe.serve(memory_disk(), network.attach(TARGET), serial="first"):
            initiator = Initiator(network.attach(mac(9)))
            with pytest.raises(ConfigurationError, match=f"e0.0 is already served by {TARGET.hex(':')}"):
                async with second_server(network, "second"):
                    pass
            assert {header.src for header in initiator.headers if header.flags & FLAG_RESPONSE} <= {TARGET}
            async with second_server(network, "second", slot=1):
                assert (await Initiator(network.attach(mac(10)), 0, 1).config()) is not None

    asyncio.run(scenario())


def test_a_refused_start_closes_the_disk_and_the_links(tmp_path: Path) -> None:
    async def scenario() -> None:
        network = Network()
        async with aoe.serve(memory_disk(), network.attach(TARGET), serial="first"):
            before = open_descriptors()
            link, disk = network.attach(OTHER), open_disk(sparse(tmp_path / "disk", 8))
            with pytest.raises(ConfigurationError):
                async with aoe.serve(disk, link, serial="second"):
                    pass
            assert open_descriptors() <= before
            assert link not in network._links

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "options",
    [{"serial": "S", "state_dir": "damaged"}, {"shelf": 70000}, {"slot": 255}, {"serial": "x" * 21}],
    ids=["damaged-state", "shelf", "slot", "serial"],
)
def test_what_cannot_be_served_is_a_configuration_error_and_closes(
    options: dict[str, Any], tmp_path: Path
) -> None:
    if "state_dir" in options:
        options = options | {"state_dir": tmp_path / "state"}
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "S.json").write_text("{")

    async def scenario() -> None:
        network = Network()
        link, disk = network.attach(TARGET), open_disk(sparse(tmp_path / "disk", 8))
        try:
            with pytest.raises(AoeError):
                async with aoe.serve(disk, link, **options):
                    pass
            assert link not in network._links
            with pytest.raises(DiskError, match="Bad file"):
                disk.refresh()
        finally:
            if link in network._links:
                disk.close()

    asyncio.run(scenario())


def test_no_link_at_all_is_a_configuration_error() -> None:
    async def scenario() -> None:
        with pytest.raises(AoeError):
            async with aoe.serve(memory_disk()):
                pass

    asyncio.run(scenario())


def test_a_sibling_with_the_same_disk_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        network = Network()
        async with (
            aoe.serve(memory_disk(), network.attach(TARGET), serial="same"),
            second_server(network, "same"),
        ):
            pass

    asyncio.run(scenario())
    assert f"e0.0: {TARGET.hex(':')} serves the same disk: a sibling primary" in caplog.text


@pytest.mark.parametrize("serial", ["ABC ", " ABC", ""])
def test_a_serial_that_identify_would_change_is_refused(serial: str) -> None:
    with pytest.raises(ConfigurationError, match="serial"):
        check_serial(serial)


@pytest.mark.parametrize("serial", ["A B", "x" * 20])
def test_a_sibling_is_known_by_any_serial_that_is_accepted(serial: str) -> None:
    async def scenario() -> None:
        network = Network()
        async with (
            aoe.serve(memory_disk(), network.attach(TARGET), serial=serial),
            second_server(network, serial),
        ):
            pass

    asyncio.run(scenario())


def test_force_takes_an_address_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        network = Network()
        async with (
            aoe.serve(memory_disk(), network.attach(TARGET), serial="first"),
            second_server(network, "second", force=True),
        ):
            assert (await Initiator(network.attach(mac(9)), dst=OTHER).config()) is not None

    asyncio.run(scenario())
    assert "answers for this address too, with another disk" in caplog.text


def test_without_a_check_nobody_is_asked() -> None:
    async def scenario() -> None:
        network = Network()
        async with aoe.serve(memory_disk(), network.attach(TARGET), serial="first") as first:
            async with second_server(network, "second", check=False):
                assert first.counters()["queries"] == 0
            with pytest.raises(ConfigurationError):
                async with second_server(network, "third"):
                    pass
            assert first.counters()["queries"] > 0

    asyncio.run(scenario())


def test_who_served_the_address_before_may_come_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a box that was down while its address was taken could never start again."""

    async def scenario() -> None:
        options = {"state_dir": tmp_path / "state"}
        network = Network()
        async with second_server(network, "second", **options):
            pass
        async with aoe.serve(memory_disk(), network.attach(TARGET), serial="first"):
            async with second_server(network, "second", **options):
                pass
            with pytest.raises(ConfigurationError):
                async with second_server(network, "third", **options):
                    pass

    asyncio.run(scenario())
    assert "answers for this address too, with another disk" in caplog.text


def test_ones_own_other_interface_is_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """Two interfaces of one host on one segment hear each other."""

    async def scenario() -> None:
        network = Network()
        async with aoe.serve(memory_disk(), network.attach(TARGET), network.attach(OTHER)) as server:
            await asyncio.sleep(0.05)
            assert server.counters()["address_claimed"] == 0

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    assert caplog.records == []


def conflict_of(source: bytes, shelf: int = 0, slot: int = 0) -> bytes:
    header = Header(BROADCAST, source, frame.VERSION, FLAG_RESPONSE, 0, shelf, slot, Command.CONFIG, 0)
    return frame.encode(header, CONFIG_QUERY)


class Echo(Initiator):
    """Says about every question that comes: somebody with a MAC of choice serves that."""

    source = OTHER

    def ready(self, link: Link) -> None:
        count = len(self.frames)
        super().ready(link)
        for header in map(decoded, self.frames[count:]):
            if not header.flags & FLAG_RESPONSE:
                link.send(conflict_of(self.source, header.shelf, header.slot))


@pytest.mark.parametrize(("source", "refused"), [(OTHER, True), (TARGET, False)])
def test_answers_under_ones_own_mac_are_nobody_elses(source: bytes, refused: bool) -> None:
    """The last words of the process before, or a loop in the network."""

    async def scenario() -> bool:
        network = Network()
        Echo(network.attach(mac(9))).source = source
        try:
            async with aoe.serve(memory_disk(), network.attach(TARGET)) as server:
                assert server.counters()["address_claimed"] == 0
        except ConfigurationError:
            return True
        return False

    assert asyncio.run(scenario()) == refused


def test_later_conflicts_are_counted_and_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        network = Network()
        async with aoe.serve(memory_disk(), network.attach(TARGET)) as server:
            other = network.attach(OTHER)
            for _ in range(10):
                other.send(conflict_of(OTHER))
            other.send(conflict_of(OTHER, slot=1))
            await asyncio.sleep(0.02)
            assert server.counters()["address_claimed"] == 10
            assert len(caplog.records) == 1

    asyncio.run(scenario())
    assert f"e0.0: {OTHER.hex(':')} answers for this address too" in caplog.text


# Advertisements


def test_it_says_that_it_is_there() -> None:
    async def scenario() -> None:
        network = Network()
        listener, loop = Initiator(network.attach(mac(9))), asyncio.get_running_loop()

        def advertised() -> list[bytes]:
            return [it for it in listener.frames if decoded(it).flags & FLAG_RESPONSE]

        began_s = loop.time()
        async with aoe.serve(memory_disk(), network.attach(TARGET), shelf=5, slot=6):
            await until(lambda: len(advertised()) >= 2)
            assert loop.time() - began_s >= ADVERTISED_FIRST_S[1]
            for raw in advertised():
                header, message = decoded(raw), config.decode(raw)
                assert (header.dst, header.src, header.flags) == (BROADCAST, TARGET, FLAG_RESPONSE)
                assert (header.shelf, header.slot, header.tag) == (5, 6, 0)
                assert isinstance(message, Config)
                assert message.sector_count == 2

    asyncio.run(scenario())


def test_before_the_address_is_known_to_be_free_nothing_is_answered() -> None:
    async def scenario() -> None:
        network = Network()
        initiator = Initiator(network.attach(mac(9)), retransmit_s=0.02)
        asking = asyncio.ensure_future(initiator.config())
        async with aoe.serve(memory_disk(), network.attach(TARGET)):
            await asking
        said = [bool(it.flags & FLAG_RESPONSE) for it in initiator.headers]
        assert said.index(True) == ADDRESS_QUERIES, "its own questions come first"

    asyncio.run(scenario())


# Order rule T5: a reservation is a drain fence


class Slow(MemoryDisk):
    """Takes a while for each write, never the same, and says who finished when."""

    def __init__(self, size: int, journal: list[str]) -> None:
        super().__init__(size)
        self.journal = journal
        self._rng = random.Random(4)

    def try_read(self, offset: int, length: int) -> bytes:
        return super().try_read(offset, length)

    async def write(self, offset: int, data: bytes, fua: bool = False) -> None:
        for _ in range(self._rng.randrange(100)):  # by the loop's turns, of which one held up skips none
            await asyncio.sleep(0)
        await super().write(offset, data, fua)
        self.journal.append("write")


async def takeover(writers: int = 8) -> list[str]:
    """Writers of one host are under way when another takes the reservation; what happened, in order."""
    journal: list[str] = []
    network = Network()
    async with servers(network, Slow(SECTORS * SECTOR, journal)) as (_, _exports):
        old = Initiator(network.attach(mac(8)), retransmit_s=5, patience_s=30)
        new = Initiator(network.attach(mac(9)), retransmit_s=5, patience_s=30)

        async def writer(number: int) -> None:
            for turn in itertools.count():
                await old.write(number * 100 + turn % 10, noise(1, turn))

        await old.reserve(ReserveCommand.SET, mac(8))
        work = [asyncio.ensure_future(writer(number)) for number in range(writers)]
        await until(lambda: journal.count("write") > 20)
        await new.reserve(ReserveCommand.FORCE_SET, mac(9))
        journal.append("reply")
        ended = await finished(*work)
        assert [(type(error), error.code) for error in ended] == [(Refused, 6)] * writers
        await asyncio.sleep(0.05)
    return journal


def test_no_write_of_the_old_holder_is_done_after_the_reply() -> None:
    journal = asyncio.run(takeover())
    assert journal[-1] == "reply"


def test_a_fence_that_does_not_drain_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault that the test before this one must be able to find."""

    def admit_barrier(self: OrderQueue[Any], job: Any) -> None:
        self._enter(Ticket(job, (), False), [])

    monkeypatch.setattr(OrderQueue, "admit_barrier", admit_barrier)
    assert asyncio.run(takeover())[-1] == "write"


# A bad network


def on_the_client(network: Network, faults: Callable[[MemoryLink], Link]) -> tuple[Link, Link]:
    return network.attach(TARGET), faults(network.attach(mac(9)))


def on_the_target(network: Network, faults: Callable[[MemoryLink], Link]) -> tuple[Link, Link]:
    return faults(network.attach(TARGET)), network.attach(mac(9))


def on_both(network: Network, faults: Callable[[MemoryLink], Link]) -> tuple[Link, Link]:
    return faults(network.attach(TARGET)), faults(network.attach(mac(9)))


DELAY_S = 0.02


@pytest.mark.parametrize(
    ("where", "seed"), [(on_the_client, 1), (on_the_target, 2), (on_both, 3), (on_both, 4)]
)
def test_loss_copies_and_delays_do_no_harm_to_who_asks_again(where: Callable[..., Any], seed: int) -> None:
    """Who lets a range rest until no copy can be under way any more finds there what it wrote last."""

    async def scenario() -> None:
        network, disk = Network(), memory_disk()
        seeds = itertools.count(seed * 10)

        def faults(link: MemoryLink) -> Link:
            return FaultyLink(link, seed=next(seeds), lose=0.15, repeat=0.15, late=0.3, delay_s=DELAY_S)

        near, far = where(network, faults)
        async with aoe.serve(disk, near) as server:
            initiator = Initiator(far, retransmit_s=0.03, patience_s=30)
            for generation in range(3):
                data = noise(128, generation)
                pieces = range(0, 128, 2)
                writes = (initiator.write(at, data[at * SECTOR : (at + 2) * SECTOR]) for at in pieces)
                assert await finished(*writes) == [None] * len(pieces)
                found = await finished(*(initiator.read(at, 2) for at in pieces))
                assert b"".join(found) == data
                await asyncio.sleep(2 * DELAY_S)
            await initiator.flush()
            assert disk.data[: 128 * SECTOR] == data
            assert server.counters()["writes"] > 3 * len(pieces)

    asyncio.run(scenario())
