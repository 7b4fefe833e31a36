"""How long a clone takes of a template of 10 GiB, in the library: python -m bench.clone_time, as root.

On XFS, where a clone shares blocks, and on ext4, where it is an overlay in qcow2; each in a loop device on a
file in DIRECTORY, with a template that was written wholly and copied by `Pool.template`. Median and worst of
so many clones, which are all kept, and the bytes that each takes at most.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from aoe.pool import store
from aoe.pool.pool import Pool
from bench.ending import undo_at_sigterm
from tests.support.labs.fault_disk import small_filesystem

GIB = 1 << 30
KINDS = {"xfs": ("-m", "reflink=1"), "ext4": ()}
MUST_MS = 50


async def row(kind: str, directory: Path, size: int, times: int) -> dict[str, object]:
    """Of a pool in this directory."""
    store.init(str(directory))
    async with await Pool.open(str(directory)) as pool:
        made = await pool.create("template", size)
        written(pool.path_of("template"), made.head.format, size)
        await pool.template("template")
        took_ms = []
        for number in range(times):
            began_s = time.monotonic()
            await pool.clone("template", f"clone{number}")
            took_ms.append(1000 * (time.monotonic() - began_s))
        own = [(await pool.usage(f"clone{number}"))[0].own for number in range(times)]
    kinds = {"store": kind, "format": made.head.format, "gib": size / GIB, "clones": times}
    measured = {"median_ms": statistics.median(took_ms), "at_most_ms": max(took_ms), "bytes_each": max(own)}
    return kinds | measured | {"must_ms": MUST_MS}


def written(path: str, format: str, size: int) -> None:
    """Every block of it, past the page cache."""
    pieces = (
        word for at in range(0, size, GIB) for word in ("-c", f"write -q -P 7 {at} {min(GIB, size - at)}")
    )
    subprocess.run(
        ["qemu-io", "-f", format, "-t", "none", *pieces, path], check=True, stdout=subprocess.DEVNULL
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.clone_time", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("/var/tmp"), help="where the loop device is")
    parser.add_argument("--gib", type=float, default=10.0, help="size of the template")
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--only", choices=KINDS)
    said = parser.parse_args()
    undo_at_sigterm()
    size = int(said.gib * GIB)
    for kind, words in KINDS.items():
        if said.only in (None, kind):
            with (
                tempfile.TemporaryDirectory(dir=said.directory) as name,
                small_filesystem(kind, Path(name) / "store", 3 * size, "loop", *words) as at,
            ):
                print(json.dumps(asyncio.run(row(kind, at, size, said.times))), flush=True)


if __name__ == "__main__":
    main()
