"""A disk that is offered to a target: where, as what, and how it was served last."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from aoe import limits
from aoe.disk.base import Disk
from aoe.disk.threads import aside
from aoe.drive.identify import Identity, StoreId, StoreKind, is_image_id, is_serial
from aoe.errors import AoeError, ConfigurationError, NoThread
from aoe.link.base import Link
from aoe.target.address_check import siblings_only
from aoe.target.export import Export
from aoe.target.lasting import Put, Puts
from aoe.target.rates import NONE, Limits
from aoe.target.records import Record
from aoe.target.served import Served
from aoe.target.state import AoeState
from aoe.target.streams import Streams
from aoe.wire import protocol

log = logging.getLogger("aoe.target")

Key = tuple[int, int]


class Offer(NamedTuple):
    """A disk to be served as `shelf.slot` (0-65534, 0-254), under a serial of 1 to 20 ASCII characters.

    With `write_back` a reply to a FLUSH means stable storage, else one to a write. What `record` remembers is
    in force again, unless `forget`; `mask` replaces its list of hosts, which the network may change with
    `remote_masks` alone. It is served on `links` only, if that is not None, and no faster than its `limits`.
    With `copy_of` the disk, which must be read-only, is a copy of the image with that id, and shows no other.
    """

    disk: Disk
    shelf: int
    slot: int
    serial: str
    write_back: bool = False
    record: Record | None = None
    mask: tuple[bytes, ...] | None = None
    forget: bool = False
    remote_masks: bool = True
    links: tuple[Link, ...] | None = None
    limits: Limits = NONE
    copy_of: str | None = None

    @property
    def store_id(self) -> StoreId:
        """What IDENTIFY says of the store."""
        if self.copy_of is None:
            return self.disk.store_name.id
        return StoreId.of(StoreKind.IMAGE, self.copy_of)

    @property
    def key(self) -> Key:
        """Shelf and slot."""
        return self.shelf, self.slot

    @property
    def address(self) -> str:
        """`e<shelf>.<slot>`."""
        return f"e{self.shelf}.{self.slot}"


class Unfit(ConfigurationError):
    """Of disks that are offered some cannot be served: `why`, by shelf and slot."""

    def __init__(self, why: Mapping[Key, str]) -> None:
        first, *others = why.values()
        super().__init__(f"{first}; and {len(others)} more" if others else first)
        self.why = why


def judged(offers: Iterable[Offer], check: Callable[[Offer], None]) -> dict[Key, str]:
    """Why some do not pass, each by itself."""
    why: dict[Key, str] = {}
    for offer in offers:
        try:
            check(offer)
        except (AoeError, OSError) as error:
            why.setdefault(offer.key, str(error))
    return why


def check_all(offers: Iterable[Offer], check: Callable[[Offer], None]) -> None:
    """Unfit, with all that do not pass."""
    if why := judged(offers, check):
        raise Unfit(why)


def check_address(shelf: int, slot: int) -> None:
    """ConfigurationError for an address that is a wildcard, out of range, or refused by Linux."""
    if not 0 <= shelf <= protocol.SHELF_MAX or shelf == protocol.SHELF_REFUSED_BY_LINUX:
        raise ConfigurationError(f"shelf {shelf} cannot be used; choose 0 to 65534, but not 4095")
    if not 0 <= slot <= protocol.SLOT_MAX:
        raise ConfigurationError(f"slot {slot} cannot be used; choose 0 to {protocol.SLOT_MAX}")


def check_serial(serial: str) -> None:
    """ConfigurationError for a serial that IDENTIFY cannot carry as it is."""
    if not is_serial(serial):
        raise ConfigurationError(
            f"serial {serial!r} is not printable ASCII of 1 to {protocol.SERIAL_MAX} characters "
            "without blanks around"
        )


def check_image_id(text: str) -> None:
    """ConfigurationError for what cannot be the id of an image that a disk is a copy of."""
    if not is_image_id(text):
        raise ConfigurationError(
            f"{text!r} is no id of an image; give 1 to {limits.IMAGE_ID_MAX} printable ASCII characters "
            "without blanks"
        )


def check_new(
    offers: Iterable[Offer], taken: Collection[Key], serials: Collection[str], fits: Callable[[Disk], bool]
) -> None:
    """Unfit, with all that cannot be served beside what has its address or serial already, or whose disk does
    not fit an engine."""
    addresses, named = set(taken), set(serials)

    def check(offer: Offer) -> None:
        if offer.copy_of is not None:
            check_image_id(offer.copy_of)
            if not offer.disk.read_only:
                raise ConfigurationError(f"{offer.address}: a copy of an image is read-only; open it so")
        if not fits(offer.disk):
            raise ConfigurationError(f"{offer.address}: the engine serves files and block devices only")
        check_address(offer.shelf, offer.slot)
        check_serial(offer.serial)
        if offer.key in addresses:
            raise ConfigurationError(f"{offer.address} is served already; choose another address")
        if offer.serial in named:
            raise ConfigurationError(f"serial {offer.serial} is served already; choose another one")
        addresses.add(offer.key)
        named.add(offer.serial)

    check_all(offers, check)


def identity_of(offer: Offer, sectors: int, frame_age_s: float) -> Identity:
    """What IDENTIFY says of a disk that was never served here, where a frame carries that many sectors."""
    disk = offer.disk
    return Identity(
        sectors=disk.size // protocol.SECTOR,
        serial=offer.serial,
        physical_block=disk.physical_block,
        alignment=disk.alignment,
        trim_blocks=min(limits.TRIM_BLOCKS_MAX, sectors) if disk.trims and not disk.read_only else 0,
        trim_zeroes=disk.trim_zeroes,
        cache=offer.write_back,
        cache_on=offer.write_back,
        frame_age_ms=int(frame_age_s * 1000),
        instance=secrets.randbits(64),
        streams=True,
        store_id=offer.store_id,
        alone=disk.alone,
    )


def made(offer: Offer, identity: Identity, streams: Streams) -> Export:
    """The export that an offer asks for."""
    disk = offer.disk
    export = Export(
        offer.shelf, offer.slot, identity, read_only=disk.read_only, block=disk.block, direct=disk.direct
    )
    export.know(streams)
    export.let_masks(offer.remote_masks)
    export.limit(offer.limits)
    return export


def judge(offer: Offer, found: Mapping[bytes, str | None], force: bool) -> None:
    """What it means that others, if any, answer for an address."""
    if not found:
        return
    others = ", ".join(mac.hex(":") for mac in found)
    if siblings_only(found, offer.serial):
        log.warning("%s: %s serves the same disk: a sibling primary", offer.address, others)
    elif force or (offer.record is not None and offer.address in offer.record.addresses):
        log.warning("%s: %s answers for this address too, with another disk", offer.address, others)
    else:
        raise ConfigurationError(
            f"{offer.address} is already served by {others}, with another disk; "
            "choose another address, or say --force"
        )


async def with_states(offers: Sequence[Offer], exports: Sequence[Export]) -> list[Served]:
    """Exports as they were when they were served last, but for what is said against it. After an error no
    record is taken: Unfit where it is of records. Syncs of many records are side by side, and what is served
    does not wait for them."""
    step = min(len(offers), limits.RECORDS_AT_ONCE)
    parts = [[*zip(offers[at::step], exports[at::step], strict=True)] for at in range(step)]
    try:
        ended = await asyncio.gather(*map(_take_up, parts))
        if why := {key: text for it in ended for key, text in it.items()}:
            raise Unfit(why)
    except BaseException:
        for offer in offers:
            if offer.record is not None:
                offer.record.close()
        raise
    return [Served(export, it.disk, it.record) for it, export in zip(offers, exports, strict=True)]


async def _take_up(them: Sequence[tuple[Offer, Export]]) -> dict[Key, str]:
    """Why some have no state."""
    exports = {offer.key: export for offer, export in them}
    offers = [offer for offer, _ in them]

    def take_up() -> dict[Key, str]:
        puts = Puts()
        why = judged(offers, lambda offer: exports[offer.key].restore(_state(offer, puts.put)))
        try:
            puts.sync()
        except OSError as error:
            return {key: _unkept(error) for key in exports} | why
        return why

    if all(offer.record is None for offer in offers):
        return take_up()
    try:
        return await aside(take_up)
    except NoThread:
        return take_up()


def _unkept(error: OSError) -> str:
    return f"cannot keep state: {error.strerror}; give a writable --state-dir"


def _state(offer: Offer, put: Put) -> AoeState:
    """Take up the record of a disk, and `put` down what is new."""
    record = offer.record
    if record is None:
        return AoeState(mask=offer.mask or ())
    record.open(offer.address, put)
    state = AoeState() if offer.forget else record.state
    if offer.mask is not None:
        if state.mask not in ((), offer.mask):
            log.warning("%s: --mask replaces the persisted list", offer.address)
        state = state._replace(mask=offer.mask)
    if state != record.state:
        try:
            record.save(state, put)
        except OSError as error:
            raise ConfigurationError(_unkept(error)) from error
    return state
