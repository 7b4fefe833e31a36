"""Runs inside a client's namespace: writers on disks over one interface, while their service starts again.

restart_client.py SEED ENGINE ADDRESS... Says "go" when they run, and once its standard input ends one JSON
object: the longest pause of any disk, and of what is written or trimmed again, when writes had to wait, what
failed, what cannot be explained, and what the initiator warned of.
"""

import asyncio
import json
import logging
import sys
from contextlib import AsyncExitStack

import aoe
from aoe.abreast import abreast
from tests.support.checkers.writers import Writers

BLOCK = 1024


class _Heard(logging.Handler):
    """Remembers what was said."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


async def main(seed: int, engine: str, addresses: list[str]) -> None:
    heard = _Heard()
    logging.getLogger("aoe").addHandler(heard)
    async with AsyncExitStack() as stack:
        attached = (aoe.attach(it, interface="v0", timeout_s=None, engine=engine) for it in addresses)
        disks = [it async for it in abreast(stack.enter_async_context, attached, len(addresses))]
        # A block is a single write to the disk: its sectors are not torn where a process ends between two.
        all_of_it = [
            Writers(disk, block=BLOCK, seed=seed + at, all_verbs=True) for at, disk in enumerate(disks)
        ]
        print("go", flush=True)
        over = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        await asyncio.gather(*(writers.run_until(asyncio.shield(over)) for writers in all_of_it))
        said = {
            "calls": sum(len(writers.calls) for writers in all_of_it),
            "pause_s": max(writers.pause_s for writers in all_of_it),
            "again_s": max(writers.again_s for writers in all_of_it),
            "errors": [repr(error) for writers in all_of_it for error in writers.errors],
            "unexplained": [fault for writers in all_of_it for fault in writers.unexplained()],
            "waits": [wait for writers in all_of_it for wait in writers.waits],
            "warnings": heard.lines,
        }
        print(json.dumps(said))


asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
