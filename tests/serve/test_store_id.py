"""What a target says of the store behind a disk."""

import asyncio

import pytest

import aoe
from aoe.disk.base import StoreName
from aoe.disk.faulty import FaultyDisk
from aoe.disk.memory import MemoryDisk
from aoe.drive.identify import NO_STORE_ID, StoreId, StoreKind, vendor_of
from aoe.link.memory import Network
from aoe.target.offer import Offer, Unfit, check_new
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


def test_a_copy_of_an_image_shows_that_and_nothing_else() -> None:
    disk = MemoryDisk(1 << 20)
    disk.store_name = StoreName(StoreKind.FILE, "u/1")
    assert Offer(disk, 1, 0, "S", copy_of="one").store_id == StoreId.of(StoreKind.IMAGE, "one")
    assert Offer(disk, 1, 0, "S").store_id == StoreId.of(StoreKind.FILE, "u/1")


def test_a_copy_that_can_be_written_is_refused() -> None:
    disk = MemoryDisk(1 << 20)
    with pytest.raises(Unfit, match="a copy of an image is read-only"):
        check_new([Offer(disk, 1, 0, "S", copy_of="one")], (), (), lambda _: True)
    disk.read_only = True
    check_new([Offer(disk, 1, 0, "S", copy_of="one")], (), (), lambda _: True)


@pytest.mark.parametrize("image", ["", "two words", "x" * 65, "\xe4"])
def test_what_can_be_no_id_of_an_image_is_refused(image: str) -> None:
    disk = MemoryDisk(1 << 20)
    disk.read_only = True
    with pytest.raises(Unfit, match="is no id of an image; give 1 to 64 printable"):
        check_new([Offer(disk, 1, 0, "S", copy_of=image)], (), (), lambda _: True)
