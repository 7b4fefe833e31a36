"""A target whose disks come, change and go while it serves."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe.disk.faulty import FaultyDisk
from aoe.disk.memory import MemoryDisk
from aoe.drive.identify import Vendor, vendor_of
from aoe.errors import ConfigurationError
from aoe.link.memory import MemoryLink, Network
from aoe.target.keys import StoreKey
from aoe.target.offer import Offer
from aoe.target.records import StateStore
from aoe.target.server import TargetOptions
from aoe.target.target import Target
from aoe.wire import ata, mask
from aoe.wire.ata import AFLAG_EXTENDED, AFLAG_WRITE, AtaRequest
from aoe.wire.frame import Command
from aoe.wire.mask import Directive, DirectiveCommand, Mask, MaskCommand, MaskError
from aoe.wire.protocol import SECTOR
from tests.disk.helpers import noise
from tests.link.collector import until
from tests.serve.initiator import WRITE_EXT, AtaFailed, Initiator, NoAnswer, mac, word
from tests.support.waiting import PATIENCE_S

TARGET, OTHER, CLIENT = mac(1), mac(2), mac(9)
SECTORS = 64
MASK = (mac(7),)


class Watched(MemoryDisk):
    """Tells whether it was flushed, and whether it was closed."""

    def __init__(self) -> None:
        super().__init__(SECTORS * SECTOR)
        self.flushes = 0
        self.closed = False

    async def flush(self) -> None:
        self.flushes += 1

    def close(self) -> None:
        self.closed = True


class Scene:
    """A target, and a host that asks it for one of its addresses."""

    def __init__(self, options: TargetOptions | None) -> None:
        self.network = Network()
        self.link: MemoryLink = self.network.attach(TARGET)
        self.target = Target.open([self.link], options)
        self._hosts = 20

    def client(self, slot: int = 0, *, patience_s: float = PATIENCE_S) -> Initiator:
        self._hosts += 1
        link = self.network.attach(mac(self._hosts))
        return Initiator(link, 0, slot, retransmit_s=min(0.5, patience_s / 4), patience_s=patience_s)

    async def answers(self, slot: int) -> bool:
        try:
            await self.client(slot, patience_s=0.2).config()
        except NoAnswer:
            return False
        return True

    async def vendor(self, slot: int = 0) -> Vendor:
        said = vendor_of(await self.client(slot).identify())
        assert said is not None
        return said


@asynccontextmanager
async def scene(options: TargetOptions | None = None) -> AsyncIterator[Scene]:
    made = Scene(options)
    try:
        yield made
    finally:
        await made.target.stop(0.5)


class Hanging(NamedTuple):
    """A target whose e0.0 hangs until `disk` is let go on; what that stores; and a write that waits."""

    here: Scene
    store: Watched
    disk: FaultyDisk
    write: asyncio.Future[None]


@asynccontextmanager
async def hanging(**more: object) -> AsyncIterator[Hanging]:
    async with scene() as here:
        store = Watched()
        slow = FaultyDisk(store)
        await here.target.add(offer(slow, 0, **more), check=False)
        slow.hang.clear()
        write = asyncio.ensure_future(here.client(0).write(0, noise(1)))
        await asyncio.sleep(0.05)
        yield Hanging(here, store, slow, write)


def offer(disk: MemoryDisk | FaultyDisk, slot: int = 0, **more: object) -> Offer:
    return Offer(disk, 0, slot, f"S{slot}")._replace(**more)  # type: ignore[arg-type]


def old_write(link: MemoryLink, client: Initiator, age_s: float, seed: int) -> None:
    """A write of sector 0 that the kernel of the target received some time ago."""
    body = ata.encode(AtaRequest(AFLAG_EXTENDED | AFLAG_WRITE, 0, 1, WRITE_EXT, 0, noise(1, seed)))
    link.arrive(client.request(Command.ATA, body), time.time_ns() - int(age_s * 1e9))


# Come


def test_disks_are_added_while_others_are_served() -> None:
    async def run() -> None:
        async with scene() as here:
            assert not await here.answers(0)
            await here.target.add(offer(Watched(), 0))
            first = here.client(0)
            await first.write(1, noise(1))
            await here.target.add(offer(Watched(), 1), offer(Watched(), 2))
            assert [export.address for export in here.target.exports] == ["e0.0", "e0.1", "e0.2"]
            assert await here.client(2).read(1) == bytes(SECTOR)
            assert await first.read(1) == noise(1)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"slot": 0}, r"e0\.0 is served already"),
        ({"serial": "S0"}, "serial S0 is served already"),
        ({"slot": 255}, "slot 255 cannot be used"),
        ({"serial": "late and long and longer"}, "is not printable ASCII"),
    ],
)
def test_what_cannot_be_added_changes_nothing(more: dict[str, object], why: str) -> None:
    async def run() -> None:
        async with scene() as here:
            await here.target.add(offer(Watched(), 0), check=False)
            good, bad = Watched(), Watched()
            with pytest.raises(ConfigurationError, match=why):
                await here.target.add(offer(good, 1), offer(bad, 2)._replace(**more), check=False)
            assert [export.address for export in here.target.exports] == ["e0.0"]
            assert not good.closed
            assert not bad.closed
            await here.target.add(offer(good, 1), check=False)  # nothing is left of the first try

    asyncio.run(run())


def test_no_more_than_it_was_opened_for() -> None:
    async def run() -> None:
        async with scene(TargetOptions(exports_max=2)) as here:
            await here.target.add(offer(Watched(), 0), offer(Watched(), 1), check=False)
            with pytest.raises(ConfigurationError, match="3 disks are too many"):
                await here.target.add(offer(Watched(), 2), check=False)
            assert await here.target.remove(0, 0)
            await here.target.add(offer(Watched(), 2), check=False)

    asyncio.run(run())


def test_an_address_of_another_disk_is_refused_while_others_are_served() -> None:
    async def run() -> None:
        async with scene() as here:
            await here.target.add(offer(Watched(), 0), check=False)
            other = Target.open([here.network.attach(OTHER)])
            await other.add(offer(Watched(), 1, serial="another"), check=False)
            writer = asyncio.ensure_future(here.client(0).write(0, noise(1)))
            with pytest.raises(ConfigurationError, match=rf"e0\.1 is already served by {OTHER.hex(':')}"):
                await here.target.add(offer(Watched(), 1))
            await writer
            await here.target.add(offer(Watched(), 1), force=True)
            await other.stop(0)

    asyncio.run(run())


def test_records_that_were_taken_are_given_back_after_an_error(tmp_path: Path) -> None:
    """The second disk's record belongs to another process."""

    async def run() -> None:
        mine, others = (StateStore(tmp_path) for _ in range(2))
        taken = others.record("S1", StoreKey("/one"))
        taken.open("e9.9")
        async with scene() as here:
            offers = [
                offer(Watched(), 0, record=mine.record("S0", StoreKey("/zero"))),
                offer(Watched(), 1, record=mine.record("S1", StoreKey("/one"))),
            ]
            with pytest.raises(ConfigurationError, match="in use by another process"):
                await here.target.add(*offers, check=False)
            assert here.target.exports == []
            taken.close()
            await here.target.add(*offers, check=False)
            assert len(here.target.exports) == 2

    asyncio.run(run())


def test_a_record_is_in_force_again_and_a_mask_replaces_its_list(tmp_path: Path) -> None:
    async def run(forget: bool, mask: tuple[bytes, ...] | None) -> tuple[bytes, tuple[bytes, ...]]:
        record = StateStore(tmp_path).record("S0", StoreKey("/zero"))
        async with scene() as here:
            one = offer(Watched(), 0, record=record, forget=forget, mask=mask)
            (export,) = await here.target.add(one, check=False)
            state = export.state
            if not state.mask:
                await here.client(0).config(4, b"kept")
            return state.config, state.mask

    assert asyncio.run(run(False, None)) == (b"", ())
    assert asyncio.run(run(False, MASK)) == (b"kept", MASK)
    assert asyncio.run(run(False, None)) == (b"kept", MASK)
    assert asyncio.run(run(True, None)) == (b"", ())


# Go


def test_what_is_under_way_is_answered_before_a_disk_goes() -> None:
    async def run() -> None:
        async with scene() as here:
            store = Watched()
            slow = FaultyDisk(store)
            await here.target.add(offer(slow, 0), offer(Watched(), 1), check=False)
            slow.hang.clear()
            under_way = [asyncio.ensure_future(here.client(0).write(n, noise(1, n))) for n in range(20)]
            await asyncio.sleep(0.05)
            removal = asyncio.ensure_future(here.target.remove(0, 0))
            await asyncio.sleep(0.02)
            assert not await here.answers(0)  # late
            assert await here.answers(1)
            assert not store.closed
            slow.hang.set()
            assert await removal
            await asyncio.gather(*under_way)
            assert bytes(store.data[: 20 * SECTOR]) == b"".join(noise(1, n) for n in range(20))
            assert store.closed
            assert here.target.counters()["other_address"] > 0
            assert [export.address for export in here.target.exports] == ["e0.1"]

    asyncio.run(run())


def test_a_disk_that_hangs_goes_when_it_does_not_any_more() -> None:
    async def run() -> None:
        async with hanging() as (here, store, slow, write):
            assert not await here.target.remove(0, 0, 0.1)
            with pytest.raises(ConfigurationError, match=r"e0\.0 is served already"):
                await here.target.add(offer(Watched(), 0, serial="next"), check=False)
            slow.hang.set()
            await write
            await until(lambda: store.closed, what="it is not closed")
            await here.target.add(offer(Watched(), 0, serial="next"), check=False)

    asyncio.run(run())


def test_only_what_is_served_can_go() -> None:
    async def run() -> None:
        async with scene() as here:
            with pytest.raises(ConfigurationError, match=r"e0\.0 is not served"):
                await here.target.remove(0, 0)

    asyncio.run(run())


def test_a_write_to_the_disk_before_does_not_land_on_the_next() -> None:
    """Order rule T11: the same address, other bytes, and a frame that waited in a queue."""

    async def run() -> None:
        async with scene(TargetOptions(frame_age_s=0.5)) as here:
            await here.target.add(offer(Watched(), 0), check=False)
            client, before = here.client(0), await here.vendor()
            await here.target.remove(0, 0)
            removed = time.monotonic()
            store = Watched()
            await here.target.add(offer(store, 0, serial="next"), check=False)
            assert time.monotonic() - removed >= 0.49
            assert (await here.vendor()).instance != before.instance
            old_write(here.link, client, time.monotonic() - removed + 0.01, 1)
            await asyncio.sleep(0.05)
            assert bytes(store.data[:SECTOR]) == bytes(SECTOR)
            assert here.target.counters()["expired"] == 1

    asyncio.run(run())


# Change


def test_durability_changes_with_a_flush_and_under_a_new_instance() -> None:
    async def run() -> None:
        async with scene() as here:
            store = Watched()
            await here.target.add(offer(store, 0, write_back=True), check=False)
            client, before = here.client(0), await here.vendor()
            assert word(await client.identify(), 85) & 0x20
            await client.write(0, noise(1))
            assert store.flushes == 0
            await here.target.change(0, 0, write_back=False)
            assert store.flushes == 1
            assert not word(await client.identify(), 85) & 0x20
            assert (await here.vendor()).instance != before.instance
            await here.target.change(0, 0, write_back=True)
            assert word(await client.identify(), 85) & 0x20
            assert store.flushes == 1

    asyncio.run(run())


def test_writes_that_were_under_way_are_flushed_too() -> None:
    async def run() -> None:
        async with hanging(write_back=True) as (here, store, slow, write):
            change = asyncio.ensure_future(here.target.change(0, 0, write_back=False))
            await asyncio.sleep(0.05)
            assert store.flushes == 0
            slow.hang.set()
            await asyncio.gather(write, change)
            assert store.flushes == 1

    asyncio.run(run())


def test_a_disk_is_made_read_only_and_writable_again() -> None:
    async def run() -> None:
        async with scene() as here:
            await here.target.add(
                offer(Watched(), 0),
                offer(MemoryDisk(SECTORS * SECTOR, read_only=True), 1),
                check=False,
            )
            client = here.client(0)
            await here.target.change(0, 0, read_only=True)
            with pytest.raises(AtaFailed):
                await client.write(0, noise(1))
            await here.target.change(0, 0, read_only=False)
            await client.write(0, noise(1))
            with pytest.raises(ConfigurationError, match=r"e0\.1: the disk was opened for reading only"):
                await here.target.change(0, 1, read_only=False)

    asyncio.run(run())


# The frame age


def test_what_is_advertised_is_what_is_enforced() -> None:
    """Our initiator builds its quiesce bound on it."""

    async def run() -> None:
        async with scene(TargetOptions(frame_age_s=5)) as here:
            await here.target.add(offer(Watched(), 0), check=False)
            assert (await here.vendor()).frame_age_ms == 5000

    asyncio.run(run())


async def lands(here: Scene, store: Watched, age_s: float, seed: int) -> bool:
    old_write(here.link, here.client(0), age_s, seed)
    await asyncio.sleep(0.05)
    return bytes(store.data[:SECTOR]) == noise(1, seed)


def test_a_longer_age_is_told_before_it_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aoe.timing.NETWORK_LIFETIME_NS", 100_000_000)
    monkeypatch.setattr("aoe.timing.COMPLETION_NS", 100_000_000)

    async def run() -> None:
        async with scene(TargetOptions(frame_age_s=0.5)) as here:
            store = Watched()
            await here.target.add(offer(store, 0), check=False)
            before = await here.vendor()
            raising = asyncio.ensure_future(here.target.set_frame_age(2.0))
            await asyncio.sleep(0.02)
            told = await here.vendor()
            assert told.frame_age_ms == 2000
            assert told.instance != before.instance
            assert not await lands(here, store, 1.0, 1) or raising.done(), "unless the machine stood still"
            await raising
            assert await lands(here, store, 1.0, 2)

    asyncio.run(run())


def test_a_shorter_age_is_in_force_at_once() -> None:
    async def run() -> None:
        async with scene(TargetOptions(frame_age_s=2.0)) as here:
            store = Watched()
            await here.target.add(offer(store, 0), check=False)
            assert await lands(here, store, 1.0, 1)
            await here.target.set_frame_age(0.5)
            assert not await lands(here, store, 1.0, 2)
            assert (await here.vendor()).frame_age_ms == 500

    asyncio.run(run())


def test_a_longer_age_that_is_taken_back_meanwhile_is_never_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aoe.timing.NETWORK_LIFETIME_NS", 100_000_000)
    monkeypatch.setattr("aoe.timing.COMPLETION_NS", 100_000_000)

    async def run() -> None:
        async with scene(TargetOptions(frame_age_s=0.5)) as here:
            store = Watched()
            await here.target.add(offer(store, 0), check=False)
            raising = asyncio.ensure_future(here.target.set_frame_age(2.0))
            await asyncio.sleep(0.02)
            await here.target.set_frame_age(0.5)
            await raising
            assert not await lands(here, store, 1.0, 1)

    asyncio.run(run())


# Lists of hosts, and use


def test_the_administrator_changes_lists_of_hosts_and_they_are_kept(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene() as here:
            record = StateStore(tmp_path).record("S0", StoreKey())
            await here.target.add(offer(Watched(), 0, record=record), check=False)
            client = here.client(0, patience_s=0.2)
            await client.config()
            await here.target.restate(0, 0, mask=MASK, reserve=(mac(8),))
            with pytest.raises(NoAnswer):
                await client.config()
            await here.target.restate(0, 0, mask=())
            await client.config()
        kept = StateStore(tmp_path).record("S0", StoreKey()).state
        assert (kept.mask, kept.reserve) == ((), (mac(8),))

    asyncio.run(run())


def test_a_list_is_in_force_when_what_was_admitted_before_is_over() -> None:
    async def run() -> None:
        async with hanging() as it:
            change = asyncio.ensure_future(it.here.target.restate(0, 0, mask=MASK))
            await asyncio.sleep(0.05)
            assert not change.done()
            it.disk.hang.set()
            await change
            assert await it.store.read(0, SECTOR) == noise(1)
            await asyncio.wait([it.write])

    asyncio.run(run())


def test_a_list_that_cannot_be_kept_is_not_in_force(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene() as here:
            record = StateStore(tmp_path / "state").record("S0", StoreKey())
            await here.target.add(offer(Watched(), 0, record=record), check=False)
            shutil.rmtree(tmp_path / "state")
            with pytest.raises(ConfigurationError, match=r"e0\.0: the state directory takes no change"):
                await here.target.restate(0, 0, mask=MASK)
            assert await here.answers(0)

    asyncio.run(run())


def test_a_list_that_is_the_administrators_is_not_the_networks() -> None:
    async def run() -> None:
        async with scene() as here:
            await here.target.add(offer(Watched(), 0, remote_masks=False), check=False)
            client = here.client(0)
            edit = Mask(
                MaskCommand.EDIT, MaskError.NONE, 1, (Directive(DirectiveCommand.ADD, client.link.mac),)
            )
            await client.ask(Command.MASK, mask.encode(edit))
            assert here.target.exports[0].state.mask == ()
            await here.target.restate(0, 0, remote_masks=True)
            await client.ask(Command.MASK, mask.encode(edit))
            assert here.target.exports[0].state.mask == (client.link.mac,)

    asyncio.run(run())


def test_what_clients_read_and_write_is_use_and_looking_is_not() -> None:
    async def run() -> None:
        async with scene() as here:
            await here.target.add(offer(Watched(), 0), offer(Watched(), 1), check=False)
            for slot in (0, 1):
                await here.client(slot).identify()
                await here.client(slot).config()
            used = {it.slot: it for it in here.target.exports}
            assert [here.target.unused_s(used[slot]) for slot in (0, 1)] == [None, None]
            await here.client(0).read(0)
            assert 0 <= (here.target.unused_s(used[0]) or 0) < 5
            assert here.target.unused_s(used[1]) is None
            await here.client(1).write(0, noise(1))
            assert here.target.unused_s(used[1]) is not None

    asyncio.run(run())
