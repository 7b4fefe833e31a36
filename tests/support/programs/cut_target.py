"""Serves files as e1.0, e1.1 ... and takes snapshots of all of them at one moment, each time that a line
names the files for these.

It says when that was asked for, when the moment was over, and when they were whole.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from aoe import timing
from aoe.disk.open import Opening, open_disk
from aoe.errors import AoeError
from aoe.link.packet import PacketLink
from aoe.target.accelerator import EngineOptions
from aoe.target.cut import Cut
from aoe.target.offer import Offer
from aoe.target.server import TargetOptions
from aoe.target.target import Target


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


async def cut(target: Target, paths: list[str]) -> None:
    into = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for path in paths]
    asked = time.monotonic_ns()
    try:
        cutting = await target.cut({(1, slot): fd for slot, fd in enumerate(into)})
        over = time.monotonic_ns()
        say(over=over)
        await cutting.whole()
        say(asked=asked, over=over, whole=time.monotonic_ns())
    except AoeError as error:
        say(error=str(error))
    finally:
        for fd in into:
            os.close(fd)


async def main(engine: str, direct: str, *paths: str) -> None:
    """`broken` is Python that lets every change go on. On a busy machine holding takes longer."""
    if direct != "hasty":
        timing.CUT_HOLD_S = 30.0
    if engine == "broken":
        Cut.keeps = lambda *_: False  # type: ignore[method-assign]
    plain = engine == "plain"
    options = EngineOptions(plain_io=plain) if engine in ("c", "plain") else None
    target = Target.open([PacketLink("v0")], TargetOptions(engine=options))
    for slot, path in enumerate(paths):
        disk = open_disk(Path(path), Opening(direct=True))
        await target.add(Offer(disk, 1, slot, f"CUT{slot}"), check=False)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    say(ready=True)
    while line := await reader.readline():
        await cut(target, line.decode().split())
    say(counters=target.counters(), stopped=await target.stop())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
