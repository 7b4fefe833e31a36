"""A target that serves one disk and meanwhile adds, changes and removes others at random.

`changing_target.py ENGINE IMAGE SCRATCH CHANGES SEED AGE`: serves IMAGE as e1.1 on v0 and says `ready`. On
SIGUSR1 it makes CHANGES random changes of disks in SCRATCH, at up to 20 addresses at a time, and prints as
JSON how many there were of each kind, and its counters. SIGTERM ends it. Frames may be AGE seconds old; an
address that is to wait for more than one gets no other disk.
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

AT_ONCE = 20
SIZE = 1 << 20


class Changes:
    """What is there besides e1.1, and the next step."""

    def __init__(self, target: Target, scratch: Path, rng: random.Random, age_s: float) -> None:
        self.target = target
        self.scratch = scratch
        self.rng = rng
        self.there: list[tuple[int, int]] = []
        self.free = [(shelf, slot) for shelf in (1, 2, 0x1FF) for slot in range(2, 52)]
        self.used_again = age_s <= 1
        self.done: Counter[str] = Counter()

    async def step(self) -> None:
        """Add, change or remove a disk."""
        verb = self.rng.choice(("add", "change", "remove")) if self.there else "add"
        if verb == "add" and len(self.there) == AT_ONCE:
            verb = "remove"
        await getattr(self, f"_{verb}")()
        self.done[verb] += 1

    async def _add(self) -> None:
        shelf, slot = self.free.pop(self.rng.randrange(len(self.free)))
        path = self.scratch / f"{shelf}.{slot}"
        path.write_bytes(b"\1" * SIZE)
        disk = open_disk(path)
        offer = Offer(disk, shelf, slot, f"S{shelf}.{slot}", self.rng.random() < 0.5)
        await self.target.add(offer, check=False)
        self.there.append((shelf, slot))

    async def _change(self) -> None:
        shelf, slot = self.rng.choice(self.there)
        what = self.rng.choice(("read_only", "write_back"))
        await self.target.change(shelf, slot, **{what: self.rng.random() < 0.5})

    async def _remove(self) -> None:
        gone = self.there.pop(self.rng.randrange(len(self.there)))
        assert await self.target.remove(*gone)
        if self.used_again:
            self.free.append(gone)


async def main(engine: str, image: str, scratch: str, changes: str, seed: str, age: str) -> None:
    options = TargetOptions(
        frame_age_s=float(age),
        engine=EngineOptions(threads=2) if engine == "c" else None,
        exports_max=AT_ONCE + 2,
    )
    target = Target.open([PacketLink("v0")], options)
    await target.add(Offer(open_disk(Path(image)), 1, 1, "FIXED"), check=False)
    begin, end = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, begin.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    print("ready", flush=True)
    await begin.wait()
    random_changes = Changes(target, Path(scratch), random.Random(int(seed)), float(age))
    for _ in range(int(changes)):
        await random_changes.step()
    print(json.dumps({**random_changes.done, "counters": target.counters()}), flush=True)
    await end.wait()
    assert await target.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
