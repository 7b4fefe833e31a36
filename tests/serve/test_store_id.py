"""What a target says of the store behind a disk."""

import asyncio

import pytest

import aoe
from aoe.disk.base import StoreName
from aoe.disk.faulty import FaultyDisk
from aoe.disk.memory import MemoryDisk
from aoe.drive.identify import NO_STORE_ID, StoreId, StoreKind, vendor_of
from aoe.link.memory import Network
from tests.serve.initiator import Initiator, mac


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (StoreName(), NO_STORE_ID),
        (StoreName(StoreKind.DEVICE, "LVM-x"), StoreId.of(StoreKind.DEVICE, "LVM-x")),
        (StoreName(StoreKind.FILE, "u/1").part("@0+8"), StoreId.of(StoreKind.FILE, "u/1@0+8")),
    ],
)
def test_identify_says_which_store_it_is(name: StoreName, shown: StoreId) -> None:
    async def scenario() -> bytes:
        network, disk = Network(), MemoryDisk(1 << 20)
        disk.store_name = name
        async with aoe.serve(FaultyDisk(disk), network.attach(mac(1)), serial="S"):
            return await Initiator(network.attach(mac(2))).identify()

    vendor = vendor_of(asyncio.run(scenario()))
    assert vendor is not None
    assert vendor.store_id == shown
