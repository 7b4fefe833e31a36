"""Reads or writes a disk from its first sector on, however long its server takes.

patient_client.py INTERFACE ADDRESS SECTORS: prints so many; with 0 it writes what it reads, and flushes. The
last line of its errors names what went wrong.
"""

import asyncio
import sys

import aoe
from aoe.wire.protocol import SECTOR

PATIENCE_S = 240.0
"""Of what `aoe read` and `aoe write` wait for, an emulated processor may be slower than they are patient."""


async def main(interface: str, address: str, sectors: int) -> None:
    async with aoe.attach(address, interface=interface, find_s=PATIENCE_S, timeout_s=PATIENCE_S) as disk:
        if sectors:
            sys.stdout.buffer.write(await disk.read(0, sectors * SECTOR))
        else:
            await disk.write(0, sys.stdin.buffer.read())
            await disk.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
