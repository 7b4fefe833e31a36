"""How fast a disk is, in fio's words."""

import argparse
import asyncio
import random
import re
import time
from typing import Any, NamedTuple

from aoe.errors import AoeError, ConfigurationError
from aoe.initiator.engine_carrier import EngineCarrier, Loaded
from aoe.initiator.engine_carrier import Load as Job
from aoe.initiator.remote import RemoteDisk

RW = ("randread", "randwrite", "read", "write", "randrw")
BUCKETS = 2048
DEPTH_MAX = 4096
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}


class Load(NamedTuple):
    """`rw` as fio calls it, `bs` bytes a request, `iodepth` requests at a time, for `runtime` seconds."""

    rw: str
    bs: int
    iodepth: int
    runtime: float


def size_of(text: str) -> int:
    """`8k` -> 8192."""
    match = re.fullmatch(r"(\d+)([kKmM]?)", text)
    if match is None or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write it as 4096 or 4k")
    return int(match[1]) * _UNITS[match[2].lower()]


async def measure(disk: RemoteDisk, load: Load) -> dict[str, Any]:
    """Put the load on a disk; `iops`, `mbps`, latency percentiles in microseconds, `errors`. Where the engine
    carries it, the engine asks, too."""
    places = disk.size // load.bs
    if not places or not 1 <= load.iodepth <= DEPTH_MAX:
        raise ConfigurationError(
            f"a disk of {disk.size} bytes has no room for requests of {load.bs}, "
            f"or {load.iodepth} at a time are not between 1 and {DEPTH_MAX}"
        )
    carrier = disk.carrier
    found = await (
        _by_engine(carrier, places, load)
        if isinstance(carrier, EngineCarrier)
        else _by_tasks(disk, places, load)
    )
    iops = found.done / found.seconds
    parts = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    percentiles = {name: _percentile_us(found.histogram, part) for name, part in parts.items()}
    return {"iops": iops, "mbps": iops * load.bs / 1e6, **percentiles, "errors": found.errors}


async def _by_engine(carrier: EngineCarrier, places: int, load: Load) -> Loaded:
    percent = 50 if load.rw == "randrw" else 100 if load.rw.endswith("write") else 0
    job = Job(load.iodepth, load.bs, places * load.bs, load.rw.startswith("rand"), percent, seed=1)
    return await carrier.load(job, load.runtime)


async def _by_tasks(disk: RemoteDisk, places: int, load: Load) -> Loaded:
    rng = random.Random(1)
    data = rng.randbytes(load.bs)
    histogram = [0] * BUCKETS
    errors = position = 0
    started = time.monotonic_ns()
    end = started + int(load.runtime * 1e9)

    async def work() -> None:
        nonlocal errors, position
        while (now := time.monotonic_ns()) < end:
            if load.rw.startswith("rand"):
                place = rng.randrange(places)
            else:
                place, position = position % places, position + 1
            writes = load.rw.endswith("write") or (load.rw == "randrw" and rng.random() < 0.5)
            try:
                if writes:
                    await disk.write(place * load.bs, data)
                else:
                    await disk.read(place * load.bs, load.bs)
            except AoeError:
                errors += 1
            histogram[bucket(time.monotonic_ns() - now)] += 1

    await asyncio.gather(*(work() for _ in range(load.iodepth)))
    return Loaded(sum(histogram), errors, (time.monotonic_ns() - started) / 1e9, histogram)


def bucket(ns: int) -> int:
    """32 steps for each power of two, about 3 % wide."""
    if ns < 32:
        return ns
    top = ns.bit_length() - 1
    return min((top - 4) * 32 + (ns >> (top - 5) & 31), BUCKETS - 1)


def _percentile_us(histogram: list[int], part: float) -> float:
    wanted, seen = sum(histogram) * part, 0
    for number, count in enumerate(histogram):
        seen += count
        if seen > wanted:
            return (number if number < 32 else (32 + number % 32) << (number // 32 - 1)) / 1000
    return 0.0
