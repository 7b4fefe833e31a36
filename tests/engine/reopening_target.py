"""Serves a disk as e1.1, and reopens it each time it is told so; says in a line what became of that."""

import asyncio
import json
import signal
import sys
from pathlib import Path

from aoe.disk.open import Opening, open_disk
from aoe.errors import DiskError
from aoe.link.packet import PacketLink
from aoe.target.accelerator import EngineOptions
from aoe.target.offer import Offer
from aoe.target.server import TargetOptions
from aoe.target.target import Target


async def reopen(target: Target) -> str:
    """In a word."""
    try:
        return "reopened" if await target.reopen(1, 1) else "well"
    except DiskError as error:
        return f"failed: {error}"


async def main(engine: str, path: str, direct: str, write_back: str) -> None:
    target = Target.open([PacketLink("v0")], TargetOptions(engine=EngineOptions() if engine == "c" else None))
    disk = open_disk(Path(path), Opening(direct=direct == "direct"))
    await target.add(Offer(disk, 1, 1, "SICK", write_back=write_back == "write-back"), check=False)
    told: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGUSR1, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.put_nowait, number)
    print("ready", flush=True)
    while await told.get() == signal.SIGUSR1:
        print(await reopen(target), flush=True)
    print(json.dumps(target.counters()), flush=True)
    assert await target.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
