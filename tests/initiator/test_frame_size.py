"""Frames become smaller and larger under a disk that is in use: nobody notices but the frames."""

import asyncio
from collections.abc import Callable

import pytest

from aoe.disk.memory import MemoryDisk
from aoe.initiator.remote import RemoteDisk
from aoe.testing import Cable, Lab, Primary
from tests.initiator.helpers import CORE, limited
from tests.support.sized import Sized

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
