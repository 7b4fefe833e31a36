"""A target that serves on one interface and meanwhile on others that come and go at random.

`changing_links.py ENGINE IMAGE CHANGES SEED AGE`: serves IMAGE as e1.1 on v0 and says `ready`. On SIGUSR1 it
adds and removes v1 to v4 at random, CHANGES times, some with requests under way, and prints as JSON how many
there were of each kind, and its counters. After that it serves on all of them, until SIGTERM. Frames may be
AGE seconds old.
"""

import asyncio
import json
import random
import signal
import sys
from collections import Counter
from pathlib import Path

from aoe.disk.open import open_disk
from aoe.link.packet import PacketLink
from aoe.target.accelerator import EngineOptions
from aoe.target.offer import Offer
from aoe.target.server import TargetOptions
from aoe.target.target import Target

OTHERS = ("v1", "v2", "v3", "v4")


async def change(target: Target, rng: random.Random) -> str:
    """Add or remove one of the others."""
    there = {link.name: link for link in target.links}
    name = rng.choice(OTHERS)
    if name in there:
        assert await target.remove_link(there[name]), "nothing hangs"
        return "remove"
    target.add_link(PacketLink(name))
    return "add"


async def main(engine: str, image: str, changes: str, seed: str, age: str) -> None:
    chosen = EngineOptions(threads=2) if engine == "c" else None
    target = Target.open([PacketLink("v0")], TargetOptions(float(age), engine=chosen, exports_max=4))
    await target.add(Offer(open_disk(Path(image)), 1, 1, "FIXED"), check=False)
    begin, end = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, begin.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    print("ready", flush=True)
    await begin.wait()
    rng, done = random.Random(int(seed)), Counter[str]()
    for _ in range(int(changes)):
        done[await change(target, rng)] += 1
        await asyncio.sleep(rng.random() * 0.02)
    for name in set(OTHERS) - {link.name for link in target.links}:
        target.add_link(PacketLink(name))
    print(json.dumps({**done, "counters": target.counters()}), flush=True)
    await end.wait()
    assert await target.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
