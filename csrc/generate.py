"""Writes shared/generated.h, initiator/life.h and life.c, nbd/options.h. Tests compare them with Python.

Run from the top of the repository: python -m csrc.generate
"""

import enum
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from aoe import limits, timing
from aoe.drive import command, identify
from aoe.initiator import (
    channel,
    compiled_core,
    discovery,
    exchange,
    facts,
    life,
    path,
    request,
    sizes,
    strangers,
)
from aoe.metrics import table
from aoe.target import background, streams
from aoe.wire import ata, frame, opcodes, protocol, stamp
from csrc import generate_life, generate_options

HEADER = Path(__file__).parent / "shared" / "generated.h"
OTHERWISE = ("SAMPLE_BLOCKS", "SAMPLE_END_SECTORS", "STREAMS_MAX", "PATHS_MAX")
"""The fuzzers compile with other values of these."""
BITS = (ata, command, frame, identify, opcodes, channel, discovery, strangers)
"""Modules whose numbers are codes and bits: hexadecimal."""
_INT_MAX, _UINT_MAX = (1 << 31) - 1, (1 << 32) - 1


def literal(name: str, value: object, spelled: str = "") -> str:
    """A number or bytes in C; `spelled` is a format. Nanoseconds are 64 bits, whatever their number."""
    if isinstance(value, bytes):
        text = value.decode("latin-1")
        return json.dumps(text) if text.isalnum() else '"' + "".join(f"\\x{byte:02x}" for byte in value) + '"'
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
    """Names and numbers as an enumeration, which cffi can read, too; three in a row."""
    pairs = [f"{name} = {number}," for name, number in names]
    yield from (f"/* {title} */", "enum {")
    yield from ("    " + " ".join(pairs[first : first + 3]) for first in range(0, len(pairs), 3))
    yield from ("};", "")


def members(kind: type[enum.IntEnum], prefix: str, count: str = "") -> Iterator[str]:
    """An enumeration of Python, each name behind a prefix; `count` is what their number is called."""
    named = [(f"{prefix}{name}", int(one)) for name, one in kind.__members__.items()]
    counted = [(count, len(named))] if count else []
    return listed(f"{kind.__module__}.{kind.__qualname__}", [*named, *counted])


def numbers(prefix: str, rows: tuple[table.Row, ...], count: str) -> Iterator[str]:
    """Where the numbers of a scope stand that are in its array, and how many it has room for."""
    places = [(f"{prefix}{row.name.upper()}", row.at) for row in rows if row.at >= 0]
    places.append((count, table.length_of(rows)))
    yield from listed(f"aoe.metrics.table, {rows[0].scope}", places)


def texts(name: str, said: Mapping[enum.IntEnum, str]) -> Iterator[str]:
    """A text for each member of an enumeration, by number."""
    numbers = [int(one) for one in said]
    assert numbers == list(range(len(numbers))), "all of them, in order"
    yield f"static const char *const {name}[] = {{"
    yield from (f"    {json.dumps(text)}," for text in said.values())
    yield from ("};", "")


def structure(name: str, values: NamedTuple) -> Iterator[str]:
    """A named tuple of nanoseconds as a structure, and as what it is initialized with."""
    fields = values._asdict()
    yield from (f"/* {type(values).__module__}.{type(values).__qualname__} */", "typedef struct {")
    yield from (f"    int64_t {field};" for field in fields)
    yield f"}} {name};"
    each = (f"    .{field} = {literal(field.upper(), value)}," for field, value in fields.items())
    yield from (line + " \\" for line in (f"#define {name.upper()} {{", *each))
    yield from ("}", "")


def header() -> str:
    """The whole file."""
    lines = (
        "/* Made of the Python modules named below by `python -m csrc.generate`: change those. */",
        "#ifndef AOE_GENERATED_H",
        "#define AOE_GENERATED_H",
        "",
        "#include <stdint.h>",
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
            "RANGE_SECTORS_MAX",
            "CONFIG_STRING_MAX",
            "USER_TAG",
            "TAG_MASK",
        ),
    )
    yield from defined(
        limits,
        *("BUCKET_SECTORS", "BUCKETS_MAX", "SPANS_MAX", "STREAMS_MAX", "REPLAY_WINDOW", "LIMITED_HOSTS_MAX"),
        *("CLIENTS_MAX", "CLIENTS_IN_ALL_MAX", "BACKGROUND_MAX", "CLIENT_TAGS"),
        *("DEPTH_FIRST", "DEPTH_SAMPLES_MIN", "DEPTH_PAUSE_MIN", "DEPTH_PAUSE_MAX"),
        *("LATENCY_BUCKETS", "LATENCY_FIRST_BITS", "LATENCY_STEP_BITS"),
        *("RECEIVE_BUFFER", "SEND_BUFFER", "RING_BUFFER", "RING_FRAMES_MIN", "SPIN_US", "FRAME_ROOM"),
        *("UDP_MTU_DEFAULT", "UDP_MTU_MAX", "LOAD_DEPTH_MAX"),
        *("SECTORS_SURE", "SIZE_LOSSES", "SIZE_PROBES_MAX"),
        *("PROBES_FORGIVEN", "PATIENCE_MAX", "COPIES_MAX", "WINDOW_FIRST", "WINDOW_MIN", "STUCK_TRIES"),
        *("SAMPLE_END_SECTORS", "SAMPLE_BLOCKS", "SAMPLE_BLOCK_SECTORS", "SAMPLES_AT_ONCE"),
        *("SAMPLE_TRIES", "ECHOES_MAX"),
        *(
            "ASKED_MAX",
            "UNSETTLED_MAX",
            "PATHS_MAX",
            "DEBTS_MAX",
            "DEBT_TAGS",
            "STRANGERS_MAX",
            "INVITED_MAX",
            "REQUESTS_MAX",
        ),
    )
    yield from defined(
        timing,
        *("NETWORK_LIFETIME_NS", "LIMIT_DELAY_NS", "CLOCK_STEP_NS", "DEVICE_SILENCE_NS", "NEVER_NS"),
        *("CLIENT_HEARD_NS", "CLIENTS_SWEPT_NS", "SHARED_NS"),
        *("FENCE_AGAIN_NS", "COMPARE_NS", "BACKGROUND_REST_MAX_NS"),
    )
    yield from structure("aoe_timing", timing.USUAL)
    yield from numbers("AOE_", table.TARGET, "AOE_COUNTERS")
    yield from numbers("AOE_EXPORT_", table.EXPORT, "AOE_EXPORT_NUMBERS")
    yield from numbers("AOE_CLIENT_", table.CLIENT, "AOE_CLIENT_NUMBERS")
    yield from numbers("AOE_THREAD_", table.THREAD, "AOE_THREAD_NUMBERS")
    yield from listed("aoe.limits", [("AOE_LOAD_BUCKETS", limits.LOAD_BUCKETS)])
    yield from defined(frame, "MAC_BYTES", "ETHERTYPE", "VERSION", "FLAG_RESPONSE", "FLAG_ERROR")
    yield from members(frame.Command, "COMMAND_")
    yield from members(frame.Error, "ERROR_")
    yield from defined(ata, "AFLAG_EXTENDED", "AFLAG_WRITE")
    yield from defined(stamp, "STREAM_SIGNATURE", "AWAY", "UNPROVED", "BACKGROUND")
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
    yield from defined(command, "READY", "ERROR", "ABRT", "FAILURES", "LBA28_MASK")
    yield from defined(
        identify,
        *("VENDOR_WORD", "VENDOR_SIGNATURE", "VENDOR_LAYOUT"),
        *("VENDOR_STREAMS", "VENDOR_DRAINS", "VENDOR_ALONE", "VENDOR_TRIMS", "VENDOR_HEEDED"),
        *("VOLATILE_CACHE", "TRIM_IS_ZERO", "HAS_LBA", "HAS_LBA48", "HAS_FUA", "CHECKSUM_FOLLOWS"),
    )
    yield from members(streams.Place, "STREAM_")
    yield from defined(background, "BACKGROUND_PASSED", "BACKGROUND_REST")
    yield from defined(discovery, "TAG_STEP")
    yield from defined(channel, "STREAM_STEP")
    yield from defined(strangers, "FNV_PRIME")
    yield from members(exchange.Kind, "LANE_", "LANES")
    yield from members(sizes.Direction, "", "DIRECTIONS")
    yield from members(sizes.Narrow, "NARROW_")
    yield from members(path.Mute, "MUTE_")
    yield from texts("narrow_texts", sizes.NARROW_TEXTS)
    yield from texts("state_texts", {state: state.name.lower() for state in life.State})
    yield from members(facts.Reason, "WHY_", "WHYS")
    yield from members(life.State, "PATH_", "PATH_STATES")
    yield from members(identify.StoreKind, "STORE_")
    yield from texts("reason_texts", facts.REASON_TEXTS)
    yield from members(request.Verb, "AOE_VERB_")
    yield from members(request.Outcome, "AOE_ENDED_")
    names = [f"AOE_{name.upper()}" for name in (*compiled_core.COUNTERS, "core_counters")]
    yield from listed("aoe.initiator.compiled_core.COUNTERS", ((name, n) for n, name in enumerate(names)))


if __name__ == "__main__":
    HEADER.write_text(header())
    generate_life.HEADER.write_text(generate_life.header())
    generate_life.SOURCE.write_text(generate_life.source())
    generate_options.HEADER.write_text(generate_options.header())
