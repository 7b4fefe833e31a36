"""The numbers of AoE: lengths (bytes), addresses, tags, and what fits into a frame (AoEr11)."""

SECTOR = 512
"""AoE addresses and counts are in 512-byte sectors, whatever the disk beneath (AoEr11 section 3.1)."""

ETHERNET_HEADER = 14
FRAME_MIN = 60
"""Shortest frame sent, without FCS: veth and tap do not pad, and aoetools drop less."""

AOE_HEADER = 24
ATA_HEADER = 36
CONFIG_HEADER = 32
MASK_HEADER = 28
RESERVE_HEADER = 26
"""Ethernet header + AoE header + the fixed argument of each command (AoEr11 section 2, 3)."""
STAMP_TRAILER = 12
"""Behind header and data of a frame of ours (order rule T9). `sectors_per_frame` leaves room for it wherever
two sectors fit."""
STAMPED_SECTORS_MIN = 2
"""Where frames have room for one sector only, there may be none for the trailer: no streams."""

CONFIG_STRING_MAX = 1024
MACS_MAX = 255
"""Mask and reserve lists are counted in one byte."""

MTU_MIN = ATA_HEADER - ETHERNET_HEADER + SECTOR
"""534: the smallest MTU over which one sector fits."""

SHELF_MAX = 0xFFFE
SHELF_REFUSED_BY_LINUX = 0x0FFF
SLOT_MAX = 254
SHELF_ALL = 0xFFFF
SLOT_ALL = 0xFF

USER_TAG = 1 << 31
"""The Linux driver ignores replies whose tag has this bit: our initiator's tags have it."""
TAG_MASK = USER_TAG - 1
"""The rest of a tag."""

LBA28_SECTORS = 0x0FFFFFFF
LBA48_SECTORS = 1 << 48
SECTORS_PER_FRAME_MAX = 255

RANGE_SECTORS_MAX = 0xFFFF
"""Of one range of a TRIM (ATA8-ACS section 7.9)."""
SERIAL_MAX = 20
"""Characters of a serial number (ATA8-ACS section 7.16)."""

BUFFER_COUNT_MIN = 2
"""The Linux driver never brings a device up that advertises 0 or 1."""
BUFFER_COUNT_MAX = 0xFFFF


def sectors_per_frame(mtu: int) -> int:
    """Sector Count to advertise on an interface of this MTU: 0 where not even one sector fits.

    The common formula leaves 36 bytes, not the exact 22, because every client computes it so.
    From 8 up it is a multiple of 8, so that pieces stay aligned to 4 KiB.
    """
    fit = min((mtu - ATA_HEADER) // SECTOR, SECTORS_PER_FRAME_MAX)
    if fit < 1:
        return 1 if mtu >= MTU_MIN else 0
    return fit & ~7 if fit >= 8 else fit


def config_string_max(mtu: int) -> int:
    """Longest config string whose reply fits the MTU."""
    return min(CONFIG_STRING_MAX, mtu + ETHERNET_HEADER - CONFIG_HEADER)


def mask_max(mtu: int) -> int:
    """Longest mask list whose reply fits the MTU (8 bytes an entry)."""
    return min(MACS_MAX, (mtu + ETHERNET_HEADER - MASK_HEADER) // 8)


def reserve_max(mtu: int) -> int:
    """Longest reserve list whose reply fits the MTU (6 bytes an entry)."""
    return min(MACS_MAX, (mtu + ETHERNET_HEADER - RESERVE_HEADER) // 6)
