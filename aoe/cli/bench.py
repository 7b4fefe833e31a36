"""How fast a disk is, in fio's words."""

import argparse
import asyncio
import random
import re
import time
from typing import Any, NamedTuple

from aoe.disk.base import Disk
from aoe.errors import AoeError, ConfigurationError

RW = ("randread", "randwrite", "read", "write", "randrw")
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


async def measure(disk: Disk, load: Load) -> dict[str, Any]:
    """Put the load on a disk; `iops`, `mbps`, latency percentiles in microseconds, `errors`."""
    places = disk.size // load.bs
    if not places or load.iodepth < 1:
        raise ConfigurationError(f"a disk of {disk.size} bytes has no room for requests of {load.bs}")
    rng = random.Random(1)
    data = rng.randbytes(load.bs)
    taken_ns: list[int] = []
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
            taken_ns.append(time.monotonic_ns() - now)

    await asyncio.gather(*(work() for _ in range(load.iodepth)))
    seconds = (time.monotonic_ns() - started) / 1e9
    taken_ns.sort()
    names = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    percentiles = {name: taken_ns[int(len(taken_ns) * part)] / 1000 for name, part in names.items()}
    iops = len(taken_ns) / seconds
    return {"iops": iops, "mbps": iops * load.bs / 1e6, **percentiles, "errors": errors}
