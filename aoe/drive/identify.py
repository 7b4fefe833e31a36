"""The 512 bytes a drive says of itself (ATA8-ACS section 7.16, IDENTIFY DEVICE)."""

import enum
import hashlib
import struct
from typing import NamedTuple

from aoe import limits
from aoe.wire import protocol
from aoe.wire.opcodes import FLUSH_CACHE, FLUSH_CACHE_EXT
from aoe.wire.protocol import LBA28_SECTORS, LBA48_SECTORS, SECTOR

MODEL = "aoe-target"
FIRMWARE = "0.1.0"
"""The release of this package, by which others tell it from the next one: words 23-26."""
_RELEASE = slice(46, 54)

VENDOR_WORD = 129
_VENDOR = struct.Struct("<4sHIQHH16s")
VENDOR_SIGNATURE = b"AoEt"
VENDOR_LAYOUT = 1
_FEATURES_WORD = 138
VENDOR_STREAMS = 2
"""Bit 0 said of an earlier version that it heeds streams that any garbage could be; it is never set again."""
VENDOR_DRAINS = 4
"""Of the same word: clients are to use another server, if they have one."""
VENDOR_ALONE = 8
VENDOR_TRIMS = 16
"""What bit 1 says of writes holds for TRIM, which an earlier version did not ask for its stream."""
VENDOR_HEEDED = 32
"""In the answer to an initiator that names its stream: what it sends behind that question is carried out."""

_WORD_82_NOP_AND_POWER = 0x4008
VOLATILE_CACHE = 0x0020
_LOOK_AHEAD = 0x0040
_FUA_AND_WWN = 0x0140
TRIM_IS_ZERO = 0x4020
HAS_FUA = 0x0040
HAS_LBA = 0x0200
HAS_LBA48 = 0x0400
CHECKSUM_FOLLOWS = 0xA5


class StoreKind(enum.IntEnum):
    """What the id of a store is an id of. Ids of different kinds say nothing of each other."""

    NONE = 0
    DEVICE = 1
    """The block device: its UUID or WWID."""
    RBD = 2
    """Cluster, pool and image of a Ceph RBD."""
    FILE = 3
    """The UUID of the filesystem and the inode in it."""
    SERIAL = 4
    """The block device's serial number: a host may see the same device by its WWID."""
    VOLUME = 5
    """The UUID of a volume of a pool, with the image of the snapshot where it is one."""
    IMAGE = 6
    """What is in it: an image by its id, of which the store is a copy that is never written to. It is shown
    instead of the store's own id."""


class StoreId(NamedTuple):
    """Which store is behind a disk: `kind` (a `StoreKind`, or the number of one that is not known yet) and
    the first 16 bytes of the SHA-256 of its id. Two servers that show one kind and differ have two disks."""

    kind: int
    digest: bytes

    @classmethod
    def of(cls, kind: StoreKind, text: str) -> "StoreId":
        """The id that `text` names; nothing of it goes over the wire but the hash."""
        return cls(kind, hashlib.sha256(text.encode()).digest()[:16]) if kind else NO_STORE_ID


NO_STORE_ID = StoreId(StoreKind.NONE, bytes(16))


class Identity(NamedTuple):
    """What IDENTIFY tells; sizes in 512-byte sectors.

    `physical_block` is in bytes (a power of two >= 512), `alignment` the physical-block offset of LBA 0
    in sectors, `trim_blocks` the 512-byte range blocks a TRIM may carry (0: no TRIM), `cache` whether a
    volatile write cache exists and `cache_on` whether it is in use. `frame_age_ms` and `instance` go
    into the vendor words of order rule T4, `streams` of rule T9, `draining` (clients are to use another
    server) and `alone` (no request to another instance can take effect any more: rules T8 to T10) beside
    that, `store_id` behind them (words 139-147).
    """

    sectors: int
    serial: str
    physical_block: int = SECTOR
    alignment: int = 0
    trim_blocks: int = 0
    trim_zeroes: bool = False
    cache: bool = False
    cache_on: bool = False
    frame_age_ms: int = 0
    instance: int = 0
    streams: bool = False
    store_id: StoreId = NO_STORE_ID
    draining: bool = False
    alone: bool = False


def is_serial(text: str) -> bool:
    """Whether IDENTIFY carries the text as it is: printable ASCII, 1 to 20 characters, no blanks around."""
    plain = text.isascii() and text.isprintable() and text == text.strip()
    return plain and 0 < len(text) <= protocol.SERIAL_MAX


def is_image_id(text: str) -> bool:
    """Whether a text can be the id of an image: 1 to 64 printable ASCII characters, no blanks."""
    return text.isascii() and text.isprintable() and " " not in text and 0 < len(text) <= limits.IMAGE_ID_MAX


def text_words(text: str, length: int) -> bytes:
    """ATA string: space padded, the first character of each pair in the high byte of its word."""
    padded = text.encode("ascii", "replace")[:length].ljust(length)
    swapped = bytearray(padded)
    swapped[0::2], swapped[1::2] = padded[1::2], padded[0::2]
    return bytes(swapped)


def wwn(serial: str) -> int:
    """World wide name of a serial: NAA 3 (locally assigned) and 60 bits of its hash.

    Two primaries that share a serial share the name.
    """
    return 3 << 60 | int.from_bytes(hashlib.sha256(serial.encode()).digest()[:8], "big") >> 4


def build(identity: Identity) -> bytes:
    """The data of an IDENTIFY DEVICE reply, checksum included."""
    words = dict(_fixed_words())
    total = min(identity.sectors, LBA48_SECTORS - 1)
    cylinders = min(total // (16 * 63), 16383)
    words |= {1: cylinders, 3: 16, 6: 63, 54: cylinders, 55: 16, 56: 63}
    words |= _split(57, cylinders * 16 * 63, 2)
    words |= _split(60, min(total, LBA28_SECTORS), 2)
    words |= _split(100, total, 3)
    supported = _WORD_82_NOP_AND_POWER | _LOOK_AHEAD | (VOLATILE_CACHE if identity.cache else 0)
    words[82] = supported
    words[85] = supported if identity.cache_on else supported & ~VOLATILE_CACHE
    words |= _physical_words(identity)
    words |= {111 - i: wwn(identity.serial) >> 16 * i & 0xFFFF for i in range(4)}
    if identity.trim_blocks:
        words[105] = identity.trim_blocks
        words[169] = 1
        words[69] = TRIM_IS_ZERO if identity.trim_zeroes else 0
    return _checksummed(words, identity)


def _fixed_words() -> dict[int, int]:
    return {
        0: 0x0040,  # ATA device, fixed medium
        47: 0x8001,  # READ/WRITE MULTIPLE: one sector an interrupt
        48: 0x4000,
        49: 0x0F00,  # LBA, DMA, IORDY
        50: 0x4000,
        53: 0x0007,  # words 54-58, 64-70 and 88 are valid
        59: 0x0101,
        63: 0x0007,
        64: 0x0003,
        65: 120,
        66: 120,
        67: 120,
        68: 120,
        80: 0x01F0,  # ATA/ATAPI-4 to ATA8-ACS
        83: 0x7400,  # FLUSH CACHE EXT, FLUSH CACHE, LBA48
        84: 0x4000 | _FUA_AND_WWN,
        86: 0xB400,
        87: 0x4000 | _FUA_AND_WWN,
        88: 0x203F,
        119: 0x4000,
        120: 0x4000,
        217: 0x0001,  # does not rotate
    }


def _physical_words(identity: Identity) -> dict[int, int]:
    shift = (identity.physical_block // SECTOR).bit_length() - 1
    if not shift:
        return {106: 0x4000}
    return {106: 0x6000 | shift, 209: 0x4000 | identity.alignment}


def _split(first: int, value: int, words: int) -> dict[int, int]:
    return {first + i: value >> 16 * i & 0xFFFF for i in range(words)}


def _checksummed(words: dict[int, int], identity: Identity) -> bytes:
    data = bytearray(SECTOR)
    for word, value in words.items():
        struct.pack_into("<H", data, 2 * word, value)
    data[20:40] = text_words(identity.serial, protocol.SERIAL_MAX)
    data[_RELEASE] = text_words(FIRMWARE, 8)
    data[54:94] = text_words(MODEL, 40)
    features = (VENDOR_STREAMS | VENDOR_TRIMS) * identity.streams
    features |= VENDOR_DRAINS * identity.draining | VENDOR_ALONE * identity.alone
    promises = identity.frame_age_ms, identity.instance, features
    vendor = (VENDOR_SIGNATURE, VENDOR_LAYOUT, *promises, *identity.store_id)
    _VENDOR.pack_into(data, 2 * VENDOR_WORD, *vendor)
    data[510] = CHECKSUM_FOLLOWS
    return _sealed(data)


def _sealed(data: bytearray) -> bytes:
    """With the right checksum, where there is to be one: word 255."""
    if data[510] == CHECKSUM_FOLLOWS:
        data[511] = -sum(data[:511]) & 0xFF
    return bytes(data)


def without_streams(data: bytes) -> bytes:
    """What build gave, for one whose stream is not registered (order rule T9)."""
    return _with_features(data, _word(data, _FEATURES_WORD) & ~VENDOR_STREAMS)


def heeding(data: bytes) -> bytes:
    """What build gave, for one whose stream is known, in the epoch that it names (order rule T9)."""
    return _with_features(data, _word(data, _FEATURES_WORD) | VENDOR_HEEDED)


def _with_features(data: bytes, features: int) -> bytes:
    words = bytearray(data)
    struct.pack_into("<H", words, 2 * _FEATURES_WORD, features)
    return _sealed(words)


def sums_up(data: bytes) -> bool:
    """Whether the checksum is right, or there is none: word 255."""
    return data[510] != CHECKSUM_FOLLOWS or not sum(data) & 0xFF


def serial_words(data: bytes) -> bytes:
    """The 20 bytes of the serial number as they are in IDENTIFY, to be compared: words 10-19."""
    return data[20:40]


def serial_of(data: bytes) -> str:
    """The serial number in IDENTIFY data, without its padding."""
    return _text(data[20:40])


def release_of(data: bytes) -> str:
    """Firmware revision: words 23-26. Of ours it is the release of the package."""
    return _text(data[_RELEASE])


def model_of(data: bytes) -> str:
    """Model number: words 27-46."""
    return _text(data[54:94])


def _text(swapped: bytes) -> str:
    raw = bytearray(swapped)
    raw[0::2], raw[1::2] = swapped[1::2], swapped[0::2]
    return raw.decode("ascii", "replace").strip(" \0")


def says_the_same(data: bytes, other: bytes) -> bool:
    """Whether two differ in nothing but the release."""
    both = [bytearray(data), bytearray(other)]
    for it in both:
        it[_RELEASE] = bytes(8)
    return _sealed(both[0]) == _sealed(both[1])


class Vendor(NamedTuple):
    """What a target of ours says in the vendor words: its promises (order rules T4 and T9, `trims`: also of
    TRIM), its store, whether its administrator drains it, and whether it heeds the stream that was named."""

    frame_age_ms: int
    instance: int
    streams: bool
    store_id: StoreId = NO_STORE_ID
    draining: bool = False
    alone: bool = False
    trims: bool = False
    heeded: bool = False


def vendor_of(data: bytes) -> Vendor | None:
    """The vendor words, or None where another kind of drive answered."""
    signature, layout, age, instance, features, *store = _VENDOR.unpack_from(data, 2 * VENDOR_WORD)
    store_id = StoreId(*store) if store[0] else NO_STORE_ID
    says = (bool(features & it) for it in (VENDOR_DRAINS, VENDOR_ALONE, VENDOR_TRIMS, VENDOR_HEEDED))
    vendor = Vendor(age, instance, bool(features & VENDOR_STREAMS), store_id, *says)
    return vendor if (signature, layout) == (VENDOR_SIGNATURE, VENDOR_LAYOUT) else None


def sectors_of(data: bytes) -> int:
    """Capacity in sectors: words 100-103 where LBA48 is supported, else 60-61."""
    lba48 = _word(data, 83) & HAS_LBA48
    size: int = struct.unpack_from("<Q", data, 200)[0] if lba48 else struct.unpack_from("<I", data, 120)[0]
    return size


def sectors_max(data: bytes) -> int:
    """The largest capacity in sectors that a drive may have, by the addresses that it knows: word 83."""
    return LBA48_SECTORS if _word(data, 83) & HAS_LBA48 else LBA28_SECTORS


def has_lba(data: bytes) -> bool:
    """Whether the drive knows logical block addresses: word 49."""
    return bool(_word(data, 49) & HAS_LBA)


def _word(data: bytes | bytearray, word: int) -> int:
    value: int = struct.unpack_from("<H", data, 2 * word)[0]
    return value


def physical_block_of(data: bytes) -> int:
    """Bytes of the medium's block: word 106."""
    word = _word(data, 106)
    return SECTOR << (word & 0xF) if word & 0xE000 == 0x6000 else SECTOR


def trim_blocks_of(data: bytes) -> int:
    """512-byte range blocks that one TRIM may carry, 0 where there is no TRIM: words 169 and 105."""
    return max(1, _word(data, 105)) if _word(data, 169) & 1 else 0


def trims_to_zeroes(data: bytes) -> bool:
    """Whether sectors read as zeroes after a TRIM: word 69."""
    return _word(data, 69) & TRIM_IS_ZERO == TRIM_IS_ZERO


def has_fua(data: bytes) -> bool:
    """Whether WRITE DMA FUA EXT is supported: word 84."""
    return _word(data, 84) & 0xC040 == 0x4040


def flush_of(data: bytes) -> int | None:
    """The opcode that empties the cache, None where there is nothing to empty: word 83."""
    supported = _word(data, 83)
    return FLUSH_CACHE_EXT if supported & 0x2000 else FLUSH_CACHE if supported & 0x1000 else None


def lessened(data: bytes, other: bytes) -> bytes:
    """The same without what another drive has not of TRIM, its zeroes and FUA. FLUSH stays: a cache that
    cannot be emptied everywhere is still to be emptied where it is."""
    words = bytearray(data)

    def clear(word: int, bits: int) -> None:
        struct.pack_into("<H", words, 2 * word, _word(words, word) & ~bits)

    blocks = trim_blocks_of(other)
    if blocks < trim_blocks_of(data):
        struct.pack_into("<H", words, 2 * 105, blocks)
        clear(169, 0 if blocks else 1)
    if not (blocks and trims_to_zeroes(other)):
        clear(69, TRIM_IS_ZERO)
    if not has_fua(other):
        clear(84, HAS_FUA)
    return _sealed(words)


def caches(data: bytes) -> bool:
    """Whether a volatile write cache is in use: word 85."""
    return bool(_word(data, 85) & VOLATILE_CACHE)
