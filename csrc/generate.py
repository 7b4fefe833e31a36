"""Writes shared/generated.h, initiator/life.h and life.c, nbd/options.h, which a test compares.

Run from the top of the repository: python -m csrc.generate
"""

import enum
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from aoe import limits, timing
from aoe.drive import command, identify
from aoe.target import streams
from aoe.wire import ata, frame, opcodes, protocol, stamp
from csrc import generate_life, generate_options

HEADER = Path(__file__).parent / "shared" / "generated.h"
OTHERWISE = ("SAMPLE_BLOCKS", "SAMPLE_END_SECTORS", "STREAMS_MAX", "WAYS_MAX")
"""The fuzzers compile with other values of these."""
BITS = (ata, command, frame, identify, opcodes)
"""Modules whose numbers are codes and bits: hexadecimal."""
_INT_MAX, _UINT_MAX = (1 << 31) - 1, (1 << 32) - 1


def literal(name: str, value: object, spelled: str = "") -> str:
    """A number or bytes in C; `spelled` is a format. Nanoseconds are 64 bits, whatever their number."""
    if isinstance(value, bytes):
        return '"' + "".join(f"\\x{byte:02x}" for byte in value) + '"'
    assert isinstance(value, int), f"{name} is no number"
    if name.endswith("_NS") or value > _UINT_MAX:
        return f"{value}ll"
    return f"{value:{spelled}}u" if value > _INT_MAX else f"{value:{spelled}}"


def defined(module: ModuleType, *names: str) -> Iterator[str]:
    """Constants of a module, under their own names."""
    yield f"/* {module.__name__} */"
    for name in names:
        line = f"#define {name} {literal(name, getattr(module, name), '#04x' if module in BITS else '')}"
        yield from (f"#ifndef {name}", line, "#endif") if name in OTHERWISE else (line,)
    yield ""


def listed(title: str, names: Iterable[tuple[str, int]]) -> Iterator[str]:
    """Names and numbers as an enumeration, which cffi can read, too."""
    yield from (f"/* {title} */", "enum {")
    yield from (f"    {name} = {number}," for name, number in names)
    yield from ("};", "")


def members(kind: type[enum.IntEnum] | type[enum.IntFlag], prefix: str, *only: str) -> Iterator[str]:
    """An enumeration of Python, or only some of its names, each behind a prefix."""
    named = [(f"{prefix}_{name}", int(kind[name])) for name in only or kind.__members__]
    return listed(f"{kind.__module__}.{kind.__qualname__}", named)


def header() -> str:
    """The whole file."""
    lines = (
        "/* Made of the Python modules named below by `python -m csrc.generate`: change those. */",
        "#ifndef AOE_GENERATED_H",
        "#define AOE_GENERATED_H",
        "",
        *shared(),
        "#endif",
    )
    return "".join(f"{line}\n" for line in lines)


def shared() -> Iterator[str]:
    """All that is in it."""
    yield from defined(
        protocol,
        *(
            "SECTOR",
            "ETHERNET_HEADER",
            "FRAME_MIN",
            "AOE_HEADER",
            "ATA_HEADER",
            "CONFIG_HEADER",
            "CONFIG_STRING_MAX",
        ),
        *("STAMP_TRAILER", "STAMPED_SECTORS_MIN", "MTU_MIN", "SECTORS_PER_FRAME_MAX"),
        *(
            "SHELF_MAX",
            "SHELF_ALL",
            "SLOT_MAX",
            "SLOT_ALL",
            "LBA28_SECTORS",
            "LBA48_SECTORS",
            "USER_TAG",
            "TAG_MASK",
        ),
    )
    yield from defined(
        limits,
        *("BUCKET_SECTORS", "BUCKETS_MAX", "SPANS_MAX", "STREAMS_MAX", "REPLAY_WINDOW"),
        *("RECEIVE_BUFFER", "SEND_BUFFER", "RING_BUFFER", "RING_FRAMES_MIN", "SPIN_US", "FRAME_ROOM"),
        *("UDP_MTU_DEFAULT", "UDP_MTU_MAX", "LOAD_DEPTH_MAX", "FENCE_AGAIN_NS"),
        *(
            "SECTORS_SURE",
            "SIZE_LOSSES",
            "SIZE_WAIT_NS",
            "SIZE_WAIT_MAX_NS",
            "SIZE_AGAIN_NS",
            "SIZE_PROBES_MAX",
        ),
        *("QUERY_FIRST_NS", "QUERY_MAX_NS", "QUERY_IDLE_NS"),
        *("RTO_FIRST_NS", "RTO_MIN_NS", "RTO_MAX_NS", "RTO_CALM_NS"),
        *("PROBES_FORGIVEN", "PATIENCE_MAX", "COPIES_MAX", "WINDOW_FIRST", "WINDOW_MIN"),
        *("SWEEP_NS", "DRAIN_NS", "STUCK_TRIES", "STREAM_AGAIN_NS", "UNSETTLED_MAX"),
        *("NETWORK_LIFETIME_NS", "COMPLETION_NS", "SILENCE_NS", "PROBE_NS", "DEAD_NS", "SLOW_NS"),
        *("RECHECK_NS", "STANDBY_NS", "SETTLE_IN_NS", "WAYS_MAX", "STRANGERS_MAX", "INVITED_MAX"),
        *("PROOF_NS", "PROOF_AGAIN_NS", "CONDEMNED_NS", "COMPARE_NS"),
        *("SAMPLE_END_SECTORS", "SAMPLE_BLOCKS", "SAMPLE_BLOCK_SECTORS", "SAMPLES_AT_ONCE"),
        *("SAMPLE_TRIES", "ECHOES_MAX"),
        *("REQUESTS_MAX", "PULSE_NS", "GAP_NS", "FOREIGN_AGE_NS"),
    )
    yield from defined(timing, "CLOCK_STEP_NS", "DEVICE_SILENCE_NS")
    yield from listed("aoe.limits", [("AOE_LOAD_BUCKETS", limits.LOAD_BUCKETS)])
    yield from defined(frame, "ETHERTYPE", "VERSION", "FLAG_RESPONSE", "FLAG_ERROR")
    yield from members(frame.Command, "COMMAND", "ATA", "CONFIG")
    yield from members(frame.Error, "ERROR", "BAD_ARGUMENT", "RESERVED")
    yield from defined(ata, "AFLAG_EXTENDED", "AFLAG_WRITE")
    yield from defined(stamp, "STREAM_SIGNATURE")
    yield from defined(
        opcodes,
        *(
            "READ_SECTORS",
            "READ_SECTORS_EXT",
            "READ_DMA",
            "READ_DMA_EXT",
            "READ_MULTIPLE",
            "READ_MULTIPLE_EXT",
        ),
        *("WRITE_SECTORS", "WRITE_SECTORS_EXT", "WRITE_DMA", "WRITE_DMA_EXT", "WRITE_DMA_FUA_EXT"),
        *("WRITE_MULTIPLE", "WRITE_MULTIPLE_EXT", "WRITE_MULTIPLE_FUA_EXT"),
        *("READ_VERIFY_SECTORS", "READ_VERIFY_SECTORS_EXT", "FLUSH_CACHE", "FLUSH_CACHE_EXT"),
        *("DATA_SET_MANAGEMENT", "DSM_TRIM", "IDENTIFY_DEVICE", "SET_FEATURES"),
    )
    yield from defined(command, "READY", "ERROR", "FAILURES", "ABRT", "LBA28_MASK")
    yield from defined(
        identify, "HAS_LBA", "HAS_LBA48", "HAS_FUA", "CHECKSUM_FOLLOWS", "VOLATILE_CACHE", "TRIM_IS_ZERO"
    )
    yield from defined(identify, "VENDOR_WORD", "VENDOR_SIGNATURE", "VENDOR_LAYOUT", "VENDOR_STREAMS")
    yield from members(streams.Place, "STREAM")


if __name__ == "__main__":
    HEADER.write_text(header())
    generate_life.HEADER.write_text(generate_life.header())
    generate_life.SOURCE.write_text(generate_life.source())
    generate_options.HEADER.write_text(generate_options.header())
