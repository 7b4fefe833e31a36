"""Runs inside a client's namespace: the full load of one client of ours, while its servers drain in turn.

drain_client.py disk ENGINE ADDRESS... or drain_client.py nbd SOCKET. Says "go" when it runs, and once its
standard input ends one JSON object: requests, the longest of them, and what is wrong with what was read.
"""

import asyncio
import json
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aoe
from aoe.initiator.remote import RemoteDisk
from tests.support.checkers.writers import Writers
from tests.support.labs.nbd_client import READ, WRITE, NbdClient

BLOCK = 4096
DEPTH = 16
KEPT = 1 << 20
"""Before that a checker works, and knows what must be there."""


class Times:
    """How long requests took."""

    def __init__(self) -> None:
        self.count = 0
        self.longest_s = 0.0

    def ended(self, began_s: float) -> None:
        self.count += 1
        self.longest_s = max(self.longest_s, time.monotonic() - began_s)


def said(times: Times, faults: list[str], **more: Any) -> str:
    return json.dumps({"calls": times.count, "pause_s": times.longest_s, "faults": faults, **more})


async def _one_after_the_other(disk: RemoteDisk, seed: int, times: Times, over: Callable[[], bool]) -> None:
    rng = random.Random(seed)
    while not over():
        offset = KEPT + rng.randrange((disk.size - KEPT) // BLOCK) * BLOCK
        began_s = time.monotonic()
        if seed % 2:
            await disk.write(offset, bytes(BLOCK))
        else:
            await disk.read(offset, BLOCK)
        times.ended(began_s)


async def on_disk(engine: str, addresses: list[str], over: Awaitable[object]) -> str:
    """With writers that remember what they did."""
    interfaces = ["v0", "v1"][: len(addresses)]
    async with aoe.attach(*addresses, interface=interfaces, timeout_s=None, engine=engine) as disk:
        while any(path.state == "checking" for path in disk.paths):
            await asyncio.sleep(0.01)
        writers, times = Writers(disk, block=BLOCK), Times()
        ended = asyncio.ensure_future(over)
        load = [
            asyncio.ensure_future(_one_after_the_other(disk, seed, times, ended.done))
            for seed in range(DEPTH)
        ]
        print("go", flush=True)
        await writers.run_until(asyncio.shield(ended))
        await asyncio.gather(*load)
        return said(times, writers.faults(), owner=next(path.name for path in disk.paths if path.owner))


def on_nbd(socket: Path, over: Callable[[], bool]) -> str:
    """Each of its places holds what was written there last."""
    rng, times, faults = random.Random(1), Times(), list[str]()
    with NbdClient(socket) as client:
        places = (client.size - KEPT) // BLOCK
        kept: dict[int, bytes] = {}
        flying: dict[int, tuple[int, float, bytes]] = {}
        print("go", flush=True)
        while flying or not over():
            busy = {place for place, _, _ in flying.values()}
            while len(flying) < DEPTH and not over():
                place = rng.randrange(places)
                if place in busy:
                    continue
                busy.add(place)
                data = rng.randbytes(8) * (BLOCK // 8) if rng.random() < 0.5 else b""
                what = (
                    (WRITE, KEPT + place * BLOCK, BLOCK, data)
                    if data
                    else (READ, KEPT + place * BLOCK, BLOCK)
                )
                flying[client.send(*what)] = place, time.monotonic(), data
            handle, error, answer = client.answer()
            place, began_s, data = flying.pop(handle)
            times.ended(began_s)
            if error:
                faults.append(f"error {error}")
            elif data:
                kept[place] = data
            elif answer != kept.get(place, answer):
                faults.append(f"block {place} is not what was written there")
    return said(times, faults)


def _ended() -> Callable[[], bool]:
    """Whether standard input has."""
    thread = threading.Thread(target=sys.stdin.read, daemon=True)
    thread.start()
    return lambda: not thread.is_alive()


def main(mode: str, *words: str) -> None:
    if mode == "disk":
        over = _ended()

        async def until() -> None:
            while not over():
                await asyncio.sleep(0.05)

        print(asyncio.run(on_disk(words[0], list(words[1:]), until())))
    else:
        print(on_nbd(Path(words[0]), _ended()))


main(*sys.argv[1:])
