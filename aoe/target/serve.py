"""`aoe.serve`: a target inside the caller's event loop."""

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aoe import timing
from aoe.disk.base import Disk
from aoe.errors import ConfigurationError
from aoe.link.base import Link
from aoe.target.keys import StoreKey
from aoe.target.offer import Offer, check_address, check_serial
from aoe.target.records import StateStore
from aoe.target.served import release
from aoe.target.server import TargetOptions
from aoe.target.target import Target
from aoe.wire.address import parse_address


@asynccontextmanager
async def serve(
    disk: Disk,
    *links: Link,
    address: str | None = None,
    shelf: int = 0,
    slot: int = 0,
    serial: str | None = None,
    write_back: bool = False,
    frame_age_s: float = timing.FRAME_AGE_DEFAULT_S,
    buffer_count: int | None = None,
    remote_admin: bool = True,
    remote_masks: bool = True,
    state_dir: Path | None = None,
    force: bool = False,
    check: bool = True,
    rng: random.Random | None = None,
) -> AsyncIterator[Target]:
    """Serve `disk` as `address` ("e1.0") on `links` until the block is left; `shelf` (0-65534, not 4095) and
    `slot` (0-254) say the same in two numbers. Without any of them it is e0.0.

    The disk and the links are closed then. Without `state_dir` the config string, the mask list and the
    reservation are gone with the block. Without `remote_admin` the network may change none of the three,
    without `remote_masks` not the mask list. ConfigurationError if another target has the address; without
    `check` no other target is asked, which saves 0.3 s.
    """
    options = TargetOptions(frame_age_s, buffer_count, remote_admin, remote_masks)
    target = None
    try:
        offer = _offer(disk, *_place(address, shelf, slot), serial, write_back, state_dir)
        target = Target.open(links, options, rng)
        await target.add(offer, force=force, check=check)
    except BaseException:
        if target is not None:
            await target.stop(0)
        release([disk], links)
        raise
    try:
        yield target
    finally:
        await target.stop()


def _place(address: str | None, shelf: int, slot: int) -> tuple[int, int]:
    if address is None:
        return shelf, slot
    if shelf or slot:
        raise ConfigurationError("address and shelf or slot say the same; give one of them")
    return parse_address(address)


def _offer(
    disk: Disk, shelf: int, slot: int, serial: str | None, write_back: bool, state_dir: Path | None
) -> Offer:
    check_address(shelf, slot)
    if serial is not None:
        check_serial(serial)
    record = StateStore(state_dir).find(StoreKey(name=disk.store_name), serial)[0] if state_dir else None
    serial = record.serial if record else serial or secrets.token_hex(8).upper()
    return Offer(disk, shelf, slot, serial, write_back, record)
