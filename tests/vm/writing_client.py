"""Writers on e1.0 over one interface, until there is no more to read: writing_client.py INTERFACE

Says "go" when they run, and in the end one JSON object.
"""

import asyncio
import json
import sys

import aoe
from tests.support.checkers.writers import Writers
from tests.vm.patient_client import PATIENCE_S

REST_S = 0.05
"""An emulated processor has something else to do, too: with the usual rest a package takes minutes longer."""


async def over(writers: Writers) -> None:
    """Nothing more to read, and enough to judge by: a busy machine has not written much yet."""
    await asyncio.to_thread(sys.stdin.read)
    await writers.enough()


async def main(interface: str) -> None:
    """A block is what one frame carries."""
    async with aoe.attach("e1.0", interface=interface, find_s=PATIENCE_S, timeout_s=None) as disk:
        writers = Writers(disk, block=1024, all_verbs=True, rest_s=REST_S)
        await disk.write(0, bytes(writers.places * writers.block))  # what an earlier one has left
        print("go", flush=True)
        await writers.run_until(over(writers))
        said = {"calls": len(writers.calls), "pause_s": writers.pause_s, "faults": writers.faults()}
        print(json.dumps(said))


asyncio.run(main(sys.argv[1]))
