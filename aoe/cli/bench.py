"""`aoe bench`: how fast a disk is, in fio's words."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

from aoe import timing
from aoe.cli.latency import bucket, percentile_ns
from aoe.cli.plot import Timeline, check, write
from aoe.cli.report import Report
from aoe.cli.where import Where, one_disk
from aoe.errors import AoeError, ConfigurationError, RequestError
from aoe.initiator.load import Job, Loaded, Seen
from aoe.initiator.remote import RemoteDisk
from aoe.limits import LOAD_BUCKETS

WRITES = ("randwrite", "write", "randrw")


class Load(NamedTuple):
    """`rw` as fio calls it, `bs` bytes a request, `iodepth` requests at a time, for `runtime` seconds."""

    rw: str
    bs: int
    iodepth: int
    runtime: float


class Bench(NamedTuple):
    """A load on one disk. One that writes destroys what is there, so `overwrite` has to be said."""

    where: Where
    addresses: list[str]
    load: Load
    overwrite: bool
    plot: Path | None = None

    async def run(self, report: Report) -> None:
        """If it is interrupted, it tells what was measured so far."""
        if self.load.rw in WRITES and not self.overwrite:
            raise ConfigurationError(f"--rw {self.load.rw} overwrites the disk; say --overwrite if it may")
        if self.plot is not None:
            check(self.plot)
        async with one_disk(self.where, self.addresses, report) as disk:
            if not disk.size // self.load.bs:
                raise RequestError(
                    f"{disk.address} of {disk.size} bytes has no room for requests of {self.load.bs}"
                )
            stop, timeline = asyncio.Event(), Timeline(self.load.runtime)
            seen = None if self.plot is None else timeline.saw
            measuring = asyncio.ensure_future(measure(disk, self.load, stop, seen))
            try:
                await asyncio.shield(measuring)
            finally:
                stop.set()
                found = await measuring
                _say(report, disk, self.load, found)
                if self.plot is not None:
                    write(self.plot, _title(disk, self.load), timeline.steps, found.histogram)


def command(
    where: Where, addresses: list[str], overwrite: bool, plot: Path | None = None, **load: Any
) -> Bench:
    """What the words of `aoe bench` mean together."""
    return Bench(where, addresses, Load(**load), overwrite, plot)


def _title(disk: RemoteDisk, load: Load) -> str:
    return f"{disk.address}: {load.rw}, {load.bs} bytes, {load.iodepth} at a time"


def _say(report: Report, disk: RemoteDisk, load: Load, found: Loaded) -> None:
    per_s = found.done / found.seconds
    shares = {"p50_us": 0.5, "p99_us": 0.99, "p999_us": 0.999}
    percentiles = {name: percentile_ns(found.histogram, share) / 1000 for name, share in shares.items()}
    retransmits = disk.counters.get("retransmits", 0)
    report.say(
        f"{per_s:.0f} IOPS, {per_s * load.bs / 1e6:.1f} MB/s, p50 {percentiles['p50_us']:.0f} us, "
        f"p99 {percentiles['p99_us']:.0f} us, p99.9 {percentiles['p999_us']:.0f} us, "
        f"{retransmits} retransmits, {found.errors} errors",
        address=disk.address,
        rw=load.rw,
        block_bytes=load.bs,
        iodepth=load.iodepth,
        took_us=round(found.seconds * 1e6),
        requests_per_s=per_s,
        bytes_per_s=per_s * load.bs,
        **percentiles,
        retransmits=retransmits,
        errors=found.errors,
    )
    if found.errors:
        report.fail(RequestError(f"{disk.address}: {found.errors} requests failed"), address=disk.address)


async def measure(disk: RemoteDisk, load: Load, stop: asyncio.Event, seen: Seen | None = None) -> Loaded:
    """Put the load on a disk until its time is over or `stop` is set. Where the engine carries it, the engine
    asks, too."""
    places = disk.size // load.bs
    loading = disk.carrier.load(_job(load, places), load.runtime, stop, seen)
    return await (_by_tasks(disk, places, load, stop, seen) if loading is None else loading)


def _job(load: Load, places: int) -> Job:
    percent = 50 if load.rw == "randrw" else 100 if load.rw.endswith("write") else 0
    return Job(load.iodepth, load.bs, places * load.bs, load.rw.startswith("rand"), percent, seed=1)


async def _by_tasks(
    disk: RemoteDisk, places: int, load: Load, stop: asyncio.Event, seen: Seen | None
) -> Loaded:
    rng = random.Random(1)
    data = rng.randbytes(load.bs)
    histogram = [0] * LOAD_BUCKETS
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

    async def look(told: Seen) -> None:
        while True:
            await asyncio.sleep(timing.LOAD_SLICE_S)
            told((time.monotonic_ns() - started) / 1e9, histogram)

    workers = [asyncio.ensure_future(work()) for _ in range(load.iodepth)]
    looking = asyncio.ensure_future(look(seen)) if seen is not None else None
    stopped = asyncio.ensure_future(stop.wait())
    stopped.add_done_callback(lambda _: [worker.cancel() for worker in workers])
    await asyncio.wait(workers)
    stopped.cancel()
    if looking is not None:
        looking.cancel()
    return Loaded(sum(histogram), errors, (time.monotonic_ns() - started) / 1e9, histogram)
