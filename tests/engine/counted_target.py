"""Serves files, each as PATH=SHELF.SLOT=SERIAL, and says its numbers in a line of JSON when it is told so.
Their durability is a word of `aoe-target`; `failed` says that a sync of them has failed before."""

import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from aoe.disk.open import Opening, open_disk
from aoe.link.packet import PacketLink
from aoe.target.accelerator import EngineOptions
from aoe.target.offer import Offer
from aoe.target.server import TargetOptions
from aoe.target.target import Target

FRAME_AGE_S = 20.0
"""No frame is too old as it waited for a processor: none is sent twice."""


def said(target: Target) -> str:
    """MACs in words."""
    return json.dumps(asdict(target.snapshot()), default=lambda it: it.hex(":"))


async def main(engine: str, durability: str, *words: str) -> None:
    options = TargetOptions(FRAME_AGE_S, engine=EngineOptions() if engine == "c" else None)
    target = Target.open([PacketLink("v0")], options)
    for path, address, serial in (word.split("=") for word in words):
        shelf, slot = map(int, address.split("."))
        disk = open_disk(Path(path), Opening())
        if durability == "failed":
            disk.distrust()
        offer = Offer(disk, shelf, slot, serial, write_back=durability != "write-through")
        await target.add(offer, check=False)
    told: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGUSR1, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.put_nowait, number)
    print("ready", flush=True)
    while await told.get() == signal.SIGUSR1:
        print(said(target), flush=True)
    assert await target.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
