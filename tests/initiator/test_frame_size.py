"""Frames become smaller and larger under a disk that is in use: nobody notices but the frames."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from aoe.disk.memory import MemoryDisk
from aoe.initiator.remote import RemoteDisk
from aoe.testing import Cable, Lab, Primary
from tests.initiator.helpers import CORE, limited
from tests.link.collector import until
from tests.support.checkers.sized import Sized
from tests.support.waiting import own_s

pytestmark = pytest.mark.one_at_a_time

SIZE = 1 << 20
PAUSE_S = 1.5
"""How long a request may take at most as frames change; measured are the times that the tests print."""

Ends = Callable[[list[Primary], Lab], list[Cable]]


def client_side(servers: list[Primary], lab: Lab) -> list[Cable]:
    return list(lab.client.values())


def target_side(servers: list[Primary], lab: Lab) -> list[Cable]:
    return [cable for server in servers for cable in server.cables.values()]


def both_sides(servers: list[Primary], lab: Lab) -> list[Cable]:
    return client_side(servers, lab) + target_side(servers, lab)


def first_server(servers: list[Primary], lab: Lab) -> list[Cable]:
    return list(servers[0].cables.values())


def sizes(disk: RemoteDisk) -> list[int]:
    return [path.sectors for path in disk.paths]


async def up_and_down(cables: list[Cable], mtus: list[int]) -> None:
    for mtu in mtus:
        await asyncio.sleep(0.4)
        for cable in cables:
            cable.resize(mtu)
    await asyncio.sleep(0.4)


async def resize_under_load(ends: Ends, mtus: list[int], paths: int, **options: bool) -> None:
    lab, store = Lab(), MemoryDisk(SIZE)
    addresses = [f"e{number}.0" for number in range(1, 1 + paths)]
    options["engine"] = CORE.get()  # type: ignore[assignment]
    async with (
        lab.serve(store, "e1.0") as one,
        lab.serve(store, "e2.0") as two,
        lab.attach(*addresses, timeout_s=10, **options) as disk,
    ):
        load = Sized(disk)
        working = asyncio.ensure_future(load.run(0.4 * len(mtus) + 0.4))
        await up_and_down(ends([one, two], lab), mtus)
        await working
        assert load.requests > 50
        print(f"the longest of {load.requests} requests: {load.pause_s:.3f} s")
        assert load.pause_s < PAUSE_S
        assert {path.state for path in disk.paths} == {"usable"}


@pytest.mark.parametrize("paths", [1, 2])
@pytest.mark.parametrize("ends", [client_side, target_side, both_sides, first_server])
def test_the_mtu_changes_under_load(ends: Ends, paths: int) -> None:
    @limited
    async def run() -> None:
        await resize_under_load(ends, [1500, 9000, 1500, 4200, 576, 9000], paths)

    run()


@pytest.mark.parametrize("ends", [client_side, first_server])
def test_the_mtu_changes_as_reads_are_spread(ends: Ends) -> None:
    @limited
    async def run() -> None:
        await resize_under_load(ends, [1500, 9000, 576, 9000], 2, spread=True)

    run()


# A switch between jumbo ends


@asynccontextmanager
async def one_server(
    lab: Lab, size: int = SIZE, timeout_s: float = 10
) -> AsyncIterator[tuple[Primary, RemoteDisk]]:
    """A server of an empty disk, and the disk as its client has it."""
    async with (
        lab.serve(MemoryDisk(size), "e1.0") as one,
        lab.attach("e1.0", engine=CORE.get(), timeout_s=timeout_s) as disk,
    ):
        yield one, disk


async def until_known(disk: RemoteDisk) -> list[tuple[int, str]]:
    """Sectors and why there are no more, of each path, when that was found out."""
    while any("tried" in path.narrow for path in disk.paths):
        await disk.next_change()
    return [(path.sectors, path.narrow.partition(":")[0]) for path in disk.paths]


@pytest.mark.parametrize(("switch_mtu", "sectors"), [(1500, 2), (4200, 8), (2000, 2)])
def test_jumbo_ends_over_a_switch_with_smaller_frames(
    switch_mtu: int, sectors: int, caplog: pytest.LogCaptureFixture
) -> None:
    @limited
    async def run() -> None:
        lab = Lab()
        lab.faults(switch_mtu=switch_mtu)
        async with one_server(lab) as (_, disk):
            load = Sized(disk)
            await load.run(0.3)
            assert await until_known(disk) == [(sectors, "larger frames do not pass")]
            assert disk.paths[0].sectors_max == 16
            await load.run(0.3)
            assert load.pause_s < PAUSE_S
        said = [record.getMessage() for record in caplog.records if "requests carry" in record.getMessage()]
        assert len(said) == 1
        assert f"requests carry {sectors * 512} bytes, not 8192: larger frames do not pass" in said[0]

    run()


@pytest.mark.parametrize(
    ("ends", "why"), [(client_side, "larger frames do not get there"), (target_side, "larger frames do not")]
)
def test_in_one_direction_only(ends: Ends, why: str) -> None:
    @limited
    async def run() -> None:
        lab = Lab()
        async with one_server(lab) as (one, disk):
            for cable in ends([one], lab):
                cable.switch_mtu = 1500
            await Sized(disk).run(0.5)
            ((sectors, said),) = await until_known(disk)
            assert sectors == 2
            assert said.startswith(why)

    run()


@pytest.mark.parametrize("paths", [1, 2])
def test_a_switch_is_replaced_under_load(paths: int) -> None:
    @limited
    async def run() -> None:
        lab, store = Lab(), MemoryDisk(SIZE)
        addresses = [f"e{number}.0" for number in range(1, 1 + paths)]
        async with (
            lab.serve(store, "e1.0"),
            lab.serve(store, "e2.0"),
            lab.attach(*addresses, engine=CORE.get(), timeout_s=10) as disk,
        ):
            load = Sized(disk)
            working = asyncio.ensure_future(load.run(2.5))
            await until(lambda: sizes(disk) == [16] * paths)
            lab.faults(switch_mtu=1500)
            await working
            print(f"the longest of {load.requests} requests: {load.pause_s:.3f} s")
            assert load.pause_s < PAUSE_S
            await until(lambda: sizes(disk)[0] == 2)
            assert {path.state for path in disk.paths} == {"usable"}

    run()


@limited
async def test_large_writes_alone_are_enough_to_notice() -> None:
    """Nothing small is asked beside them, and the server tells of nothing."""
    lab = Lab()
    async with one_server(lab) as (one, disk):
        await disk.write(0, bytes(SIZE))
        for cable in client_side([one], lab):
            cable.switch_mtu = 1500
        data = bytes(range(256)) * (SIZE // 256)
        began_s = own_s()
        await disk.write(0, data)
        assert own_s() - began_s < PAUSE_S + 1
        assert await disk.read(0, SIZE) == data


@limited
async def test_what_loses_frames_of_all_sizes_does_not_make_them_small() -> None:
    lab = Lab()
    async with one_server(lab) as (_, disk):
        lab.faults(lose=0.05)
        await Sized(disk).run(1.0)
        lab.client[0].plug(False)
        await asyncio.sleep(0.5)
        lab.client[0].plug(True)
        lab.faults()
        await Sized(disk).run(0.5)
        assert await until_known(disk) == [(16, "")]


@limited
async def test_a_disk_with_bad_first_sectors_has_large_frames() -> None:
    """An error is an answer, too."""
    lab = Lab()
    async with lab.serve(MemoryDisk(SIZE), "e1.0") as one:
        one.disk.bad_offsets = range(0, 65536, 512)
        async with lab.attach("e1.0", engine=CORE.get(), timeout_s=10) as disk:
            assert await until_known(disk) == [(16, "")]


@limited
async def test_a_disk_of_few_sectors_has_large_frames() -> None:
    lab = Lab()
    async with one_server(lab, 5 * 512) as (_, disk):
        assert await until_known(disk) == [(16, "")]
        await disk.write(0, b"x" * 5 * 512)
        assert await disk.read(0, 5 * 512) == b"x" * 5 * 512


@limited
async def test_a_hung_disk_says_nothing_of_sizes() -> None:
    lab = Lab()
    async with one_server(lab, timeout_s=20) as (one, disk):
        one.disk.hang.clear()
        writing = asyncio.ensure_future(disk.write(0, bytes(65536)))
        await asyncio.sleep(1.5)
        assert sizes(disk) == [16]
        one.disk.hang.set()
        await writing
        assert await until_known(disk) == [(16, "")]


@limited
async def test_large_frames_are_there_when_a_disk_is_attached() -> None:
    """One round trip is all that it costs, and that passes while other paths may still answer."""
    lab = Lab()
    async with one_server(lab) as (_, disk):
        assert [(path.sectors, path.narrow) for path in disk.paths] == [(16, "")]
