"""`aoe.serve`: a target inside the caller's event loop."""

import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aoe import limits
from aoe.disk.base import Disk
from aoe.drive.identify import SERIAL_MAX, Identity, is_serial
from aoe.errors import ConfigurationError
from aoe.link.base import Link
from aoe.target.export import Export
from aoe.target.keys import StoreKey
from aoe.target.server import Served, Server
from aoe.target.store import Record, StateStore


def check_address(shelf: int, slot: int) -> None:
    """ConfigurationError for an address that is a wildcard, out of range, or refused by Linux."""
    if not 0 <= shelf <= limits.SHELF_MAX or shelf == limits.SHELF_REFUSED_BY_LINUX:
        raise ConfigurationError(f"shelf {shelf} cannot be used; choose 0 to 65534, but not 4095")
    if not 0 <= slot <= limits.SLOT_MAX:
        raise ConfigurationError(f"slot {slot} cannot be used; choose 0 to {limits.SLOT_MAX}")


def check_serial(serial: str) -> None:
    """ConfigurationError for a serial that IDENTIFY cannot carry as it is."""
    if not is_serial(serial):
        raise ConfigurationError(
            f"serial {serial!r} is not printable ASCII of 1 to {SERIAL_MAX} characters without blanks around"
        )


def make_export(
    disk: Disk,
    shelf: int,
    slot: int,
    serial: str,
    *,
    write_back: bool = False,
    frame_age_s: float = limits.FRAME_AGE_DEFAULT_S,
    mtu: int = 1500,
) -> Export:
    """What the network is told of a disk. `mtu` is the smallest it is served over (bytes)."""
    identity = Identity(
        sectors=disk.size // limits.SECTOR,
        serial=serial,
        physical_block=disk.physical_block,
        alignment=disk.alignment,
        trim_blocks=min(8, limits.sectors_per_frame(mtu)) if disk.trims and not disk.read_only else 0,
        trim_zeroes=disk.trim_zeroes,
        cache=write_back,
        cache_on=write_back,
        frame_age_ms=int(frame_age_s * 1000),
        instance=secrets.randbits(64),
        streams=True,
        store_id=disk.store_name.id,
    )
    return Export(shelf, slot, identity, read_only=disk.read_only, block=disk.block)


@asynccontextmanager
async def serve(
    disk: Disk,
    *links: Link,
    shelf: int = 0,
    slot: int = 0,
    serial: str | None = None,
    write_back: bool = False,
    frame_age_s: float = limits.FRAME_AGE_DEFAULT_S,
    buffer_count: int | None = None,
    remote_admin: bool = True,
    remote_masks: bool = True,
    state_dir: Path | None = None,
    force: bool = False,
    check: bool = True,
    rng: random.Random | None = None,
) -> AsyncIterator[Server]:
    """Serve `disk` as `shelf.slot` (0-65534, 0-254) on `links` until the block is left.

    The disk and the links are closed then. Without `state_dir` the config string, the mask list and the
    reservation are gone with the block. Without `remote_admin` the network may change none of the three,
    without `remote_masks` not the mask list. ConfigurationError if another target has the address; without
    `check` nobody is asked, which saves 0.3 s.
    """
    try:
        server, record = _server(
            disk,
            links,
            (shelf, slot),
            serial,
            write_back,
            state_dir,
            frame_age_s=frame_age_s,
            buffer_count=buffer_count,
            remote_admin=remote_admin,
            remote_masks=remote_masks,
            rng=rng,
        )
    except BaseException:
        disk.close()
        for link in links:
            link.close()
        raise
    try:
        if check:
            await server.claim(force=force)
        if record is not None:
            record.open(f"e{shelf}.{slot}")
            server.responder.exports[shelf, slot].state = record.state
        server.serve()
        yield server
    finally:
        await server.stop()


def _server(
    disk: Disk,
    links: tuple[Link, ...],
    address: tuple[int, int],
    serial: str | None,
    write_back: bool,
    state_dir: Path | None,
    **options: Any,
) -> tuple[Server, Record | None]:
    if not links:
        raise ConfigurationError("there is no link to serve on; give one")
    check_address(*address)
    if serial is not None:
        check_serial(serial)
    record = StateStore(state_dir).find(StoreKey(name=disk.store_name), serial)[0] if state_dir else None
    serial = record.serial if record else serial or secrets.token_hex(8).upper()
    mtu = min(link.mtu for link in links)
    frame_age_s = options["frame_age_s"]
    export = make_export(disk, *address, serial, write_back=write_back, frame_age_s=frame_age_s, mtu=mtu)
    if record is not None:
        export.state = record.state
    return Server([Served(export, disk, record)], links, **options), record
